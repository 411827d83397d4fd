"""Answers to the four questions: values that show themselves and convert to DataFrame and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from budsim.api.prices import cost_per_million_total_tokens_usd, energy_row, price_basis
from budsim.api.tabular import Tabular
from budsim.api.words import layout_text, traffic_text

if TYPE_CHECKING:
    import pandas as pd

    from budsim.performance.predictor import Predictor
    from budsim.simulator.planning.device_sets import DeviceSet, SizingResult
    from budsim.simulator.planning.knob_changes import KnobChange
    from budsim.simulator.planning.plans import (
        Figure,
        Outcome,
        Plan,
        Rejection,
        ReplicaGroup,
    )
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.sizing import Capacity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Simulation(Tabular):
    """The best deployments of a model on clusters, best first, and why others are missing.

    Attributes
    ----------
    question : Question
        What was asked.
    outcome : Outcome
        The search's own result: ``plans``, ``rejections``, ``evaluations``.
    """

    question: Question
    outcome: Outcome
    predictor: Predictor = field(repr=False)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans, best first; empty where nothing fits."""
        return self.outcome.plans

    @property
    def best(self) -> Plan | None:
        """The best plan, or None where nothing fits."""
        return self.plans[0] if self.plans else None

    @property
    def toss_ups(self) -> tuple[Plan, ...]:
        """The plans whose cost a prediction cannot tell from that of the best one."""
        from budsim.simulator.planning.taste import toss_ups

        return tuple(toss_ups(self.plans))

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What is not in the answer, and why."""
        return self.outcome.rejections

    def what_if(self, **changes: object) -> KnobChange:
        """Return the best plan before and after changed settings, such as ``tp=4, replicas=2``.

        All are changed at once.

        Raises
        ------
        InvalidInput
            There is no plan, no such setting, or the engine refuses a value.
        """
        from budsim.simulator.planning.whatif import what_if

        settings = {name: str(value) for name, value in changes.items()}
        return what_if(self.question, self.outcome, self.predictor, settings)

    def render(self, form: str, *, number: int = 1) -> str:
        """Return what starts plan ``number`` (1 is the best).

        ``form`` is a format of `budsim render`, such as ``command`` or ``kubernetes``.

        Raises
        ------
        InvalidInput
            There is no such form or plan.
        """
        from budsim.simulator.rendering import Additions, render

        return render(self.to_json(), form, number=number, additions=Additions())

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each plan, best first."""
        return [plan_row(plan, self.question) for plan in self.plans]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim simulate --json` prints."""
        from budsim.api.documents import outcome_document

        return outcome_document(self.question, self.outcome)

    def summary(self) -> str:
        """Return what was asked, and the best plan or the first reason for there being none."""
        asked = f"{self.question.architecture.model_id}, {traffic_text(self.question)}: "
        if self.best:
            verdict = "meets the targets" if self.best.meets_targets else "misses the targets"
            told = f"the best {verdict}" if self.question.targets else "there are no targets"
            return f"{asked}{len(self.plans)} plans; {told}."
        reason = f" {self.rejections[0].reason}" if self.rejections else ""
        return f"{asked}nothing fits.{reason}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Capacities(Tabular):
    """How many requests each cluster serves within the targets."""

    question: Question
    clusters: tuple[Capacity, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each cluster."""
        return [
            {"cluster": each.cluster.name, **_carried(each)}
            | (plan_row(each.plan, self.question) if each.plan else {})
            for each in self.clusters
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim capacity --json` prints."""
        from budsim.api.documents import capacity_document

        return capacity_document(self.question, self.clusters)

    def summary(self) -> str:
        """Return how many requests each cluster serves."""
        if self.question.traffic.is_open:
            rates = (f"{each.cluster.name} serves {each.rate:.3g}" for each in self.clusters)
            return f"Requests/s within the targets: {', '.join(rates)}."
        counts = (f"{each.cluster.name} serves {each.concurrency}" for each in self.clusters)
        return f"Requests in flight within the targets: {', '.join(counts)}."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DeviceSets(Tabular):
    """The cheapest devices of the catalog for a load, cheapest first."""

    question: Question
    found: SizingResult

    @property
    def sets(self) -> tuple[DeviceSet, ...]:
        """The sets of devices, cheapest per hour first."""
        return self.found.sets

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Devices that are not in the answer, and why."""
        return self.found.rejections

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each set of devices."""
        return [
            {"device": each.device.name, "purchase_usd": each.purchase_usd}
            | plan_row(each.plan, self.question)
            for each in self.sets
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim size --json` prints."""
        from budsim.api.documents import sized_document

        return sized_document(self.question, self.found)

    def summary(self) -> str:
        """Return the cheapest set of devices."""
        asked = f"{self.question.architecture.model_id}, {traffic_text(self.question)}: "
        if not self.sets:
            return f"{asked}no device serves this."
        cheapest = self.sets[0]
        best = cheapest.plan
        return (
            f"{asked}{cheapest.devices} x {cheapest.device.name} is the cheapest, "
            f"{best.cost_usd_per_h:.2f} USD/h{' (rent estimated)' * best.has_estimated_price}."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RowPredictions(Tabular):
    """Predictions for given configurations, one a row, beside the columns that were given."""

    table: pd.DataFrame

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each row."""
        return [dict(zip(self.table.columns, row, strict=True)) for row in self.table.to_numpy()]

    def to_pandas(self) -> pd.DataFrame:
        """Return the given columns and, with ``pred_`` before their names, the predicted ones."""
        return self.table.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return the rows under one key."""
        return {"object": "predictions", "rows": self.rows()}

    def summary(self) -> str:
        """Return how many rows were predicted."""
        predicted = int((self.table["pred_error"] == "").sum())
        return f"{predicted} of {len(self.table)} rows predicted."


def plan_row(plan: Plan, question: Question) -> dict[str, Any]:
    """Return a plan's figures; latencies and rates are those of the group where they are worst."""
    services = [group.service for group in plan.groups]
    slowest = min((each.tokens_per_s_per_user for each in services), key=_value)
    return {
        "runs": " + ".join(_described(group) for group in plan.groups),
        "devices": plan.devices,
        "meets_targets": plan.meets_targets,
        "chance": plan.chance,
        **_figure("ttft_s", max((each.ttft_s for each in services), key=_value)),
        **(_figure("tokens_per_s_per_user", slowest) if slowest.value else {}),
        **_figure("e2e_s", max((each.e2e_s for each in services), key=_value)),
        **_requests_per_s(plan.answering),
        **_percentiles(plan.slowest),
        "usd_per_h": plan.cost_usd_per_h,
        "usd_per_month": plan.cost_usd_per_month,
        "usd_per_million_tokens": plan.cost_per_million_tokens_usd,
        "usd_per_million_total_tokens": cost_per_million_total_tokens_usd(question, plan),
        "price_basis": price_basis(plan),
        **energy_row(question, plan),
        "bound_by": plan.slowest.service.bound_by,
        "basis": str(plan.slowest.service.basis),
        **{f"basis_{name}": str(basis) for name, basis in plan.slowest.service.bases.items()},
        "is_knee": plan.is_knee,
    }


def _carried(capacity: Capacity) -> dict[str, float]:
    """Return what a cluster serves: requests in flight, or the largest rate."""
    if math.isnan(capacity.rate):
        return {"concurrency": capacity.concurrency}
    return {"largest_requests_per_s": capacity.rate}


def _described(group: ReplicaGroup) -> str:
    from budsim.engine_ops.base import PoolRole

    config = group.config
    part = "" if group.role is PoolRole.WHOLE else f"{group.role}: "
    return (
        f"{part}{group.replicas} x {config.device.name} {layout_text(config)} ({group.engine}, "
        f"{config.weight_precision} weights)"
    )


def _percentiles(group: ReplicaGroup) -> dict[str, float]:
    """Return what single requests see, where they were replayed."""
    found = group.replayed
    if found is None:
        return {}
    return {
        "ttft_p50_s": found.ttft_s.p50,
        "ttft_p95_s": found.ttft_s.p95,
        "ttft_p99_s": found.ttft_s.p99,
        "itl_p99_s": found.itl_s.p99,
        "e2e_p50_s": found.e2e_s.p50,
        "e2e_p95_s": found.e2e_s.p95,
        "e2e_p99_s": found.e2e_s.p99,
        "good_share": found.good_share,
        "utilisation": found.utilisation,
        "largest_stable_requests_per_s": group.replicas * found.largest_stable_rate,
    }


def _figure(name: str, figure: Figure) -> dict[str, float]:
    return {name: figure.value, f"{name}_low90": figure.low90, f"{name}_high90": figure.high90}


def _requests_per_s(groups: Sequence[ReplicaGroup]) -> dict[str, float]:
    """Return the requests/s of all replicas together, with the sum of their ranges.

    Requests of a rate that is carried finish as they come, which has no range.
    """
    at = {
        f"requests_per_s{ending}": sum(
            group.replicas * getattr(group.service.requests_per_s, end) for group in groups
        )
        for ending, end in (("", "value"), ("_low90", "low90"), ("_high90", "high90"))
    }
    has_range = at["requests_per_s_low90"] < at["requests_per_s_high90"]
    return at if has_range else {"requests_per_s": at["requests_per_s"]}


def _value(figure: Figure) -> float:
    return figure.value
