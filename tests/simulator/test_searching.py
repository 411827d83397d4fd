"""What worker processes import by name."""

from __future__ import annotations

from dataclasses import replace

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.checkpoint_offers import CheckpointOffer
from budsim.simulator.planning.question import ParallelLayout
from budsim.simulator.searching import offered_checkpoint
from tests.simulator.situations import make_cluster, make_question

ANY = AnalyticPredictor()


def test_a_cheaper_checkpoint_is_told_in_words() -> None:
    """Llama 70B in FP8 runs on fewer devices; it is no offer for a model that costs less already.

    Without a plan of the model itself, the checkpoint is what meets the targets.
    """
    question = make_question(
        make_cluster((("H100-SXM", 2),)),
        model="meta-llama/Llama-3.3-70B-Instruct",
        analytic_only=True,
        concurrency=4,
        engines=frozenset({"vllm"}),
        layout=ParallelLayout(tp=2, pp=1),
        targets={"ttft_s": 10.0},
    )
    offer = offered_checkpoint(question, AnalyticPredictor(), None)
    assert offer is not None
    assert "FP8" in offer.subject
    assert "which the model itself misses" in offer.reason
    assert "H100-SXM; test its quality" in offer.reason
    assert "it meets the targets for" in offer.reason
    assert offered_checkpoint(question, AnalyticPredictor(), 0.01) is None


def test_without_targets_a_checkpoint_only_costs_less() -> None:
    """Nothing is said to be met where nothing is asked for."""
    plan = answer(make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True), ANY).plans[0]
    offer = CheckpointOffer(model_id="m", plan=plan, cost_share=0.5, has_targets=False)
    assert (offer.does, offer.saving) == ("costs", "50% of the cost")
    assert replace(offer, cost_share=0.0).saving == "the model has no plan"
