"""Whether a published checkpoint of the model in fewer bits would meet the targets for less."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from budsim.commons.errors import BudsimError
from budsim.model_ops.quantized_checkpoints import quantized_checkpoints
from budsim.model_ops.registry import resolve_model
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.question import Question

# A quantized checkpoint is worth a note from this saving on; chosen by us. It changes answers a
# little, so that somebody has to test it.
LEAST_SAVING: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOffer:
    """A quantized checkpoint, its best plan, and its cost relative to the model's own (0..1).

    ``cost_share`` is 0 where the model itself has no plan that meets the targets.
    """

    model_id: str
    plan: Plan
    cost_share: float
    has_targets: bool = True

    @property
    def does(self) -> str:
        """What its best plan does for its cost, in words that a cost follows."""
        return "meets the targets for" if self.has_targets else "costs"

    @property
    def saving(self) -> str:
        """How the cost compares with that of the model itself."""
        if self.cost_share:
            return f"{self.cost_share:.0%} of the cost"
        return "which the model itself misses" if self.has_targets else "the model has no plan"


def cheaper_checkpoint(
    question: Question, outcome: Outcome, predictor: Predictor
) -> CheckpointOffer | None:
    """Return the first quantized checkpoint whose best plan meets the targets for much less.

    None where there is no such checkpoint, or the question asks for quantized weights already.
    """
    own = next((plan for plan in outcome.plans if plan.meets_targets), None)
    return checkpoint_below(question, own.cost_per_million_tokens_usd if own else None, predictor)


def checkpoint_below(
    question: Question, own_usd: float | None, predictor: Predictor
) -> CheckpointOffer | None:
    """Return what `cheaper_checkpoint` does, for a best plan of ``own_usd`` per million tokens.

    None for the cost: the model itself has no plan that meets the targets.
    """
    if question.may_quantize or question.weight_precision is not None:
        return None
    for model_id in quantized_checkpoints(question.architecture)[:1]:
        try:
            asked = replace(question, architecture=resolve_model(model_id), allow_mixed=False)
            plans = answer(asked, predictor).plans
        except BudsimError:  # a checkpoint that cannot be served is no offer
            continue
        if plans and plans[0].meets_targets:
            share = plans[0].cost_per_million_tokens_usd / own_usd if own_usd else 0.0
            if share <= 1.0 - LEAST_SAVING:
                return CheckpointOffer(
                    model_id=model_id,
                    plan=plans[0],
                    cost_share=share,
                    has_targets=bool(question.targets),
                )
    return None
