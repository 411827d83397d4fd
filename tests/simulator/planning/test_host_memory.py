"""Host memory for KV cache: each device's part, reasons for none, and what it gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.performance.lengths import FixedLength
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet, PrefixShare
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import ServingOption, one_replica_each
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.serving_options import serving_options
from budsim.simulator.planning.tier_effects import tier_effects
from tests.simulator.planning.returning_questions import (
    NODE,
    assert_model_is_refused,
    returning_question,
    returning_traffic,
)

TRAFFIC = returning_traffic(5e6)


def asked(offload_gib: float, **node: object) -> Question:
    """Return a question of 5 million tokens of prefixes with host memory."""
    return replace(returning_question(5e6, **node), kv_offload_bytes=offload_gib * GIB)


def first_option(question: Question) -> ServingOption:
    """Return the first engine and device that can serve a question."""
    cluster = question.clusters[0]
    groups = usable(cluster, question.mode, skip_master_cpus=True).groups
    return serving_options(question, cluster, groups)[0][0]


def test_each_device_gets_its_part_and_the_command_says_so() -> None:
    """400 GiB on four devices: 100 GiB a device, in vLLM's flag for all of a replica."""
    best = answer(asked(400.0), AnalyticPredictor()).plans[0].groups[0]
    devices = best.config.tp * best.config.pp
    assert best.config.kv_offload_bytes == devices * 100 * GIB
    assert best.launch.args["kv-offloading-size"] == pytest.approx(devices * 100)
    assert best.launch.args["kv-offloading-backend"] == "native"


def test_the_plan_tells_what_host_memory_gains() -> None:
    """Prefixes are found on the host, and TTFT without it is longer."""
    group = answer(asked(1600.0), AnalyticPredictor()).plans[0].groups[0]
    effect = group.explanation.host_tier
    assert effect is not None
    assert effect.host_share > 0.3
    assert effect.ttft_without_s > 1.2 * group.service.ttft_s.value


def test_at_a_rate_the_cache_is_as_full_as_the_requests_in_flight_make_it() -> None:
    """Eight prompts that 30 requests a second repeat: 0.6 s each, 18 of them are in flight.

    With the 1,024 that may run there were no room for their prompts, and each took 20 s.
    """
    count = 200
    recorded = Trace(
        send_s=np.arange(count) / 30.0,
        prompt_tokens=np.full(count, 1200),
        output_tokens=np.full(count, 50),
        reused_from=np.maximum(np.arange(count) - 8, -1),
        reused_tokens=np.where(np.arange(count) >= 8, 1190, 0),
    )
    lengths = {"prompt": FixedLength(tokens=1200), "output": FixedLength(tokens=50)}
    question = replace(returning_question(5e6), traffic=Traffic(arrivals=recorded, **lengths))
    scoring = Scoring(question, (first_option(question),))
    many = replace(
        one_replica_each(scoring.options[0], [(1, 1)], 1024), max_num_seqs=np.array([1024])
    )
    _, predictions = scoring.predict(many, AnalyticPredictor())
    assert predictions.service.e2e_s[0] < 0.7
    (effect,) = tier_effects(scoring, many, np.ones(1), AnalyticPredictor())
    assert effect is not None
    assert effect.device_share > 0.95


def test_without_a_set_there_is_nothing_to_tell() -> None:
    """Prefixes that are always found need no host."""
    question = asked(0.0)
    plain = replace(
        question, traffic=Traffic.closed(concurrency=4, input_tokens=9, output_tokens=9)
    )
    assert answer(plain, AnalyticPredictor()).plans[0].groups[0].explanation.host_tier is None


def test_no_more_than_the_host_has_is_taken() -> None:
    """20,000 GiB asked of 512 are the 502 that leave 10 to others, 125.5 a device; it is told."""
    found = answer(asked(20_000.0, host_memory_gb=512), AnalyticPredictor())
    best = found.plans[0].groups[0].config
    assert best.kv_offload_bytes == best.tp * best.pp * 125.5 * GIB
    told = "nodes offer 502 of the 20000 GiB of host memory asked for KV cache"
    assert any(each.reason.startswith(told) for each in found.rejections)


def test_a_host_with_too_little_is_a_reason_and_the_rest_is_answered() -> None:
    """8 GiB are all left to others; the plan goes without, and the node is named."""
    found = answer(asked(100.0, host_memory_gb=8), AnalyticPredictor())
    assert found.plans[0].groups[0].config.kv_offload_bytes == 0.0
    assert not any("kv-offloading" in flag for flag in found.plans[0].groups[0].launch.args)
    told = "KV cache leaves less than 10 GiB of the 8 GiB of host memory of gpu"
    assert told in [each.reason for each in found.rejections]


def test_host_memory_that_changes_nothing_is_told() -> None:
    """Without the tokens of all prefixes no cache ever drops one."""
    always = replace(asked(100.0), traffic=replace(TRAFFIC, prefix=PrefixShare(share=0.9)))
    reasons = [each.reason for each in answer(always, AnalyticPredictor()).rejections]
    assert any(each.startswith("host memory changes nothing") for each in reasons)


def test_all_prefixes_together_hold_at_least_one() -> None:
    """7,200 shared tokens of each request do not come from 10."""
    with pytest.raises(InvalidInput, match=r"prefix_set_tokens: 10 are .* expected at least 7200"):
        replace(asked(0.0), traffic=replace(TRAFFIC, prefix=PrefixSet(share=0.9, tokens=10)))


def test_listed_processors_bound_the_host_memory_too() -> None:
    """Two sockets of 256 GB beside the GPUs are 512 GiB."""
    xeon = {"device": "Xeon Platinum 8480+", "sockets": 2, "memory_gb": 512}
    devices = [*NODE["devices"], xeon]  # type: ignore[misc]
    found = answer(asked(600.0, devices=devices), AnalyticPredictor())
    assert any("offer 502 of the 600 GiB" in each.reason for each in found.rejections)


def test_an_engine_without_a_host_tier_is_named() -> None:
    """VLLM on Gaudi serves without."""
    gaudi = [{"device": "Gaudi3", "count": 4}]
    found = answer(asked(400.0, devices=gaudi), AnalyticPredictor())
    assert found.plans
    reasons = [each.reason for each in found.rejections]
    assert "vllm keeps no KV cache in host memory on HPU" in reasons


@pytest.mark.parametrize("model", ["BAAI/bge-reranker-v2-m3", "Qwen/Qwen3-Next-80B-A3B-Instruct"])
def test_models_without_caches_to_find_again_are_refused(model: str) -> None:
    """Encoders keep none, and recurrent states are not offloaded."""
    assert_model_is_refused(asked(9.0), model, field="kv_offload_gib")


def test_a_negative_size_is_refused() -> None:
    """The field is named as callers spell it."""
    with pytest.raises(InvalidInput) as error:
        asked(-1.0)
    assert error.value.field == "kv_offload_gib"


def test_replicas_divide_the_set_where_a_router_knows_prefixes() -> None:
    """Four replicas meet a quarter of the prefixes each, or each meets all."""
    for by_prefix, tokens in ((False, 5e6), (True, 1.25e6)):
        prefix = PrefixSet(share=0.9, tokens=5e6, by_prefix=by_prefix)
        question = replace(asked(0.0), traffic=replace(TRAFFIC, prefix=prefix))
        option = first_option(question)
        four = replace(one_replica_each(option, [(1, 1)], 16), replicas=np.array([4]))
        found = Scoring(question, (option,)).candidates(four).prefix_set_tokens
        assert found == pytest.approx(tokens)
