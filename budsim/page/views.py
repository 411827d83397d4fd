"""What the page shows of an answer: plans in words and numbers, ready for the templates."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from budsim.api import words
from budsim.commons.units import GIB, MILLI
from budsim.page.charts import number
from budsim.page.front_chart import FrontView, front_view
from budsim.simulator.planning.plans import (
    Figure,
    NextReplica,
    Outcome,
    Plan,
    PredictedMemory,
    Rejection,
    ReplicaGroup,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.whatif import KnobChange

HOURS_A_MONTH = 730
# Smaller shares of a request's time are left out.
LEAST_SHARE = 0.01
# Chances above are not told apart.
CERTAIN = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranged:
    """A figure with the range that holds 90 of 100 measured means."""

    value: str
    low: str
    high: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a whole: its name, its size in words, and its share (0..1) of the whole."""

    name: str
    text: str
    share: float
    start: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """Equal replicas of a plan."""

    title: str
    formats: str
    nodes: str
    image: str
    command: str
    memory: tuple[Part, ...]
    memory_text: str
    requests_share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """One plan: what it runs, how well, at what price, why it is here and what limits it."""

    number: int
    titles: tuple[str, ...]
    verdict: str
    meets: bool
    is_knee: bool
    ttft_ms: Ranged
    tokens_per_s_per_user: Ranged | None
    e2e_s: Ranged
    requests_per_s: Ranged
    usd_per_million: str
    usd_per_h: str
    usd_per_month: str
    devices: int
    basis: str
    why: tuple[str, ...]
    limits: tuple[str, ...]
    time: tuple[Part, ...]
    percentiles: tuple[tuple[str, str], ...]
    groups: tuple[GroupView, ...]
    is_rate: bool
    sliders: tuple[Slider, ...]


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
class AnswerView:
    """A whole answer."""

    model: str
    asked: str
    evaluations: str
    chance: str
    has_targets: bool
    front: FrontView | None
    plans: tuple[PlanView, ...]
    rejections: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One figure before and after a change."""

    name: str
    before: str
    after: str
    ranges: str


def answer_view(question: Question, outcome: Outcome, width: int) -> AnswerView:
    """Return what is shown of an answer, in drawings ``width`` pixels wide."""
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    return AnswerView(
        model=question.architecture.model_id,
        asked=words.question_text(question),
        evaluations=f"{outcome.evaluations:,}",
        chance=f"{question.chance:.0%}",
        has_targets=bool(question.targets),
        front=front_view(question, outcome.plans, width) if outcome.plans else None,
        plans=tuple(_plan(question, outcome, index, names) for index in range(len(outcome.plans))),
        rejections=tuple(_rejection(each, names) for each in outcome.rejections),
    )


def changed_view(question: Question, change: KnobChange) -> tuple[str, tuple[Changed, ...]]:
    """Return why a change is not possible (else empty), and the figures before and after it."""
    if change.after is None:
        return change.problem, ()
    before, after = change.before, change.after
    has_rate = bool(before.service.tokens_per_s_per_user.value)
    figures = (
        ("TTFT, ms", "ttft_s", 1 / MILLI),
        *((("tokens/s per user", "tokens_per_s_per_user", 1.0),) if has_rate else ()),
        ("end to end, s", "e2e_s", 1.0),
    )
    rows = [
        _changed(
            name, *(_ranged(getattr(group.service, field), factor) for group in (before, after))
        )
        for name, field, factor in figures
    ]
    rows += [
        _plain("requests/s", *(_rate_of(group) for group in (before, after))),
        _plain(
            "USD per million output tokens",
            *(number(group.cost_per_million_tokens_usd) for group in (before, after)),
        ),
        _plain("USD per hour", *(f"{group.cost_usd_per_h:,.2f}" for group in (before, after))),
        _plain("KV cache of a device, GiB", *(_kv_gib(group) for group in (before, after))),
    ]
    if question.targets:
        rows.append(_plain("meets the targets", *(_chance(g) for g in (before, after))))
    return "", tuple(rows)


def _plan(question: Question, outcome: Outcome, index: int, names: dict[str, str]) -> PlanView:
    plan = outcome.plans[index]
    services = [group.service for group in plan.groups]
    slowest = min((each.tokens_per_s_per_user for each in services), key=_value)
    month_usd = HOURS_A_MONTH * plan.cost_usd_per_h
    where = f"{names[plan.cluster_id]}: " if len(names) > 1 else ""
    return PlanView(
        number=index + 1,
        titles=tuple(where + layout_text(group) for group in plan.groups),
        verdict=_verdict(question, plan),
        meets=plan.meets_targets,
        is_knee=plan.is_knee,
        ttft_ms=_ranged(max((each.ttft_s for each in services), key=_value), 1 / MILLI),
        tokens_per_s_per_user=_ranged(slowest) if slowest.value else None,
        e2e_s=_ranged(max((each.e2e_s for each in services), key=_value)),
        requests_per_s=_requests_per_s(plan),
        usd_per_million=number(plan.cost_per_million_tokens_usd),
        usd_per_h=f"{plan.cost_usd_per_h:,.2f}",
        usd_per_month=f"{month_usd:,.0f}",
        devices=plan.devices,
        basis=_basis(plan.slowest),
        why=_why(question, outcome, index),
        limits=_limits(plan),
        time=_time_shares(plan.slowest),
        percentiles=_percentiles(plan.slowest),
        groups=tuple(_group(plan, group) for group in plan.groups),
        is_rate=question.traffic.is_open,
        sliders=_sliders(question, plan),
    )


def layout_text(group: ReplicaGroup) -> str:
    """Return how many replicas run on what: 2 x H100-SXM tp8."""
    config = group.config
    sizes = (("tp", config.tp), ("pp", config.pp), ("ep", config.ep), ("dp", config.dp))
    layout = " ".join(f"{name}{size}" for name, size in sizes if size > 1 or name == "tp")
    return f"{group.replicas} x {config.device.name} {layout}"


def _verdict(question: Question, plan: Plan) -> str:
    """Return whether a plan meets the targets and how sure that is, or by how much it misses."""
    if not question.targets:
        return "" if plan.meets_targets else f"misses by {plan.error_rate:.0%}"
    sure = ">99 %" if plan.chance > CERTAIN else f"{100 * plan.chance:.0f} %"
    if plan.meets_targets:
        return f"meets the targets, {sure} sure"
    if plan.error_rate:
        return f"misses the targets by {100 * plan.error_rate:.0f} %, {sure} sure"
    return f"not sure enough: {sure}"


def _why(question: Question, outcome: Outcome, index: int) -> tuple[str, ...]:
    """Return what a plan is best at, and what it changes against the first plan."""
    plan, best = outcome.plans[index], outcome.plans[0]
    rivals = [each for each in outcome.plans if each.meets_targets] or list(outcome.plans)
    among = "plans that meet the targets" if best.meets_targets else "plans, none meets the targets"
    told = []
    if plan in rivals and len(rivals) > 1:
        told += [f"{words_} of the {among}." for words_ in _superlatives(plan, rivals)]
    if plan in rivals and len(rivals) == 1 and plan.meets_targets and question.targets:
        told.append("The only plan that meets the targets.")
    if plan.is_knee:
        told.append("The knee: the best compromise of cost, number of devices and latency.")
    if index:
        told.append(f"Against plan 1: {_difference(best, plan)}.")
    return tuple(told)


def _superlatives(plan: Plan, rivals: list[Plan]) -> list[str]:
    """Return in which figures no rival is better."""
    figures = (
        ("Cheapest per token", plan.cost_per_million_tokens_usd, "cost_per_million_tokens_usd", 1),
        ("Cheapest per hour", plan.cost_usd_per_h, "cost_usd_per_h", 1),
        ("Fewest devices", plan.devices, "devices", 1),
        ("Shortest TTFT", plan.ttft_s, "ttft_s", 1),
        ("Most tokens/s per user", plan.tokens_per_s_per_user, "tokens_per_s_per_user", -1),
        ("Surest", plan.chance, "chance", -1),
    )
    return [
        name
        for name, value, field, sign in figures
        if sign * value <= min(sign * getattr(each, field) for each in rivals)
    ]


def _difference(best: Plan, plan: Plan) -> str:
    """Return how a plan's cost, TTFT and speed differ from the first plan's."""
    pairs = (
        ("cost per token", best.cost_per_million_tokens_usd, plan.cost_per_million_tokens_usd),
        ("TTFT", best.ttft_s, plan.ttft_s),
        ("tokens/s per user", best.tokens_per_s_per_user, plan.tokens_per_s_per_user),
    )
    told = [f"{name} {100 * (b / a - 1):+.0f} %" for name, a, b in pairs if a]
    return ", ".join(told)


def _limits(plan: Plan) -> tuple[str, ...]:
    """Return what bounds a plan's speed, which target is nearest, and what a replica adds."""
    group = plan.slowest
    explanation = group.explanation
    told = [f"Speed is bound by {group.service.bound_by}."]
    rooms = sorted(explanation.headroom.items(), key=lambda room: room[1])
    for name, room in rooms:
        figure = words.figure_name(name)
        told.append(
            f"{figure} misses its target by {-room:.0%}."
            if room < 0
            else f"{figure} may get {room:.0%} worse before its target is missed."
        )
    if explanation.next_replica:
        told.append(_next_replica(group, explanation.next_replica))
    return tuple(told)


