"""Answers about models that generate no text."""

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.lengths import FixedLength
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import Question
from tests.simulator.situations import make_cluster, make_question


def embedding_question(*pools: tuple[str, int], **changes: object) -> Question:
    """Return a question about vectors of 512 tokens each."""
    return make_question(
        make_cluster(*(((name, count),) for name, count in pools)),
        model="BAAI/bge-m3",
        output_tokens=0,
        **changes,
    )


def test_pooling_models_are_answered_by_what_they_read():
    """No token is generated.

    A request ends with its prompt, is priced by its prompt, and nothing is said to be learned.
    """
    found = answer(
        embedding_question(("H100-SXM", 1), ("Xeon Platinum 8592+", 2)), load_predictor()
    )
    assert {group.kind for plan in found.plans for group in plan.groups} == {
        DeviceKind.CUDA,
        DeviceKind.CPU,
    }
    for group in (group for plan in found.plans for group in plan.groups):
        service = group.service
        assert service.e2e_s == service.ttft_s
        assert (
            service.tpot_s.value,
            service.tokens_per_s_per_user.value,
            service.tokens_per_s_per_user.high90,
        ) == (
            0.0,
            0.0,
            0.0,
        )
        assert service.basis == "analytic"
        tokens_per_h = group.replicas * service.requests_per_s.value * 512 * 3600
        assert group.cost_per_million_tokens_usd == pytest.approx(
            group.cost_usd_per_h / tokens_per_h * 1e6, rel=0.05
        )
        assert group.launch.args.get("runner") == "pooling" or group.launch.args["is-embedding"]
        flops_per_s = 2 * found_parameters(group) * 512 * service.requests_per_s.value
        assert flops_per_s < group.config.device.flops_per_s[Precision.BF16] * group.config.tp


def found_parameters(group: ReplicaGroup) -> int:
    """Return the weights each token of BGE-M3 is multiplied by: 24 layers of 12 x 1024 x 1024."""
    assert "bge-m3" in group.launch.model
    return 24 * 12 * 1024**2


def test_a_pooling_model_is_not_asked_for_tokens():
    """The core refuses a number of output tokens for a model that generates none."""
    question = embedding_question(("H100-SXM", 1))
    with pytest.raises(InvalidInput, match="output_tokens"):
        answer(
            replace(question, traffic=replace(question.traffic, output=FixedLength(tokens=128))),
            AnalyticPredictor(),
        )
