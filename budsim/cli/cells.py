"""The cells of tables about plans: what runs, how fast it is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from budsim.api import words
from budsim.commons.units import MILLI
from budsim.engine_ops.base import PoolRole
from budsim.simulator.planning.chances import chance_text

if TYPE_CHECKING:
    from budsim.simulator.planning.plans import Figure, Plan, PredictedService, ReplicaGroup
    from budsim.simulator.planning.question import Question

RANGE_NOTE = (
    "Each figure is a mean over requests. The smaller numbers below it say how sure we are of that "
    "mean:\nof 100 means you measure, about 90 lie in such a range. They are not percentiles of "
    "requests."
)

ESTIMATE_NOTE = "* estimated: no provider publishes a rent"

# Smaller relative differences of two plans are not told.
LEAST_TOLD = 0.01
# Chances above are not told apart.
CERTAIN = 0.995


def service_columns(question: Question) -> tuple[str, ...]:
    """Return the headings above `plan_service` and `group_service`."""
    rate = ("tok/s/user\nmean>",) if question.traffic.output_tokens else ()
    return ("TTFT ms\nmean>", *rate, "e2e s\nmean>", "requests/s>")


def plan_service(plan: Plan) -> tuple[str, ...]:
    """Return TTFT, tokens/s per user, latency, and requests/s of a plan's groups together.

    The first three are those of the group where they are worst: no user sees worse.
    """
    return _service(plan.answering)


def group_service(group: ReplicaGroup) -> tuple[str, ...]:
    """Return TTFT, tokens/s per user, latency and requests/s of one group."""
    return _service([group])


def _service(groups: Sequence[ReplicaGroup]) -> tuple[str, ...]:
    services = [group.service for group in groups]
    # A mix is as good as its slowest group, and different figures may be worst in different groups.
    slowest = min((each.tokens_per_s_per_user for each in services), key=_value)
    rate = (_range(slowest, 1.0, ".1f"),) if slowest.value else ()
    return (
        _range(max((each.ttft_s for each in services), key=_value), 1 / MILLI, ".0f"),
        *rate,
        _range(max((each.e2e_s for each in services), key=_value), 1.0, ".2f"),
        _requests_per_s(groups),
    )


def verdict(question: Question, plan: Plan) -> str:
    """Return whether a plan meets the targets and how sure that is, or by how much it misses.

    Without targets, whether a rate is carried surely enough.
    """
    if not question.targets:
        return _without_targets(plan)
    chance = f"[dim]{'>99%' if plan.chance > CERTAIN else f'{plan.chance:.0%}'} sure[/dim]"
    if plan.meets_targets:
        return f"[green]met[/green]\n{chance}"
    if plan.error_rate:
        return f"[red]missed by\n{plan.error_rate:.0%}[/red]\n{chance}"
    return f"[yellow]not sure\nenough[/yellow]\n[dim]{chance_text(plan.chance)} sure[/dim]"


def _without_targets(plan: Plan) -> str:
    if plan.meets_targets:
        return "none"
    if plan.error_rate:
        return f"[red]missed\n{plan.error_rate:.0%}[/red]"
    return f"[yellow]rate: only[/yellow]\n[dim]{chance_text(plan.chance)} sure[/dim]"


def hourly_price(plan: Plan) -> str:
    """Return USD per hour, with a mark where the rent of a device is an estimate."""
    return f"{plan.cost_usd_per_h:.2f}" + ("*" if plan.has_estimated_price else "")


def price(usd: float) -> str:
    """Return a price to the cent, small ones to two digits."""
    return f"{usd:.2f}" if usd >= 1.0 else f"{usd:#.2g}"


def headline(plan: Plan, names: Mapping[str, str]) -> str:
    """Return what a plan runs; it starts with the cluster's name where there are several."""
    where = f"{names.get(plan.cluster_id, plan.cluster_id)}: " if len(names) > 1 else ""
    return where + "\n + ".join(described(group) for group in plan.groups)


def described(group: ReplicaGroup) -> str:
    """Return how many replicas run on what, in which layout, by which engine and formats."""
    config = group.config
    part = "" if group.role is PoolRole.WHOLE else f"{group.role}: "
    what = f"{part}{group.replicas} x {config.device.name} {words.layout_text(config)}"
    guesses = f", {words.guesses_text(group.speculation)}" if group.speculation else ""
    return (
        f"{what}\n   [dim]{group.engine}, "
        f"{config.weight_precision} weights, {config.kv_precision} KV{guesses}[/dim]"
    )


def compared(plan: Plan, first: Plan) -> str:
    """Return what a plan costs and gives beside the first one, or nothing where both are alike.

    "than 1: costs 12 % more, 29 % faster, 4 more devices".
    """
    cost = _change(plan.cost_per_million_tokens_usd, first.cost_per_million_tokens_usd)
    speed = _change(1.0 / plan.e2e_s, 1.0 / first.e2e_s)
    devices = plan.devices - first.devices
    noun = "device" if abs(devices) == 1 else "devices"
    told = [
        _told(cost, "costs {:.0%} more", "costs {:.0%} less"),
        _told(speed, "{:.0%} faster", "{:.0%} slower"),
        _told(devices, f"{{:.0f}} more {noun}", f"{{:.0f}} fewer {noun}"),
    ]
    differences = ", ".join(filter(None, told))
    return f"than 1: {differences}" if differences else ""


def _told(change: float, more: str, less: str) -> str:
    """Return a change in words; nothing where it is too small to tell."""
    if abs(change) < LEAST_TOLD:
        return ""
    return (more if change > 0 else less).format(abs(change))


def _change(value: float, before: float) -> float:
    return value / before - 1.0 if before > 0 else 0.0


def limits(service: PredictedService) -> str:
    """Return what limits a service, and what its prediction is based on."""
    bases = set(service.bases.values())
    is_new = not service.in_range and service.basis != "analytic"
    named = (f"{name.upper()} {basis}" for name, basis in service.bases.items())
    basis = ", ".join(named) if len(bases) > 1 else str(service.basis)
    return f"bound by {service.bound_by}; {basis}{', outside training' if is_new else ''}"


def _requests_per_s(groups: Sequence[ReplicaGroup]) -> str:
    """Return the requests/s that all replicas finish together, with their range.

    Requests of a rate that is carried finish as they come, which has no range.
    """
    value, low, high = (
        sum(each.replicas * getattr(each.service.requests_per_s, end) for each in groups)
        for end in ("value", "low90", "high90")
    )
    return f"{value:.1f}" if low == high else f"{value:.1f}\n[dim]{low:.1f}-{high:.1f}[/dim]"


def _value(figure: Figure) -> float:
    return figure.value


def _range(figure: Figure, factor: float, spec: str) -> str:
    value, low, high = (
        format(each * factor, spec) for each in (figure.value, figure.low90, figure.high90)
    )
    return f"{value}\n[dim]{low}-{high}[/dim]"
