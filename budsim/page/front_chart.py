"""The drawing of cost against speed: each plan with its range, the front and the knee."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from budsim.page.charts import Frame, frame, number
from budsim.simulator.planning.plans import Figure, Plan
from budsim.simulator.planning.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPoint:
    """A plan's mark; ``low`` and ``high`` are the ends of its range, in pixels."""

    number: int
    x: float
    y: float
    low: float
    high: float
    meets: bool
    is_knee: bool
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """The drawing; ``line`` joins the plans that no other plan beats in cost and speed."""

    frame: Frame
    points: tuple[PlanPoint, ...]
    line: str
    x_name: str
    y_name: str


def front_view(question: Question, plans: Sequence[Plan], width: int) -> FrontView | None:
    """Return where the plans lie; None where no plan has a finite cost and speed."""
    shown = _drawn(question, plans)
    if not shown:
        return None
    xs = [max(end, 1e-9) for _, _, speed in shown for end in (speed.low90, speed.high90)]
    box = frame(xs, [plan.cost_per_million_tokens_usd for _, plan, _ in shown], width)
    best = sorted(_front([(plan, speed.value) for _, plan, speed in shown]), key=lambda it: it[1])
    unit = "tokens/s per user" if question.traffic.output_tokens else "requests/s"
    return FrontView(
        frame=box,
        points=tuple(
            _point(box, index, plan, (speed, unit), _verdict(question, plan))
            for index, plan, speed in shown
        ),
        line=box.line(
            [speed for _, speed in best], [plan.cost_per_million_tokens_usd for plan, _ in best]
        ),
        x_name=f"{unit}, mean",
        y_name="USD per million tokens",
    )


def _drawn(question: Question, plans: Sequence[Plan]) -> list[tuple[int, Plan, Figure]]:
    """Return number, plan and speed of each plan with a finite cost and speed."""
    told = ((number, plan, _speed(question, plan)) for number, plan in enumerate(plans, start=1))
    return [each for each in told if _can_be_drawn(each[1], each[2])]


def _verdict(question: Question, plan: Plan) -> str:
    """Return whether a plan meets the targets; nothing where there are none."""
    if not question.targets:
        return ""
    return ", meets the targets" if plan.meets_targets else ", misses the targets"


def _point(box: Frame, index: int, plan: Plan, told: tuple[Figure, str], verdict: str) -> PlanPoint:
    """Return the mark of a plan whose speed is ``told`` with its unit."""
    cost, (speed, unit) = plan.cost_per_million_tokens_usd, told
    return PlanPoint(
        number=index,
        x=box.x.at(speed.value),
        y=box.y.at(cost),
        low=box.x.at(speed.low90),
        high=box.x.at(speed.high90),
        meets=plan.meets_targets,
        is_knee=plan.is_knee,
        title=f"Plan {index}{', the knee' if plan.is_knee else ''}: {number(cost)} USD per million "
        f"tokens, {number(speed.value)} {unit} ({number(speed.low90)} to "
        f"{number(speed.high90)}){verdict}",
    )


def _speed(question: Question, plan: Plan) -> Figure:
    """Return tokens/s of the slowest user; of a model that generates none, requests/s."""
    if question.traffic.output_tokens:
        services = [group.service.tokens_per_s_per_user for group in plan.groups]
        return min(services, key=lambda figure: figure.value)
    ends = {
        end: sum(
            group.replicas * getattr(group.service.requests_per_s, end) for group in plan.groups
        )
        for end in ("value", "low80", "high80", "low90", "high90")
    }
    return Figure(**ends)


def _front(plans: Sequence[tuple[Plan, float]]) -> list[tuple[Plan, float]]:
    """Return the plans for which none is both cheaper and faster."""
    return [
        (plan, speed)
        for plan, speed in plans
        if not any(
            other.cost_per_million_tokens_usd <= plan.cost_per_million_tokens_usd
            and rate >= speed
            and (other.cost_per_million_tokens_usd, -rate)
            != (plan.cost_per_million_tokens_usd, -speed)
            for other, rate in plans
        )
    ]


def _can_be_drawn(plan: Plan, speed: Figure) -> bool:
    figures = (plan.cost_per_million_tokens_usd, speed.value, speed.low90, speed.high90)
    return all(math.isfinite(each) and each > 0 for each in figures)