def _next_replica(group: ReplicaGroup, after: NextReplica) -> str:
    before, there = group.service, "free" if after.is_free else "not free in the cluster"
    rate = before.tokens_per_s_per_user.value
    changes = (
        f"TTFT {number(before.ttft_s.value / MILLI)} to {number(after.ttft_s / MILLI)} ms",
        f"{number(rate)} to {number(after.tokens_per_s_per_user)} tokens/s per user"
        if rate
        else "",
        f"{number(group.cost_per_million_tokens_usd)} to "
        f"{number(after.cost_per_million_tokens_usd)} USD per million tokens",
    )
    told = ", ".join(filter(None, changes))
    return f"One more replica ({after.devices} x {group.label.name}, {there}): {told}."


def _time_shares(group: ReplicaGroup) -> tuple[Part, ...]:
    shares = sorted(group.explanation.time_shares.items(), key=lambda share: -share[1])
    kept = [(name, share) for name, share in shares if share >= LEAST_SHARE]
    return _parts([(name, f"{share:.0%}", share) for name, share in kept])


def _group(plan: Plan, group: ReplicaGroup) -> GroupView:
    whole = sum(each.replicas * each.service.requests_per_s.value for each in plan.groups)
    share = group.service.requests_per_s.value / whole if whole else 0.0
    nodes = dict.fromkeys(part.node_name for replica in group.placements for part in replica)
    settings = [f"{name}={shlex.quote(value)}" for name, value in group.launch.envs.items()]
    return GroupView(
        title=layout_text(group),
        formats=f"{group.engine}, {group.config.weight_precision} weights, "
        f"{group.config.kv_precision} KV cache",
        nodes=", ".join(nodes),
        image=group.launch.image,
        command=" ".join([*settings, shlex.join(group.launch.command)]),
        memory=memory_parts(group.memory),
        memory_text=f"{group.memory.budget_bytes / GIB:.1f} GiB of a {group.label.name}",
        requests_share=f"each replica gets {share:.1%} of the requests"
        if len(plan.groups) > 1
        else "",
    )


