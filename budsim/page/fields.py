"""What the page sends: the fields of its forms, as text, with blank ones left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from budsim.model_ops.media import MOST_FRAMES
from budsim.performance.limits import MOST_REQUESTS, MOST_TOKENS
from budsim.performance.prefixes import MOST_TURNS
from budsim.performance.speculation import MOST_DRAFT_TOKENS

LONGEST_NAME = 300
# Knobs that one request may change, and the longest text of a value.
MOST_CHANGES, LONGEST_VALUE = 8, 40
# Result files that are compared at a time.
MOST_FILES = 20
# Pixels between which a drawing is legible.
LEAST_WIDTH, MOST_WIDTH = 280, 1200


def _filled(value: Any) -> Any:
    """Return None for a blank field: a form sends it as empty text."""
    return None if isinstance(value, str) and not value.strip() else value


Blank = BeforeValidator(_filled)
Limit = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, Blank]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, Blank]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Degree = Annotated[Annotated[int, Field(ge=1, le=4096)] | None, Blank]
Count = Annotated[Annotated[int, Field(ge=0, le=MOST_FRAMES)] | None, Blank]
Words = Annotated[Name | None, Blank]


class PageBody(BaseModel):
    """A body of the page: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Drawn(PageBody):
    """A body whose answer holds drawings."""

    width: Annotated[int, Field(ge=1, le=100_000)] = 640

    @property
    def drawn_width(self) -> int:
        """Pixels a drawing is wide: as the page says, within bounds."""
        return max(LEAST_WIDTH, min(self.width, MOST_WIDTH))


class Upload(PageBody):
    """A file that was uploaded, as text; the service's largest body bounds it."""

    name: Name
    text: str


class Asked(Drawn):
    """The form: what to serve, on what, for which traffic, and how well.

    Units are those people type: milliseconds, seconds, tokens, requests per second.
    """

    model: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    source: Literal["inventory", "upload", "devices"] = "inventory"
    cluster_id: Name = ""
    upload: Upload | None = None
    device: Name = ""
    devices_per_node: Annotated[Annotated[int, Field(ge=1, le=1024)] | None, Blank] = None
    nodes: Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, Blank] = None
    load: Literal["concurrency", "rate", "trace"] = "concurrency"
    trace: Upload | None = None
    concurrency: Annotated[Annotated[int, Field(ge=1, le=MOST_REQUESTS)] | None, Blank] = None
    rate: Annotated[Annotated[float, Field(gt=0, le=1e6)] | None, Blank] = None
    arrival: Name = "poisson"
    input_tokens: Annotated[Tokens | None, Blank] = None
    output_tokens: Annotated[Tokens | None, Blank] = None
    lengths: Words = None
    max_input_tokens: Annotated[Tokens | None, Blank] = None
    prefix_hits: Share = None
    prefix_set_tokens: Limit = None
    route_by_prefix: bool = False
    turns: Annotated[Annotated[int, Field(ge=1, le=MOST_TURNS)] | None, Blank] = None
    turn_interval_s: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Blank] = (
        None
    )
    images_per_request: Count = None
    image_size: Words = None
    video_frames: Count = None
    audio_seconds: Limit = None
    kv_offload_gib: Limit = None
    kv_store_gib: Limit = None
    kv_store: Words = None
    kv_store_gb_per_s: Limit = None
    ttft_ms: Limit = None
    tokens_per_s_per_user: Limit = None
    e2e_s: Limit = None
    ttft_p95_ms: Limit = None
    ttft_p99_ms: Limit = None
    itl_p99_ms: Limit = None
    e2e_p95_s: Limit = None
    e2e_p99_s: Limit = None
    goodput: Share = None
    risk: Words = None
    engine: Name = ""
    quantize: bool = False
    disaggregated: Words = None
    max_loras: Annotated[Annotated[int, Field(ge=0, le=1024)] | None, Blank] = None
    max_lora_rank: Annotated[Annotated[int, Field(ge=1, le=512)] | None, Blank] = None
    speculative: Words = None
    draft_tokens: Annotated[Annotated[int, Field(ge=1, le=MOST_DRAFT_TOKENS)] | None, Blank] = None
    draft_model: Words = None
    acceptance: Share = None
    domain: Words = None
    temperature: Limit = None
    basis: Name = ""
    term: Name = ""
    provider: Name = ""
    prices: Upload | None = None
    pue: Limit = None
    usd_per_kwh: Limit = None
    g_co2_per_kwh: Limit = None


class PlanChosen(PageBody):
    """One plan of an answer; ``number`` counts from 1, the best."""

    asked: Asked
    answer: Name = ""
    number: Annotated[int, Field(ge=1, le=1000)] = 1


class Changes(PlanChosen):
    """Knobs of a plan with the values they are to have."""

    changes: Annotated[
        dict[Name, Annotated[str, Field(max_length=LONGEST_VALUE)]],
        Field(min_length=1, max_length=MOST_CHANGES),
    ]


class FileChosen(PlanChosen):
    """The form in which a plan is wanted: compose, kubernetes, ..."""

    form: Name


class Measured(Drawn):
    """Benchmarks that were uploaded, and what their files do not say."""

    files: Annotated[list[Upload], Field(min_length=1, max_length=MOST_FILES)]
    device: Name = ""
    model: Name = ""
    engine: Name = ""
    tp: Degree = None
    pp: Degree = None
