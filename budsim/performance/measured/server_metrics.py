"""What a running server measured of its own requests, as a row: its Prometheus metrics.

vLLM and SGLang export histograms of TTFT, gaps between tokens and end-to-end latency, and counters
of tokens. Two scrapes tell of the time between them, one of the time since the server started. Mean
requests in flight follow from Little's law: summed latencies over the time they took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.engine_ops import serving_engines
from budsim.engine_ops.metrics import ServerMetrics
from budsim.performance.measured.client_columns import STEADY
from budsim.performance.measured.result_fields import Row

# Fewer requests say little of a mean.
FEWEST_REQUESTS = 20

# When the server's process started, seconds since 1970; exported by the client library.
START = "process_start_time_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A histogram over requests: requests up to each bound in seconds, their sum and number."""

    buckets: Mapping[float, float]
    total: float
    count: float

    def since(self, before: Histogram) -> Histogram:
        """Return what came after ``before``."""
        return Histogram(
            buckets={le: count - before.buckets.get(le, 0.0) for le, count in self.buckets.items()},
            total=self.total - before.total,
            count=self.count - before.count,
        )

    @property
    def mean(self) -> float:
        """Return the mean, nan of none."""
        return self.total / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """Return a quantile, linear inside its bucket; the last bound where it lies beyond.

        Buckets (1.0: 10, 2.0: 20) of 20 requests: the quantile 0.75 is 1.5.
        """
        wanted, low, below = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= wanted and count > below:
                width = bound - low
                inside = (wanted - below) / (count - below)
                return low + width * inside if math.isfinite(bound) else low
            low, below = (bound, count) if math.isfinite(bound) else (low, count)
        return low


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """A server's metrics at one time; ``at_s`` and ``start_s`` are seconds since 1970."""

    engine: str
    model: str
    at_s: float
    start_s: float
    ttft: Histogram
    itl: Histogram
    e2e: Histogram
    prompt_tokens: float
    generation_tokens: float
    cached_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The requests that ended between two scrapes, or since the server started."""

    after: Scrape
    before: Scrape | None = None


def is_scrape(text: str) -> bool:
    """Return whether a text holds the metrics of a serving engine."""
    return _engine_of(text) is not None


def read_scrape(text: str, at_s: float) -> Scrape:
    """Return the metrics in Prometheus' text format, of all ranks of one model together.

    Raises
    ------
    InvalidInput
        When no engine's metrics are there, or several models were served.
    """
    from prometheus_client.parser import text_string_to_metric_families

    name = _engine_of(text)
    if name is None:
        expected = "the text of /metrics of vLLM or SGLang (with --enable-metrics)"
        raise InvalidInput("metrics", "hold no time to first token", expected)
    names = serving_engines[name].metrics
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        raise InvalidInput(
            "metrics", f"cannot be read ({error})"[:200], "Prometheus text"
        ) from error
    samples = [sample for family in families for sample in family.samples]
    models = {label for each in samples if (label := each.labels.get(names.model_label))}
    if len(models) > 1:
        listed = ", ".join(sorted(models))
        raise InvalidInput("metrics", f"are of several models ({listed})", "a server of one model")
    values: dict[tuple[str, str], float] = {}
    for each in samples:
        key = (each.name, each.labels.get("le", ""))
        values[key] = values.get(key, 0.0) + each.value
    return Scrape(
        engine=name,
        model=next(iter(models), ""),
        at_s=at_s,
        start_s=values.get((START, ""), math.nan),
        ttft=_histogram(values, names.ttft),
        itl=_histogram(values, names.itl),
        e2e=_histogram(values, names.e2e),
        prompt_tokens=_total(values, names.prompt_tokens),
        generation_tokens=_total(values, names.generation_tokens),
        cached_tokens=_total(values, names.cached_tokens),
    )


def metrics_row(window: Window) -> Row:
    """Return the row of a window.

    Raises
    ------
    InvalidInput
        When the server started again in between, too few requests ended, or the time is unknown.
    """
    before, after = window.before, window.after
    part = _between(after, before) if before else after
    since = before.at_s if before else after.start_s
    seconds, ended = after.at_s - since, part.e2e.count
    if not seconds > 0:
        raise InvalidInput("metrics", "do not say how long they took", "two scrapes in their order")
    if ended < FEWEST_REQUESTS:
        expected = f"at least {FEWEST_REQUESTS}, so a longer time or more traffic"
        raise InvalidInput("metrics", f"tell of {ended:g} ended requests", expected)
    span = "between two scrapes" if before else "since the server started, idle time included"
    return {
        "source": f"{after.engine}-metrics",
        "model": after.model,
        "engine": after.engine,
        "input_tokens": part.prompt_tokens / ended,
        "output_tokens": part.generation_tokens / ended,
        "concurrency": max(part.e2e.total / seconds, 1.0),
        "mode": "serving",
        **_times(part.ttft, "ttft_ms"),
        **_times(part.itl, "tpot_ms"),
        "itl_ms": part.itl.mean / MILLI,
        "e2e_latency_ms": part.e2e.mean / MILLI,
        "e2e_ms_p50": part.e2e.quantile(0.5) / MILLI,
        "e2e_ms_p99": part.e2e.quantile(0.99) / MILLI,
        "output_tokens_per_s_total": part.generation_tokens / seconds,
        "requests_per_s": ended / seconds,
        "date": datetime.fromtimestamp(after.at_s, UTC).date().isoformat(),
        "arrival": STEADY,
        "length_law": "lognormal",
        "prefix_hit_share": min(part.cached_tokens / part.prompt_tokens, 1.0)
        if part.prompt_tokens
        else None,
        "notes": f"the server's own metrics, {ended:g} requests in {seconds:.0f} s, {span}; "
        "derived: concurrency, by Little's law; percentiles, from buckets",
    }


def _engine_of(text: str) -> str | None:
    """Return the engine whose metric of TTFT a text holds."""
    return next((name for name, each in serving_engines.items() if _held(text, each.metrics)), None)


def _held(text: str, names: ServerMetrics) -> bool:
    return f"{names.ttft}_count" in text


def _histogram(values: Mapping[tuple[str, str], float], name: str) -> Histogram:
    buckets = {float(le): value for (each, le), value in values.items() if each == f"{name}_bucket"}
    return Histogram(
        buckets=buckets, total=_total(values, f"{name}_sum"), count=_total(values, f"{name}_count")
    )


def _total(values: Mapping[tuple[str, str], float], name: str) -> float:
    return values.get((name, ""), 0.0)


def _between(after: Scrape, before: Scrape) -> Scrape:
    if after.e2e.count < before.e2e.count or after.engine != before.engine:
        raise InvalidInput(
            "metrics", "count less than before: the server started again", "scrapes of one run"
        )
    return Scrape(
        engine=after.engine,
        model=after.model,
        at_s=after.at_s,
        start_s=before.at_s,
        ttft=after.ttft.since(before.ttft),
        itl=after.itl.since(before.itl),
        e2e=after.e2e.since(before.e2e),
        prompt_tokens=after.prompt_tokens - before.prompt_tokens,
        generation_tokens=after.generation_tokens - before.generation_tokens,
        cached_tokens=after.cached_tokens - before.cached_tokens,
    )


def _times(histogram: Histogram, column: str) -> Row:
    """Return mean and percentiles in milliseconds; none where nothing was counted."""
    if not histogram.count:
        return {}
    shares = (
        {"p50": 0.5, "p99": 0.99} if column != "ttft_ms" else {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    )
    found: Row = {f"{column}_mean": histogram.mean / MILLI}
    return found | {
        f"{column}_{name}": histogram.quantile(share) / MILLI for name, share in shares.items()
    }
