"""What the page shows of an answer: plans in words and numbers, ready for the templates."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from budsim.api import prices, words
from budsim.api.documents import configuration_document
from budsim.api.pools import router_command, router_of, router_text
from budsim.commons.units import GIB, MILLI
from budsim.page.charts import number
from budsim.page.figures import Part, Ranged, memory_parts, parts, ranged
from budsim.page.front_chart import FrontView, front_view
from budsim.page.reasons import limits, why
from budsim.page.sliders import Slider, sliders
from budsim.simulator.planning.chances import chance_text
from budsim.simulator.planning.checkpoint_offers import CheckpointOffer
from budsim.simulator.planning.plans import (
    Figure,
    Outcome,
    Plan,
    Rejection,
    ReplicaGroup,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.rendering import startable

# Smaller shares of a request's time are left out.
LEAST_SHARE = 0.01
# Chances above are not told apart.
CERTAIN = 0.995


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
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterView:
    """The router before the pools of a plan: what it is, and what starts it."""

    text: str
    command: str


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
    usd_per_million_of_all: str
    price_basis: str
    energy: str
    devices: int
    basis: str
    why: tuple[str, ...]
    limits: tuple[str, ...]
    time: tuple[Part, ...]
    percentiles: tuple[tuple[str, str], ...]
    groups: tuple[GroupView, ...]
    router: RouterView | None
    sliders: tuple[Slider, ...]
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """A whole answer."""

    model: str
    taken_for: str
    asked: str
    evaluations: str
    chance: str
    has_targets: bool
    front: FrontView | None
    plans: tuple[PlanView, ...]
    rejections: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferView:
    """A quantized checkpoint of the model that meets the targets for much less."""

    model: str
    does: str
    runs: str
    usd_per_million: str
    saving: str


def answer_view(question: Question, outcome: Outcome, model: str, width: int) -> AnswerView:
    """Return what is shown of an answer, in drawings ``width`` pixels wide.

    ``model`` is the model as it was asked for, which may be a short name.
    """
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    return AnswerView(
        model=question.architecture.model_id,
        taken_for="" if _is_named(model, question.architecture.model_id) else model,
        asked=words.question_text(question),
        evaluations=f"{outcome.evaluations:,}",
        chance=f"{question.chance:.0%}",
        has_targets=bool(question.targets),
        front=front_view(question, outcome.plans, width) if outcome.plans else None,
        plans=tuple(_plan(question, outcome, index, names) for index in range(len(outcome.plans))),
        rejections=tuple(_rejection(each, names) for each in outcome.rejections),
    )


def offer_view(offer: CheckpointOffer) -> OfferView:
    """Return what is shown of a quantized checkpoint."""
    return OfferView(
        does=offer.does,
        model=offer.model_id,
        runs=" + ".join(_layout(group) for group in offer.plan.groups),
        usd_per_million=number(offer.plan.cost_per_million_tokens_usd),
        saving=offer.saving,
    )


def _plan(question: Question, outcome: Outcome, index: int, names: dict[str, str]) -> PlanView:
    plan = outcome.plans[index]
    services = [group.service for group in plan.groups]
    slowest = min((each.tokens_per_s_per_user for each in services), key=_value)
    where = f"{names[plan.cluster_id]}: " if len(names) > 1 else ""
    return PlanView(
        number=index + 1,
        titles=_titles(outcome.plans, index, where),
        verdict=_verdict(question, plan),
        meets=plan.meets_targets,
        is_knee=plan.is_knee,
        ttft_ms=ranged(max((each.ttft_s for each in services), key=_value), 1 / MILLI),
        tokens_per_s_per_user=ranged(slowest) if slowest.value else None,
        e2e_s=ranged(max((each.e2e_s for each in services), key=_value)),
        requests_per_s=_requests_per_s(plan),
        usd_per_million=number(plan.cost_per_million_tokens_usd),
        usd_per_h=f"{plan.cost_usd_per_h:,.2f}",
        usd_per_month=f"{plan.cost_usd_per_month:,.0f}",
        usd_per_million_of_all=number(prices.cost_per_million_total_tokens_usd(question, plan)),
        price_basis=prices.basis_text(plan),
        energy=prices.energy_text(question, plan),
        devices=plan.devices,
        basis=_basis(plan.slowest),
        why=why(question, outcome, index),
        limits=limits(plan),
        time=_time_shares(plan.slowest),
        percentiles=_percentiles(plan.slowest),
        groups=tuple(_group(plan, group) for group in plan.groups),
        router=_router(plan) if plan.is_disaggregated else None,
        sliders=sliders(question, plan),
        forms=startable(json.dumps(configuration_document(question, plan))),
    )


def _titles(plans: Sequence[Plan], index: int, where: str) -> tuple[str, ...]:
    """Return what the groups of a plan run; with engine and weights where another plan looks so."""
    layouts = [[_layout(group) for group in plan.groups] for plan in plans]
    if layouts.count(layouts[index]) == 1:
        return tuple(where + layout for layout in layouts[index])
    return tuple(
        f"{where}{layout}, {group.engine}, {group.config.weight_precision}"
        for layout, group in zip(layouts[index], plans[index].groups, strict=True)
    )


def _layout(group: ReplicaGroup) -> str:
    """Return how many replicas run on what: 2 x H100-SXM tp8."""
    return f"{group.replicas} x {group.config.device.name} {words.layout_text(group.config)}"


def _verdict(question: Question, plan: Plan) -> str:
    """Return whether a plan meets the targets and how sure that is, or by how much it misses."""
    if not question.targets and (plan.meets_targets or plan.error_rate):
        return "" if plan.meets_targets else f"misses by {plan.error_rate:.0%}"
    sure = ">99 %" if plan.chance > CERTAIN else f"{100 * plan.chance:.0f} %"
    if plan.meets_targets:
        return f"meets the targets, {sure} sure"
    if plan.error_rate:
        return f"misses the targets by {100 * plan.error_rate:.0f} %, {sure} sure"
    what = "" if question.targets else " to carry the rate"
    return f"not sure enough{what}: {chance_text(plan.chance)}"


def _time_shares(group: ReplicaGroup) -> tuple[Part, ...]:
    shares = sorted(group.explanation.time_shares.items(), key=lambda share: -share[1])
    kept = [(name, share) for name, share in shares if share >= LEAST_SHARE]
    return parts([(name, f"{share:.0%}", share) for name, share in kept])


def _group(plan: Plan, group: ReplicaGroup) -> GroupView:
    nodes = dict.fromkeys(part.node_name for replica in group.placements for part in replica)
    guesses = f", {words.guesses_text(group.speculation)}" if group.speculation else ""
    settings = [f"{name}={shlex.quote(value)}" for name, value in group.launch.envs.items()]
    return GroupView(
        title=_layout(group),
        formats=f"{group.engine}, {group.config.weight_precision} weights, "
        f"{group.config.kv_precision} KV cache{guesses}",
        nodes=", ".join(nodes),
        image=group.launch.image,
        command=" ".join([*settings, shlex.join(group.launch.command)]),
        memory=memory_parts(group.memory),
        memory_text=f"{group.memory.budget_bytes / GIB:.1f} GiB of a {group.label.name}",
        part=_part(plan, group),
    )


def _part(plan: Plan, group: ReplicaGroup) -> str:
    """Return which part of the work a replica of a group does, where there are several groups."""
    if plan.is_disaggregated:
        return f"{group.role} workers"
    share = group.service.requests_per_s.value / plan.requests_per_s if plan.requests_per_s else 0.0
    return f"each replica gets {share:.1%} of the requests" if len(plan.groups) > 1 else ""


def _router(plan: Plan) -> RouterView:
    return RouterView(
        text=router_text(router_of(plan), plan.groups[0].service.ttft_s.value),
        command=shlex.join(router_command(plan)),
    )


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


def _is_named(asked: str, model_id: str) -> bool:
    """Say whether a model was asked for by its own name, with or without its organisation."""
    given, own = (name.strip().lower().rpartition("/")[2] for name in (asked, model_id))
    return given == own


def _rejection(rejection: Rejection, names: dict[str, str]) -> tuple[str, str, str]:
    where = names.get(rejection.cluster_id, rejection.cluster_id)
    subject = f"{where}: {rejection.subject}" if len(names) > 1 else rejection.subject
    return subject, str(rejection.devices or "–"), rejection.reason


def _requests_per_s(plan: Plan) -> Ranged:
    """Return the requests/s of all replicas; those of a rate that is carried have no range."""
    value, low, high = (
        sum(each.replicas * getattr(each.service.requests_per_s, end) for each in plan.answering)
        for end in ("value", "low90", "high90")
    )
    if low == high:
        return Ranged(value=number(value), low="", high="")
    return Ranged(value=number(value), low=number(low), high=number(high))


def _basis(group: ReplicaGroup) -> str:
    service = group.service
    is_new = not service.in_range and service.basis != "analytic"
    return f"{service.basis}{', outside of what was measured' if is_new else ''}"


def _spread(spread: object, factor: float, percents: tuple[int, ...]) -> str:
    return " / ".join(number(factor * getattr(spread, f"p{percent}")) for percent in percents)


def _value(figure: Figure) -> float:
    return figure.value