def memory_parts(memory: PredictedMemory) -> tuple[Part, ...]:
    """Return what a device's memory is used for, as parts of what the engine may use."""
    used = (
        ("weights", memory.weight_bytes),
        ("KV cache", memory.kv_cache_bytes),
        ("activations", memory.activation_bytes),
        ("reserve", memory.reserved_bytes),
    )
    return _parts(
        [(name, f"{size / GIB:.1f} GiB", size / memory.budget_bytes) for name, size in used]
    )


def _parts(given: list[tuple[str, str, float]]) -> tuple[Part, ...]:
    found, start = [], 0.0
    for name, text, share in given:
        kept = max(0.0, min(share, 1.0 - start))
        found.append(Part(name=name, text=text, share=kept, start=start))
        start += kept
    return tuple(found)


def _percentiles(group: ReplicaGroup) -> tuple[tuple[str, str], ...]:
    """Return what single requests see, where they were replayed."""
    found = group.replayed
    if found is None:
        return ()
    rows = [
        ("TTFT p50 / p95 / p99, ms", _spread(found.ttft_s, 1 / MILLI, (50, 95, 99))),
        ("gap between tokens p50 / p99, ms", _spread(found.itl_s, 1 / MILLI, (50, 99))),
        ("end to end p50 / p95 / p99, s", _spread(found.e2e_s, 1.0, (50, 95, 99))),
        ("time in which the engine computes", f"{found.utilisation:.0%}"),
    ]
    if found.largest_stable_rate == found.largest_stable_rate:  # nan in a closed loop
        rate = group.replicas * found.largest_stable_rate
        rows.append(("largest rate it carries, requests/s", number(rate)))
    return tuple(rows)


