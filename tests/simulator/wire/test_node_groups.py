"""Node groups as callers deploy them: units, costs, names, and what is left out."""

from dataclasses import replace

import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.schemas import LaunchOverrides, NodeGroup, node_group, output_share
from tests.simulator.serving import replica_group
from tests.simulator.situations import make_cluster, make_question

ASKED = make_question(make_cluster((("H100-SXM", 2),)), analytic_only=True)


def group() -> ReplicaGroup:
    """Return a group of round figures."""
    return replica_group("config", cost=1.0, error_rate=0.0)


def best(question: Question) -> ReplicaGroup:
    """Return the first group of the best plan."""
    return answer(question, AnalyticPredictor()).plans[0].groups[0]


def test_memory_is_in_gib_and_ttft_in_ms():
    """40 + 20 + 2 + 1 GiB; 0.5 s."""
    found = node_group(group(), ASKED)
    assert (found.memory, found.weight_memory_gb, found.ttft) == (63.0, 40.0, 500.0)


def test_adapters_nobody_asked_for_are_left_out_rather_than_null():
    """The deployer reads a null as a number."""
    plain = node_group(group(), ASKED)
    adapted = node_group(replace(group(), config=replace(group().config, max_loras=3)), ASKED)
    assert "max_loras" not in plain.model_dump(mode="json")
    assert adapted.model_dump(mode="json")["max_loras"] == 3
    assert NodeGroup.model_validate(plain.model_dump(mode="json")) == plain


def test_a_quantized_checkpoint_lies_beside_the_path_of_the_original():
    """Its name has the scheme behind it, in the pod too."""
    question = replace(ASKED, may_quantize=True, weight_precision="int4")
    found = node_group(best(question), question, LaunchOverrides(path="/m/llama", method="AWQ"))
    assert found.args["model"] == "/m/llama-W4A16"
    assert found.compression is not None
    assert found.compression.method == "AWQ"


def test_a_site_starts_its_own_images():
    """The image named for engine and kind of device."""
    found = node_group(group(), ASKED, LaunchOverrides(images={"vllm/cuda": "registry/vllm:1"}))
    assert found.image == "registry/vllm:1"


@pytest.mark.parametrize(("output_tokens", "share"), [(256, 0.2), (0, 1.0)])
def test_blended_cost_counts_all_tokens(output_tokens: int, share: float):
    """Of 1,024 + 256 tokens a fifth are output; pooling models are priced by what they read."""
    traffic = Traffic.closed(concurrency=1, input_tokens=1024, output_tokens=output_tokens)
    assert output_share(traffic) == pytest.approx(share)
