"""The answer about a day: replicas each hour, their cost, and when to add one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budsim.api.tabular import Tabular

if TYPE_CHECKING:
    from budsim.simulator.planning.daily_replicas import DayAnswer
    from budsim.simulator.planning.days import DayOfReplicas
    from budsim.simulator.planning.plans import Rejection
    from budsim.simulator.planning.question import Question
    from budsim.simulator.schemas import DayOfReplicasAnswer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DailyReplicas(Tabular):
    """How many replicas each hour of a day needs; ``question`` is that of its busiest hour."""

    question: Question
    found: DayAnswer

    @property
    def day(self) -> DayOfReplicas | None:
        """The deployment that is cheapest over the day, or None where nothing fits."""
        return self.found.day

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What is not in the answer, and why."""
        return self.found.rejections

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each hour."""
        return [hour.model_dump() for hour in self._answer().hours]

    def render(self, form: str) -> str:
        """Return what starts or scales the replicas: ``kubernetes``, ``keda``, ``hpa`` and others.

        Raises
        ------
        InvalidInput
            There is no such form, or no deployment.
        """
        from budsim.simulator.rendering import Additions, render

        return render(self.to_json(), form, additions=Additions())

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim day --json` prints."""
        return self._answer().model_dump(mode="json")

    def summary(self) -> str:
        """Return how many replicas the day needs, and what following the load saves."""
        day = self.day
        if day is None:
            reason = f" {self.rejections[0].reason}" if self.rejections else ""
            return f"{self.question.architecture.model_id}: nothing fits.{reason}"
        noun = "workers" if day.plan.is_disaggregated else "replicas"
        return (
            f"{day.fewest} to {day.most} {noun}, {day.usd_per_day:.2f} USD a day; "
            f"{day.constant_usd_per_day:.2f} USD with {day.most} all day."
        )

    def _answer(self) -> DayOfReplicasAnswer:
        """Return the answer as the HTTP service gives it."""
        from budsim.simulator.schemas import DayOfReplicasAnswer

        return DayOfReplicasAnswer.of(self.question, self.found)
