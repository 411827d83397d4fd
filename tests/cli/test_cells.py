"""Cells of the tables of plans."""

from dataclasses import replace

import pytest

from budsim.cli.cells import verdict
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from tests.simulator.situations import make_cluster, make_question


@pytest.mark.parametrize(("chance", "told"), [(0.0, "none"), (0.99, "rate: only")])
def test_a_rate_without_targets_is_carried_surely_or_not(chance, told):
    """Of one H100 that may be too slow the chance is told; nothing is missed by 0 %."""
    question = replace(
        make_question(make_cluster((("H100-SXM", 1),)), engines=frozenset({"vllm"})),
        traffic=Traffic.at_rate(requests_per_s=30.0, input_tokens=512, output_tokens=128),
        analytic_only=True,
        chance=chance,
    )
    plan = answer(question, AnalyticPredictor()).plans[0]
    assert told in verdict(question, plan)
    assert "missed" not in verdict(question, plan)
