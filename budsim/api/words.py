"""Traffic, targets and figures in words, for tables and summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from budsim.engine_ops.base import ReplicaConfig
    from budsim.performance.speculation import Speculation
    from budsim.performance.traffic import Traffic
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.targets import Targets

LATENCY_WORDS = {
    "ttft": ("TTFT", MILLI, "ms"),
    "itl": ("gap between tokens", MILLI, "ms"),
    "tpot": ("time per output token", MILLI, "ms"),
    "e2e": ("end to end", 1.0, "s"),
}
"""Name of each latency, its unit in seconds, and that unit's name."""


def question_text(question: Question) -> str:
    """Return what is asked: the traffic, and the targets."""
    return f"{traffic_text(question)}; {targets_text(question.targets)}"


def traffic_text(question: Question) -> str:
    """Return the traffic in words: how many requests, when, and how long they are."""
    return f"{load_text(question.traffic)} {lengths_text(question)}"


def load_text(traffic: Traffic) -> str:
    """Return when requests come: in flight, at a rate, or as recorded."""
    from budsim.performance.traffic import ClosedLoop, OpenLoop

    arrivals = traffic.arrivals
    if isinstance(arrivals, ClosedLoop):
        noun = "request" if arrivals.concurrency == 1 else "requests"
        return f"{arrivals.concurrency} {noun} in flight"
    if isinstance(arrivals, OpenLoop):
        varied = arrivals.process.value in {"gamma", "burst"}
        process = f"{arrivals.process.value}{f':{arrivals.variation:g}' if varied else ''}"
        return f"{arrivals.requests_per_s:g} requests/s ({process})"
    return f"a trace of {len(arrivals):,} requests at {arrivals.requests_per_s:.3g} requests/s"


def lengths_text(question: Question) -> str:
    """Return how long requests are: exactly, or on average with the longest."""
    traffic = question.traffic
    prompt, output = round(traffic.input_tokens), round(traffic.output_tokens)
    mean = f"{prompt} + {output} tokens" if output else f"{prompt} tokens"
    if traffic.context_tokens == traffic.mean_tokens:
        return f"of {mean}"
    return f"of {mean} on average, at most {traffic.context_tokens:,} together"


def targets_text(targets: Targets) -> str:
    """Return the targets in words; each says whether it bounds a mean or single requests."""
    which = "" if targets.goodput else "mean "
    parts = [
        f"{which}TTFT <= {targets.ttft_s / MILLI:g} ms" if targets.ttft_s else "",
        f"{which}>= {targets.tokens_per_s_per_user:g} tokens/s per user"
        if targets.tokens_per_s_per_user
        else "",
        f"{which}end to end <= {targets.e2e_s:g} s" if targets.e2e_s else "",
    ]
    told = ", ".join(filter(None, parts))
    if targets.goodput:
        told = f"{targets.goodput:.4g} of requests within {told}"
    limits = [
        f"p{each.percent} of {_in_unit(each.latency, each.limit_s)}" for each in targets.percentiles
    ]
    return ", ".join(filter(None, [told, *limits])) or "no targets"


def risk_text(question: Question) -> str:
    """Return how sure a plan has to be of meeting its targets.

    "80% is asked for (--risk)".
    """
    if not question.chance:
        return "plans are judged by best estimates, whatever it is (--risk)"
    return f"{question.chance:.0%} is asked for (--risk)"


def _in_unit(latency: str, limit_s: float) -> str:
    name, unit, unit_name = LATENCY_WORDS[latency]
    return f"{name} <= {limit_s / unit:g} {unit_name}"


def layout_text(config: ReplicaConfig) -> str:
    """Return the layout of a replica: ``tp8 ep8 attn-dp4`` of eight devices.

    ``tp`` counts all devices of a pipeline stage, as the JSON field ``tp_size`` does. Engines spell
    attention in several ranks differently, so it has a name of its own.
    """
    sizes = (("tp", config.tp), ("pp", config.pp), ("ep", config.ep), ("attn-dp", config.dp))
    return " ".join(f"{name}{size}" for name, size in sizes if size > 1 or name == "tp")


def guesses_text(way: Speculation) -> str:
    """Return how a replica guesses tokens ahead: ``mtp guesses 3, 2.50 tokens a step``."""
    method = way.method.replace("_", " ")
    return f"{method} guesses {way.draft_tokens}, {way.tokens_per_step:.2f} tokens a step"


def figure_name(name: str) -> str:
    """Return the name of a figure with a target in words: ``ttft_p99_s`` is "TTFT p99"."""
    if name == "good_share":
        return "goodput"
    if name == "tokens_per_s_per_user":
        return "tokens/s per user"
    latency, *percentile = name.removesuffix("_s").split("_")
    return " ".join([LATENCY_WORDS[latency][0], *(percentile or ["mean"])])