def _sliders(question: Question, plan: Plan) -> tuple[Slider, ...]:
    group, traffic = plan.slowest, question.traffic
    share = group.replicas * group.config.concurrency
    rate = group.replicas * group.service.requests_per_s.value
    alone = len(plan.groups) == 1
    load = (
        ("rate", "requests/s", traffic.rate if alone else rate, False)
        if traffic.is_open
        else ("concurrency", "requests in flight", question.concurrency if alone else share, True)
    )
    knobs = [
        load,
        ("input_tokens", "prompt tokens", round(question.traffic.input_tokens), True),
        ("output_tokens", "output tokens", round(question.traffic.output_tokens), True),
        ("replicas", "replicas", group.replicas, True),
    ]
    return tuple(_slider(*knob) for knob in knobs if knob[2])


def _slider(name: str, label: str, value: float, whole: bool) -> Slider:
    least, most = (1, max(8, 4 * value)) if name == "replicas" else (value / 16, value * 16)
    return Slider(
        name=name,
        label=label,
        value=value,
        least=max(1.0, least) if whole else least,
        most=most,
        whole=whole,
    )


def _rejection(rejection: Rejection, names: dict[str, str]) -> tuple[str, str, str]:
    where = names.get(rejection.cluster_id, rejection.cluster_id)
    subject = f"{where}: {rejection.subject}" if len(names) > 1 else rejection.subject
    return subject, str(rejection.devices or "–"), rejection.reason


def _requests_per_s(plan: Plan) -> Ranged:
    """Return the requests/s of all replicas; replayed requests finish as they come, exactly."""
    if all(each.replayed for each in plan.groups):
        finished = sum(
            each.replicas * each.replayed.requests_per_s for each in plan.groups if each.replayed
        )
        return Ranged(value=number(finished), low="", high="")
    value, low, high = (
        sum(each.replicas * getattr(each.service.requests_per_s, end) for each in plan.groups)
        for end in ("value", "low90", "high90")
    )
    return Ranged(value=number(value), low=number(low), high=number(high))


def _basis(group: ReplicaGroup) -> str:
    service = group.service
    is_new = not service.in_range and service.basis != "analytic"
    return f"{service.basis}{', outside of what was measured' if is_new else ''}"


def _ranged(figure: Figure, factor: float = 1.0) -> Ranged:
    value, low, high = (
        number(each * factor) for each in (figure.value, figure.low90, figure.high90)
    )
    return Ranged(value=value, low=low, high=high)


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


def _spread(spread: object, factor: float, percents: tuple[int, ...]) -> str:
    return " / ".join(number(factor * getattr(spread, f"p{percent}")) for percent in percents)


def _value(figure: Figure) -> float:
    return figure.value
