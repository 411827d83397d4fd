"""A question that exists can be asked: whatever cannot is refused when it is made."""

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixShare
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.question import partition_name
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

ONE = make_cluster((("H100-SXM", 1),))


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("input_tokens", "prompt"),
        ("output_tokens", "output_tokens"),
        ("concurrency", "concurrency"),
    ],
)
def test_traffic_of_nothing_is_refused_by_name(field, word):
    """No prompt, no answer or no request is no traffic."""
    with pytest.raises(InvalidInput, match=word):
        make_question(ONE, **{field: 0})


@pytest.mark.parametrize("name", ["itl_p99_s", "tpot_p50_s"])
def test_targets_on_gaps_need_answers_of_two_tokens(name):
    """One token has no gap behind it, whatever the cluster; its TTFT can be bounded."""
    gaps, first = (
        {"percentiles": (PercentileTarget.named(each, 0.02),)} for each in (name, "ttft_p99_s")
    )
    with pytest.raises(InvalidInput, match=f"{name}: bounds gaps .* answers have one token"):
        make_question(ONE, output_tokens=1, targets=gaps)
    assert make_question(ONE, output_tokens=2, targets=gaps).targets.bound_gaps
    assert make_question(ONE, output_tokens=1, targets=first).targets.bound_latency


def test_a_longer_sequence_than_the_context_is_refused():
    """Llama-3.1 reads 131,072 tokens; a cap of 4,096 tokens is heeded too."""
    with pytest.raises(InvalidInput, match="131072"):
        make_question(ONE, input_tokens=131_000, output_tokens=100)
    with pytest.raises(InvalidInput, match="4096"):
        make_question(ONE, input_tokens=4_000, output_tokens=100, max_context_tokens=4096)


def test_unknown_engines_and_adapters_are_refused():
    """An engine we do not have, and adapters of a rank no engine has kernels for."""
    with pytest.raises(NotFound, match="vllm"):
        make_question(ONE, engines=frozenset({"vlm"}))
    with pytest.raises(InvalidInput, match="rank"):
        make_question(ONE, max_loras=1, max_lora_rank=17)
    with pytest.raises(InvalidInput, match="max_lora_rank: is given without adapters"):
        make_question(ONE, max_lora_rank=64)


def test_changing_a_question_checks_it_again():
    """A what-if of no requests is refused like a question of none."""
    with pytest.raises(InvalidInput, match="concurrency"):
        make_question(ONE).with_concurrency(0)


def test_a_partition_needs_its_own_cluster_only():
    """Of two clusters a partition's question keeps the one its name begins with."""
    question = make_question(ONE, replace(ONE, cluster_id="other"))
    kept = question.for_partition(partition_name("other", "H100-SXM", "vllm", "0"))
    assert [cluster.cluster_id for cluster in kept.clusters] == ["other"]


def test_a_trace_without_duration_has_no_rate():
    """Two requests in the same instant: nobody can say how many come in a second."""
    same = Trace(
        send_s=np.zeros(2),
        prompt_tokens=np.full(2, 100),
        output_tokens=np.full(2, 20),
        reused_from=np.full(2, -1),
        reused_tokens=np.zeros(2, dtype=np.int64),
    )
    lengths = {"prompt": FixedLength(tokens=100), "output": FixedLength(tokens=20)}
    question = make_question(make_cluster((("L4", 1),)))
    with pytest.raises(InvalidInput, match="same instant"):
        replace(question, traffic=Traffic(arrivals=same, **lengths))


@pytest.mark.parametrize("model", ["openai/whisper-large-v3", "BAAI/bge-m3"])
def test_prefixes_that_no_engine_keeps_are_refused(model):
    """Servers of them start with their cache of prefixes off."""
    question = make_question(ONE, model=model, output_tokens=0 if "bge" in model else 100)
    shared = replace(question.traffic, prefix=PrefixShare(share=0.5))
    with pytest.raises(InvalidInput, match=r"prefix_hits: .* keeps no prefixes"):
        replace(question, traffic=shared)


def test_whisper_has_no_cache_beyond_the_device():
    """What is not found again is not worth keeping elsewhere."""
    with pytest.raises(InvalidInput, match=r"kv_offload_gib: .* keeps no prefixes"):
        make_question(ONE, model="openai/whisper-large-v3", kv_offload_bytes=1e11)
