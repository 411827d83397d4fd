"""What one or more changed knobs would do to a plan while every other stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.group_changes import change_group
from budsim.simulator.planning.knob_changes import FIELD, KnobChange
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.pool_changes import change_pools
from budsim.simulator.planning.question import Question


def what_if(
    question: Question, outcome: Outcome, predictor: Predictor, changes: Mapping[str, str]
) -> KnobChange:
    """Return what the slowest group of the best plan does with knobs changed, all at once.

    Of a disaggregated plan, what both pools do: see `change_pools`.

    ``changes`` are values by knob. A knob is a field of `ReplicaConfig` (``max_num_seqs``, ``tp``),
    the engine's own flag (``--max-num-seqs``), ``replicas``, or the traffic's ``concurrency``,
    ``input_tokens``, ``output_tokens``, ``rate``.

    Raises
    ------
    InvalidInput
        There is no plan, there is no such knob, the engine refuses the value, or
        the cluster has too few devices.
    """
    if not outcome.plans:
        raise InvalidInput(FIELD, "there is no plan to change", "a question that has one")
    if not changes:
        raise InvalidInput(FIELD, "nothing is changed", "one or more settings, as tp=8")
    return change_plan(question, outcome.plans[0], predictor, changes)


def change_plan(
    question: Question, plan: Plan, predictor: Predictor, changes: Mapping[str, str]
) -> KnobChange:
    """Return what the slowest group, or both pools, of any plan do with one or more knobs changed.

    The knobs of the result are joined by commas. Errors as those of `what_if`.
    """
    if plan.is_disaggregated:
        return change_pools(question, plan, changes)
    return change_group(question, plan, predictor, changes)
