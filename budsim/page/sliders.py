"""Sliders over a plan's settings and traffic, and what moving them does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from budsim.commons.units import GIB, MILLI
from budsim.page.charts import number
from budsim.page.figures import Ranged, ranged
from budsim.simulator.planning.knob_changes import (
    KnobChange,
    cost_per_million_tokens_usd,
    cost_usd_per_h,
)
from budsim.simulator.planning.plans import Plan, ReplicaGroup
from budsim.simulator.planning.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Slider:
    """A knob that can be moved: its place on the track is the logarithm of its value."""

    name: str
    label: str
    value: float
    least: float
    most: float
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One figure before and after a change."""

    name: str
    before: str
    after: str
    ranges: str


def sliders(question: Question, plan: Plan) -> tuple[Slider, ...]:
    """Return the sliders of a plan: load, lengths, replicas of its slowest group.

    Of a disaggregated plan, the workers of both pools.
    """
    group, traffic = plan.slowest, question.traffic
    share = group.replicas * group.config.concurrency
    rate = group.replicas * group.service.requests_per_s.value
    alone = len(plan.groups) == 1 or plan.is_disaggregated
    load = (
        ("rate", "requests/s", traffic.rate if alone else rate, False)
        if traffic.is_open
        else ("concurrency", "requests in flight", question.concurrency if alone else share, True)
    )
    knobs = [
        load,
        ("input_tokens", "prompt tokens", round(question.traffic.input_tokens), True),
        ("output_tokens", "output tokens", round(question.traffic.output_tokens), True),
        *_counts(plan),
    ]
    return tuple(_slider(*knob) for knob in knobs if knob[2])


def _counts(plan: Plan) -> Iterator[tuple[str, str, float, bool]]:
    """Yield the sliders of numbers: of replicas, or of the workers of both pools."""
    if not plan.is_disaggregated:
        yield "replicas", "replicas", plan.slowest.replicas, True
        return
    for group in plan.groups:
        yield f"{group.role}_workers", f"{group.role} workers", group.replicas, True


def changed_view(question: Question, change: KnobChange) -> tuple[str, tuple[Changed, ...]]:
    """Return why a change is not possible (else empty), and the figures before and after it."""
    if change.after is None:
        return change.problem, ()
    before, after = change.before, change.after
    sides = change.groups_before, change.groups_after
    has_rate = bool(before.service.tokens_per_s_per_user.value)
    figures = (
        ("TTFT, ms", "ttft_s", 1 / MILLI),
        *((("tokens/s per user", "tokens_per_s_per_user", 1.0),) if has_rate else ()),
        ("end to end, s", "e2e_s", 1.0),
    )
    rows = [
        _changed(
            name, *(ranged(getattr(group.service, field), factor) for group in (before, after))
        )
        for name, field, factor in figures
    ]
    rows += [
        _plain("requests/s", _rate_of(before), _rate_of(after)),
        _plain(
            "USD per million output tokens",
            *(number(cost_per_million_tokens_usd(groups)) for groups in sides),
        ),
        _plain("USD per hour", *(f"{cost_usd_per_h(groups):,.2f}" for groups in sides)),
        _plain("KV cache of a device, GiB", _kv_gib(before), _kv_gib(after)),
    ]
    if question.targets:
        rows.append(_plain("meets the targets", _chance(before), _chance(after)))
    return "", tuple(rows)


def _slider(name: str, label: str, value: float, whole: bool) -> Slider:
    is_count = name.endswith(("replicas", "workers"))
    least, most = (1, max(8, 4 * value)) if is_count else (value / 16, value * 16)
    return Slider(
        name=name,
        label=label,
        value=value,
        least=max(1.0, least) if whole else least,
        most=most,
        whole=whole,
    )


def _changed(name: str, before: Ranged, after: Ranged) -> Changed:
    ranges = f"{after.low}–{after.high}"
    return Changed(name=name, before=before.value, after=after.value, ranges=ranges)


def _plain(name: str, before: str, after: str) -> Changed:
    return Changed(name=name, before=before, after=after, ranges="")


def _rate_of(group: ReplicaGroup) -> str:
    return number(group.replicas * group.service.requests_per_s.value)


def _kv_gib(group: ReplicaGroup) -> str:
    return f"{group.memory.kv_cache_bytes / GIB:.1f}"


def _chance(group: ReplicaGroup) -> str:
    return f"{100 * group.chance:.0f} % sure"
