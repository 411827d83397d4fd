"""Serving options: which caches are tried, and which layouts a quantized model has."""

from __future__ import annotations

from budsim.commons.precision import Precision
from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.simulator.planning.choices import ServingOption
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.serving_options import serving_options
from tests.simulator.situations import make_cluster, make_question

QWEN = "Qwen/Qwen3.6-27B-FP8"


def options(cluster: Cluster, tokens: int) -> dict[str, ServingOption]:
    """Return the option of each engine for one sequence of Qwen3.6-27B-FP8, not to be quantized."""
    question = make_question(
        cluster, model=QWEN, input_tokens=tokens, output_tokens=2000, concurrency=1
    )
    groups = usable(cluster, HardwareMode.DEDICATED, skip_master_cpus=False).groups
    found, _ = serving_options(question, cluster, groups)
    return {option.engine.name: option for option in found}


def test_a_cache_in_fp8_is_offered_where_no_other_fits() -> None:
    """One A40 holds 250,000 tokens of Qwen3.6-27B-FP8 in FP8 only; 20,000 fit in 16 bit."""
    one = make_cluster((("A40", 1),))
    assert options(one, 250_000)["vllm"].kv == (Precision.BF16, Precision.FP8)
    assert options(one, 20_000)["vllm"].kv == (Precision.BF16,)
