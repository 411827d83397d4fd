"""What workers of two pools hold beside prompts: adapters, images, prefixes; and who may pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.units import GIB
from budsim.engine_ops.shared.offload import host_cache_gib
from budsim.model_ops.media import Media
from budsim.performance.items import with_items
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet
from budsim.simulator.planning.answer import _cluster_search, answer
from budsim.simulator.planning.pool_plans import PoolSearch
from tests.simulator.planning.test_pool_plans import asked, reasons
from tests.simulator.situations import make_cluster


def test_adapters_that_are_asked_for_take_memory_in_both_pools() -> None:
    """Each worker has slots for four of them: its command says so, and its cache is smaller."""
    cluster, small = make_cluster((("H100-SXM", 2),)), "meta-llama/Llama-3.1-8B-Instruct"
    plain, adapted = (
        answer(asked(cluster, model=small, targets={}, max_loras=count), AnalyticPredictor())
        for count in (0, 4)
    )
    for before, after in zip(plain.plans[0].groups, adapted.plans[0].groups, strict=True):
        assert after.config.max_loras == 4
        assert after.launch.args["enable-lora"]
        assert after.memory.kv_cache_bytes < before.memory.kv_cache_bytes


def test_images_are_encoded_by_prefill_workers() -> None:
    """The encoder adds to TTFT, beside as many tokens of text; both pools know the limits."""
    model, cluster = "Qwen/Qwen2.5-VL-7B-Instruct", make_cluster((("H100-SXM", 2),))
    question = asked(cluster, model=model, concurrency=8, targets={}, engines=frozenset({"vllm"}))
    media = Media(images=2, width=1024, height=768)
    seen = with_items(question.architecture, replace(question.traffic, media=media))
    shown = replace(question, traffic=seen)
    same = question.traffic.input_tokens + seen.item_tokens
    written = asked(
        cluster,
        model=model,
        concurrency=8,
        targets={},
        engines=frozenset({"vllm"}),
        input_tokens=round(same),
    )
    images, words = (answer(each, AnalyticPredictor()).plans[0].groups for each in (shown, written))
    prefill, decode = images
    assert prefill.explanation.encoder_s > 0.0
    assert decode.explanation.encoder_s == 0.0
    assert prefill.service.ttft_s.value > words[0].service.ttft_s.value
    for group in images:
        assert "limit-mm-per-prompt" in group.launch.args


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_prefill_workers_keep_prefixes_in_host_memory(engine: str) -> None:
    """Of 5 million tokens of prefixes a device holds few; the host's share shortens TTFT."""
    cluster, small = make_cluster((("H100-SXM", 2),)), "meta-llama/Llama-3.1-8B-Instruct"
    question = asked(cluster, model=small, targets={}, concurrency=32, engines=frozenset({engine}))
    traffic = replace(question.traffic, prefix=PrefixSet(share=0.8, tokens=5e6))
    question = replace(question, traffic=traffic, kv_offload_bytes=500 * GIB)
    prefill, decode = answer(question, AnalyticPredictor()).plans[0].groups
    tier = prefill.explanation.host_tier
    assert tier is not None
    assert tier.host_bytes == pytest.approx(250 * GIB, rel=0.01)
    assert 0.0 < tier.device_share < tier.host_share
    assert prefill.service.ttft_s.value < tier.ttft_without_s
    assert host_cache_gib(prefill.launch.args, 1) == pytest.approx(250, rel=0.01)
    assert host_cache_gib(decode.launch.args, 1) == 0.0
    assert decode.explanation.host_tier is None


def test_routers_of_pools_send_no_prompt_by_its_prefix() -> None:
    """What is asked of the router is refused by name."""
    question = asked(make_cluster((("H100-SXM", 8),)))
    prefix = PrefixSet(share=0.8, tokens=5e6, by_prefix=True)
    told = reasons(replace(question, traffic=replace(question.traffic, prefix=prefix)))
    assert "route_by_prefix" in told


@pytest.mark.parametrize(("engine", "equal"), [("sglang", True), ("vllm", False)])
def test_caches_of_windows_need_equal_workers_in_sglang(engine: str, equal: bool) -> None:
    """GPT-OSS has windows: SGLang hands its caches over between equal attention ranks only."""
    question = asked(
        make_cluster((("H100-SXM", 8),)),
        model="openai/gpt-oss-20b",
        targets={},
        engines=frozenset({engine}),
    )
    search = _cluster_search(question, question.clusters[0])
    pools = PoolSearch(question=question, cluster=question.clusters[0], options=search.options)
    pair = pools._judged(0, 0)
    assert pair is not None
    prefill, decode = pair.judged.paired.prefill.choices, pair.judged.paired.decode.choices
    assert bool((prefill.tp // prefill.dp == decode.tp // decode.dp).all()) is equal
