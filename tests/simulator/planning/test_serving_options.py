"""Serving options: which caches are tried, and which layouts a quantized model has."""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.precision import Precision
from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixShare
from budsim.simulator.planning.answer import answer
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


def test_prefixes_are_not_counted_where_the_command_turns_them_off() -> None:
    """VLLM keeps none of MLA on processors without AMX: the plan is that of unlike prompts.

    A note says so, also beside host memory for what would be found.
    """
    question = make_question(
        make_cluster((("EPYC 9554", 2),)),
        model="deepseek-ai/DeepSeek-V2-Lite-Chat",
        concurrency=2,
        engines=frozenset({"vllm"}),
        analytic_only=True,
    )
    shared = replace(question.traffic, prefix=PrefixShare(share=0.5))
    alike = replace(question, traffic=shared, kv_offload_bytes=1e11)
    plain, found = (answer(each, AnalyticPredictor()) for each in (question, alike))
    assert found.plans[0].groups[0].service == plain.plans[0].groups[0].service
    assert found.plans[0].groups[0].launch.args["enable-prefix-caching"] is False
    notes = [rejection.reason for rejection in found.rejections]
    assert len([note for note in notes if "vllm keeps no prefixes of" in note]) == 1
