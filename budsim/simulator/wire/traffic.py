"""What clients send and how well it is to be served, as a request spells it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.model_ops.media import Media
from budsim.performance.lengths import lengths_of_mean, prompts_up_to
from budsim.performance.limits import USUAL_INTERVAL_S
from budsim.performance.prefixes import prefix_of
from budsim.performance.traffic import (
    LEAST_RATE,
    MOST_RATE,
    Arrivals,
    ClosedLoop,
    OpenLoop,
    Traffic,
)
from budsim.simulator.planning.days import HOURS_PER_DAY, AskedDay
from budsim.simulator.planning.targets import PercentileTarget, Targets
from budsim.simulator.wire.fields import (
    MAX_TEXT,
    Concurrency,
    Flag,
    HourlyRate,
    Interval,
    Items,
    LeadTime,
    Rate,
    Seconds,
    SetTokens,
    Share,
    Target,
    Text,
    Tokens,
    Turns,
    wrong_field,
)

# Figure of the core, and seconds in a unit, of each target at a percentile.
PERCENTILES = {
    "target_ttft_p95": ("ttft_p95_s", MILLI),
    "target_ttft_p99": ("ttft_p99_s", MILLI),
    "target_itl_p99": ("itl_p99_s", MILLI),
    "target_e2e_latency_p95": ("e2e_p95_s", 1.0),
    "target_e2e_latency_p99": ("e2e_p99_s", 1.0),
}
# Field of a request for each name the core's errors use.
FIELDS = {
    "ttft_s": "target_ttft",
    "e2e_s": "target_e2e_latency",
    "tokens_per_s_per_user": "target_throughput_per_user",
    "goodput": "target_goodput",
    "prefix_hits": "prefix_hit_share",
    "interval_s": "turn_interval_s",
    "longest": "max_input_tokens",
    **{figure: field for field, (figure, _) in PERCENTILES.items()},
}


def _known_arrival(text: str) -> str:
    try:
        OpenLoop.named(text, 1.0)
    except InvalidInput as error:
        raise ValueError(f"{error.problem}; expected {error.expected}") from error
    return text


Arrival = Annotated[Text, AfterValidator(_known_arrival)]


def _no_null(value: object) -> object:
    # Null stands for the default, as it does when the field is left out.
    return "fixed" if value is None else value


Lengths = Annotated[Text, BeforeValidator(_no_null)]


class TrafficFields(BaseModel):
    """What clients send, whenever they do, and the targets of their service."""

    input_tokens: Tokens = Field(description="mean prompt tokens")
    output_tokens: Tokens = Field(
        description="mean generated tokens; ignored for pooling models, which generate none"
    )
    input_lengths: Lengths = Field(
        "fixed",
        description="law of prompt lengths: fixed, uniform, uniform:LOW-HIGH, lognormal:VARIATION",
    )
    output_lengths: Lengths = Field("fixed", description="law of output lengths, in the same words")
    prefix_hit_share: Share = Field(
        0.0, description="share of every prompt's tokens found in the prefix cache, 0 to 1"
    )
    prefix_set_tokens: SetTokens | None = Field(
        None,
        description="tokens of all prefixes that requests share, together; caches too small for "
        "them find part of prefix_hit_share; null: always found",
    )
    route_by_prefix: Flag = Field(
        False,
        description="a router sends requests to the replica that holds their prefix, so that "
        "replicas divide prefix_set_tokens",
    )
    turns: Turns | None = Field(
        None,
        description="requests of a conversation, each with all that was said before; input_tokens "
        "are then the new ones of a turn; null: requests stand alone",
    )
    turn_interval_s: Interval | None = Field(
        None,
        description="seconds between the turns of a conversation, with turns and request_rate; "
        f"null: {USUAL_INTERVAL_S:g}",
    )
    max_input_tokens: Tokens | None = Field(
        None,
        description="longest prompt; prompts then vary (lognormal) unless input_lengths says how",
    )
    images_per_request: Items = Field(0, description="images in each request; 0: none")
    image_size: str = Field(
        "", max_length=MAX_TEXT, description="pixels of an image or of a frame of video: 1024x768"
    )
    video_frames: Items = Field(
        0, description="frames of the video in each request, after sampling; 0: none"
    )
    audio_seconds: Seconds = Field(0.0, description="seconds of audio in each request; 0: none")
    target_ttft: Target | None = Field(
        None, description="longest time to first token, ms; null or 0: no target"
    )
    target_throughput_per_user: Target | None = Field(
        None, description="fewest output tokens/s per user; null or 0: no target"
    )
    target_e2e_latency: Target | None = Field(
        None, description="longest end-to-end latency, s; null or 0: no target"
    )
    target_ttft_p95: Target | None = Field(
        None, description="longest time to first token of 95 % of the requests, ms"
    )
    target_ttft_p99: Target | None = Field(
        None, description="longest time to first token of 99 % of the requests, ms"
    )
    target_itl_p99: Target | None = Field(
        None, description="longest time between two tokens, of 99 % of them, ms"
    )
    target_e2e_latency_p95: Target | None = Field(
        None, description="longest end-to-end latency of 95 % of the requests, s"
    )
    target_e2e_latency_p99: Target | None = Field(
        None, description="longest end-to-end latency of 99 % of the requests, s"
    )
    target_goodput: Share | None = Field(
        None,
        description="share of the requests, 0 to 1, that must each be within target_ttft, "
        "target_throughput_per_user and target_e2e_latency; null or 0: these bound means",
    )

    @model_validator(mode="after")
    def _check_traffic_and_targets(self) -> Self:
        """Refuse what the core would refuse, under the names of the request's fields."""
        try:
            _ = self.traffic, self.targets
        except InvalidInput as error:
            told = f"{error.problem}; expected {error.expected}"
            raise wrong_field(FIELDS.get(error.field, error.field), told) from error
        return self

    @property
    def traffic(self) -> Traffic:
        """The traffic in the core's words."""
        return Traffic(
            arrivals=self.arrivals,
            prompt=prompts_up_to(
                self.input_lengths, self.input_tokens, self.max_input_tokens, "input_lengths"
            ),
            output=lengths_of_mean(self.output_lengths, self.output_tokens, "output_lengths"),
            prefix=prefix_of(
                self.prefix_hit_share,
                self.prefix_set_tokens,
                by_prefix=self.route_by_prefix,
                turns=self.turns,
                interval_s=self.turn_interval_s,
            ),
            media=Media.named(
                images=self.images_per_request,
                size=self.image_size,
                video_frames=self.video_frames,
                audio_s=self.audio_seconds,
            ),
        )

    @property
    def targets(self) -> Targets:
        """Targets in base units; null and 0 are no target."""
        return Targets(
            ttft_s=self.target_ttft * MILLI if self.target_ttft else None,
            tokens_per_s_per_user=self.target_throughput_per_user or None,
            e2e_s=self.target_e2e_latency or None,
            percentiles=tuple(
                PercentileTarget.named(figure, limit * unit)
                for field, (figure, unit) in PERCENTILES.items()
                if (limit := getattr(self, field))
            ),
            goodput=self.target_goodput or None,
        )

    @property
    @abstractmethod
    def arrivals(self) -> Arrivals:
        """When requests come."""


