"""Power and energy of plans, against figures that others measured."""

from dataclasses import replace

import pytest

from budsim.api.inputs import predictor_of, question_of
from budsim.hardware_ops.cluster_file import read_cluster_file
from budsim.hardware_ops.power import PowerSite, host_w
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.energy import energy_of, group_device_w
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import ParallelLayout, Question

# ML.ENERGY leaderboard v3 (ml.energy/leaderboard, December 2025), lm-arena-chat: model, GPU, tensor
# parallelism, requests in flight, mean output tokens, W of one GPU, J of all GPUs an output token.
MEASURED = (
    ("meta-llama/Llama-3.1-8B-Instruct", "H100-SXM", 1, 8, 389, 486, 0.455),
    ("meta-llama/Llama-3.1-8B-Instruct", "H100-SXM", 1, 256, 404, 691, 0.077),
    ("meta-llama/Llama-3.1-70B-Instruct", "H100-SXM", 4, 64, 352, 500, 0.797),
    ("meta-llama/Llama-3.1-70B-Instruct", "H100-SXM", 4, 512, 350, 623, 0.421),
    ("meta-llama/Llama-3.1-70B-Instruct", "B200-SXM", 2, 64, 346, 905, 0.697),
    ("Qwen/Qwen3-32B", "B200-SXM", 1, 128, 634, 976, 0.209),
)
CLUSTER = "clusters: [{name: c, nodes: [{name: n, devices: [{device: %s, count: %d}]}]}]"


def served(tmp_path, model, device, tp, requests, tokens) -> tuple[Question, ReplicaGroup]:
    """Return the question of a measured row, and the replica that answers it fastest."""
    path = tmp_path / "c.yaml"
    path.write_text(CLUSTER % (device, tp))
    traffic = Traffic.closed(concurrency=requests, input_tokens=190, output_tokens=tokens)
    asked = question_of(model, traffic, None, read_cluster_file(path), {"engines": ("vllm",)})
    question = replace(asked, layout=ParallelLayout(tp=tp, pp=1))
    plans = answer(question, predictor_of()).plans
    return question, min(plans, key=lambda plan: plan.cost_per_million_tokens_usd).groups[0]


@pytest.mark.parametrize(("model", "device", "tp", "requests", "tokens", "watt", "joule"), MEASURED)
def test_power_and_energy_are_as_measured(
    tmp_path, model, device, tp, requests, tokens, watt, joule
):
    """Power of a GPU is within 20 %, energy of an output token within 35 %."""
    question, group = served(tmp_path, model, device, tp, requests, tokens)
    power = group_device_w(question, group)
    assert power == pytest.approx(watt, rel=0.20)
    per_s = group.replicas * group.service.requests_per_s.value * tokens
    assert tp * power / per_s == pytest.approx(joule, rel=0.35)


def test_energy_follows_from_power_and_tokens(tmp_path):
    """PUE multiplies the power, the grid's intensity the CO2."""
    question, group = served(tmp_path, "meta-llama/Llama-3.1-8B-Instruct", "H100-SXM", 1, 8, 389)
    bare = replace(question, power_site=PowerSite(pue=1.0, g_co2_per_kwh=100.0))
    found = energy_of(bare, [group])
    assert found.power_w == pytest.approx(group_device_w(bare, group) + host_w(group.config.device))
    tokens_per_h = group.service.requests_per_s.value * 389 * 3600
    assert found.kwh_per_million_tokens == pytest.approx(found.power_w * 1e3 / tokens_per_h)
    assert found.g_co2_per_million_tokens == pytest.approx(100 * found.kwh_per_million_tokens)
    twice = energy_of(replace(bare, power_site=PowerSite(pue=2.0)), [group])
    assert twice.power_w == pytest.approx(2 * found.power_w)