class LoadFields(TrafficFields):
    """`TrafficFields` of one load.

    Requests come in a closed loop of ``concurrency`` clients, or at a ``request_rate``: exactly one
    of them is given.
    """

    concurrency: Concurrency | None = Field(
        None, description="concurrent requests; required unless request_rate is given"
    )
    request_rate: Rate | None = Field(
        None, description=f"requests/s that come, at most {MOST_RATE:g}, in place of concurrency"
    )
    arrival: Arrival = Field(
        "poisson", description="with request_rate: constant, poisson, gamma:VARIATION, burst:SIZE"
    )

    @property
    def arrivals(self) -> Arrivals:
        """When requests come; errors name the fields."""
        if self.request_rate is None:
            if self.concurrency is None:
                raise InvalidInput("concurrency", "is missing", "concurrency or request_rate")
            return ClosedLoop(concurrency=self.concurrency)
        if self.concurrency is not None:
            problem = "is beside concurrency: clients wait for their answers, or come at a rate"
            raise InvalidInput("request_rate", problem, "one of both")
        return OpenLoop.named(self.arrival, self.request_rate)


class DailyFields(TrafficFields):
    """`TrafficFields` of a day: requests come at a rate of each hour."""

    hourly: Annotated[list[HourlyRate], Field(min_length=1, max_length=HOURS_PER_DAY)] = Field(
        description="requests/s of each hour, 1 to 24 numbers from midnight"
    )
    arrival: Arrival = Field(
        "poisson",
        description="how the gaps between the requests of an hour vary: constant, poisson, "
        "gamma:VARIATION, burst:SIZE",
    )
    lead_time_s: LeadTime | None = Field(
        None,
        description="seconds from asking for a replica until it serves, at most 3600; null: "
        "weights at 1 GiB/s, and 120 s",
    )

    @property
    def arrivals(self) -> Arrivals:
        """When requests come in the busiest hour."""
        return OpenLoop.named(self.arrival, max(self.hourly) or LEAST_RATE)

    @property
    def day(self) -> AskedDay:
        """The hours in the core's words."""
        return AskedDay(rates=tuple(self.hourly), lead_time_s=self.lead_time_s)
