"""Memory as engines report it at start, and the rules by which they divide a device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import NotFound
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops.profiles import memory_rule, profile_for
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.drafters import mtp_layer
from budsim.performance.physics.memory import adapter_bytes, captured_sizes, memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import MemoryUse
from budsim.performance.speculation import Method, Speculation
from tests.performance.physics.startups import DOCUMENT, StartUp, document, start_ups
from tests.performance.populations import LLAMA_70B, population

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
KNOWN = [each for each in start_ups() if "outside" not in each.fact]
MISSED = [each for each in start_ups() if "outside" in each.fact]


def error(each: StartUp, figure: str) -> float | None:
    """Return the relative error of one figure, None where the log does not give it."""
    measured = each.measured(figure)
    return None if measured is None else each.modelled()[figure] / measured - 1.0


def use(**columns: object) -> MemoryUse:
    """Return the memory of one candidate, Llama-3.1-70B on eight H100s unless told otherwise."""
    return memory_use(prepare(population(**columns)))  # type: ignore[arg-type]


@pytest.mark.parametrize("each", KNOWN, ids=lambda each: each.name)
def test_cache_and_weights_are_what_the_engine_logged(each: StartUp) -> None:
    """Cache memory and tokens within 5 %, weights within 3 %."""
    for figure, bound in (("cache_gib", 0.05), ("tokens", 0.05), ("weights_gib", 0.03)):
        assert abs(error(each, figure) or 0.0) <= bound, figure


@pytest.mark.parametrize("each", MISSED, ids=lambda each: each.name)
def test_figures_we_miss_are_missed_for_the_reason_given(each: StartUp) -> None:
    """A start-up marked as outside has a reason and is still outside.

    No mark outlives its cause.
    """
    assert len(str(each.fact["outside"])) > 40
    assert (
        max(abs(error(each, figure) or 0.0) for figure in ("cache_gib", "tokens", "weights_gib"))
        > 0.05
    )


def test_start_ups_cover_models_devices_and_layouts() -> None:
    """Ten models, six devices, both engines and every kind of layout stand behind the figures.

    Each start-up has a source.
    """
    facts = [each.fact for each in KNOWN if each.measured("cache_gib") or each.measured("tokens")]
    assert len(facts) >= 50
    assert len({fact["model"] for fact in facts}) >= 30
    assert {fact["device"] for fact in facts} >= {
        "H100-SXM",
        "H200-SXM",
        "A100-80GB",
        "A100-40GB",
        "MI355X",
        "Gaudi2",
    }
    assert {fact["engine"] for fact in facts} >= {"vllm", "sglang"}
    assert all(str(fact["source"]).strip() for fact in facts)
    assert max(int(str(fact.get("tp", 1))) for fact in facts) == 8
    assert max(int(str(fact.get("pp", 1))) for fact in facts) == 4


def test_the_table_in_the_documents_is_of_this_tree() -> None:
    """docs/memory.md states the error of every start-up as it is.

    Write it with `python -m tests.performance.physics.startups`.
    """
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_a_larger_token_budget_shrinks_the_cache_of_vllm_alone() -> None:
    """VLLM takes the activation peak out of its fraction.

    SGLang's fraction holds weights and cache only.
    """
    for engine, shrinks in (("vllm", True), ("sglang", False)):
        cache = use(
            model=LLAMA_8B, tp=1, engine=engine, token_budget=[2048, 16384], memory_fraction=0.85
        ).kv_bytes
        assert (cache[1] < cache[0]) == shrinks


def test_activations_that_do_not_fit_beside_sglangs_fraction_come_out_of_its_cache() -> None:
    """What is not left beside the fraction cannot be used twice."""
    memory = use(
        model=LLAMA_8B, tp=1, engine="sglang", token_budget=131072, memory_fraction=[0.7, 0.99]
    )
    parts = memory.weight_bytes + memory.activation_bytes + memory.reserved_bytes + memory.kv_bytes
    assert np.allclose(parts, memory.budget_bytes)
    assert memory.budget_bytes[1] <= 79.15 * GIB


def test_gaudi_gives_a_share_of_what_is_left_to_graphs() -> None:
    """Its cache is (size - weights - activations) x fraction x 0.9."""
    table = population(model=LLAMA_8B, device="Gaudi2", tp=1, memory_fraction=0.9)
    memory = memory_use(prepare(replace(table, engines=(profile_for("vllm", DeviceKind.HPU),))))
    left = 94.6 * GIB - memory.weight_bytes[0] - memory.activation_bytes[0]
    assert memory.kv_bytes[0] == pytest.approx(left * 0.9 * 0.9, rel=1e-6)


def test_stages_of_a_pipeline_hold_what_is_theirs() -> None:
    """Of Llama-3.1-8B in 4 stages the fullest has 8 layers and the table of inputs or the head.

    That is more than a quarter of everything.
    """
    whole = use(model=LLAMA_8B, tp=1, pp=1).weight_bytes[0]
    quarter = use(model=LLAMA_8B, tp=1, pp=4).weight_bytes[0]
    head, rotary = 128_256 * 4096 * 2, 131_072 * 128 * 2
    assert quarter == pytest.approx((whole - 2 * head - rotary) / 4 + head + rotary, rel=1e-3)


def test_layers_that_do_not_divide_make_one_stage_hold_more() -> None:
    """Qwen3-30B-A3B has 48 layers: of 5 stages one caches 10 layers' keys and values."""
    memory = use(model="Qwen/Qwen3-30B-A3B", tp=1, pp=[1, 5])
    assert memory.kv_bytes_per_token[1] == pytest.approx(memory.kv_bytes_per_token[0] * 10 / 48)


def test_windows_hold_their_tokens_in_vllm_and_a_fixed_share_in_sglang() -> None:
    """gpt-oss at 16,384 tokens: half the layers keep 128 of them in vLLM, 0.8 of all in SGLang."""
    lengths = {
        "model": "openai/gpt-oss-120b",
        "tp": 1,
        "precision": Precision.MXFP4,
        "input_tokens": 16_000,
        "output_tokens": 384,
    }
    layer = 2 * 8 * 64 * 2
    assert use(engine="vllm", **lengths).kv_bytes_per_token[0] == pytest.approx(
        18 * layer * (1 + 128 / 16_384)
    )
    assert use(engine="sglang", **lengths).kv_bytes_per_token[0] == pytest.approx(18 * layer * 1.8)


def test_groups_of_layers_are_padded_to_one_size() -> None:
    """gemma-3-27b has 10 full and 52 windowed layers.

    VLLM allocates six groups of ten windowed ones.
    """
    short = {"model": "google/gemma-3-27b-it", "tp": 1, "input_tokens": 64, "output_tokens": 64}
    layer = 2 * 16 * 128 * 2
    assert use(engine="vllm", **short).kv_bytes_per_token[0] == 70 * layer
    assert use(engine="sglang", **short).kv_bytes_per_token[0] == 62 * layer


def test_recurrent_states_are_counted_as_each_engine_keeps_them() -> None:
    """Qwen3-Next: vLLM keeps two 16-bit states a sequence for prefix caching.

    SGLang sets 0.9 of its keys' memory aside.
    """
    long = {
        "model": "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "tp": 1,
        "input_tokens": 100_000,
        "output_tokens": 100_000,
    }
    keys, state = 12 * 2 * 2 * 256 * 2, 36 * (32 * 128 * 128 + 3 * 8192) * 2
    assert use(engine="vllm", **long).kv_bytes_per_token[0] == pytest.approx(
        keys + 2 * state / 200_000
    )
    assert use(engine="sglang", **long).kv_bytes_per_token[0] == pytest.approx(1.9 * keys)


def test_keys_and_values_are_repeated_and_latents_are_whole_on_every_rank() -> None:
    """Two KV heads on eight ranks take what they take on two; an MLA latent is never split."""
    grouped = use(model="Qwen/Qwen2.5-3B-Instruct", tp=[2, 8]).kv_bytes_per_token
    latent = use(
        model="deepseek-ai/DeepSeek-R1", precision=Precision.FP8, tp=[1, 8]
    ).kv_bytes_per_token
    assert grouped[0] == grouped[1]
    assert latent[0] == latent[1]


def test_mxfp4_experts_are_padded_to_what_the_kernels_multiply() -> None:
    """gpt-oss-20b's 2,880 columns become 3,072 and its 2,880 rows 2,944.

    13.64 GiB measured instead of 12.8.
    """
    memory = use(model="openai/gpt-oss-20b", tp=1, precision=Precision.MXFP4)
    assert memory.weight_bytes[0] / GIB == pytest.approx(13.64, rel=0.01)


def test_encoders_keep_no_cache() -> None:
    """BERT attends within its prompt.

    The least cache there is, and as many prompts at a time as before.
    """
    encoder = use(model="BAAI/bge-m3", tp=1, output_tokens=0)
    assert encoder.kv_bytes[0] == GIB
    assert encoder.kv_capacity_tokens[0] * encoder.kv_bytes_per_token[0] > 60 * GIB
    assert use(model="Qwen/Qwen3-Embedding-8B", tp=1, output_tokens=0).kv_bytes[0] > 40 * GIB


def test_adapters_take_a_slot_in_every_projection() -> None:
    """LoRA of rank 16 on Llama-3.1-8B has 41,943,040 parameters.

    Two slots take them twice, split where the matrix is.
    """
    table = population(model=LLAMA_8B, tp=[1, 2])
    adapted = prepare(replace(table, adapter_ranks=np.array([2.0 * 16, 2.0 * 16])))
    taken = adapter_bytes(adapted)
    assert taken[0] == 2 * 41_943_040 * 2
    assert taken[0] / 2 < taken[1] < taken[0]
    assert (memory_use(adapted).kv_bytes < memory_use(prepare(table)).kv_bytes).all()


def test_graphs_are_captured_for_51_sizes_at_most() -> None:
    """1, 2, 4, then by 8 and by 16 up to 512."""
    assert captured_sizes(np.array([1024.0, 256.0, 4.0])).tolist() == [51.0, 51.0, 4.0]


def test_older_versions_divide_memory_as_they_did() -> None:
    """Sampling cost vLLM more than twice the logits before 0.17.

    Graphs come out of the fraction since 0.21.
    """
    old, fused, new = (memory_rule("vllm", version) for version in ("0.16.0", "0.19.0", "0.21.0"))
    assert old.logit_bytes > 2 * fused.logit_bytes > 2 * new.logit_bytes
    assert (fused.graph_bytes, new.graph_bytes > 0) == (0.0, True)
    assert new.in_flight_steps == 1
    assert memory_rule("vllm", "0.26.0").in_flight_steps == 2
    assert memory_rule("vllm") == memory_rule("vllm", "0.26.0")


def test_versions_nobody_read_are_refused() -> None:
    """VLLM 0.6 ran another engine; its rule is not guessed."""
    with pytest.raises(NotFound, match=r"vllm 0\.6"):
        memory_rule("vllm", "0.6.3")


def test_memory_in_use_by_others_is_never_taken() -> None:
    """A replica on a time-sliced device gets what is free, whatever its fraction."""
    memory = use(model=LLAMA_70B, tp=8, memory_free_bytes=30 * GIB, memory_fraction=0.95)
    assert memory.budget_bytes[0] == 30 * GIB


def test_a_draft_model_takes_memory_and_cache() -> None:
    """A second Llama 8B as drafter doubles weights and the cache of each token."""
    plain = population(model="meta-llama/Llama-3.1-8B-Instruct", tp=1)
    way = Speculation(method=Method.DRAFT_MODEL, draft_tokens=3, drafter=plain.architectures[0])
    guessing = replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
    alone, both = (memory_use(prepare(each)) for each in (plain, guessing))
    assert both.weight_bytes == pytest.approx(2.0 * alone.weight_bytes, rel=0.01)
    assert both.kv_bytes_per_token == pytest.approx(2.0 * alone.kv_bytes_per_token)


def test_a_layer_for_guesses_shares_the_token_table() -> None:
    """The MTP layer of DeepSeek-R1 has 11.5e9 values: a 61st of the model, without its tables."""
    plain = population(model="deepseek-ai/DeepSeek-R1", tp=8, precision=Precision.FP8)
    layer = mtp_layer(plain.architectures[0])
    way = Speculation(method=Method.MTP, draft_tokens=1, drafter=layer)
    guessing = replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
    alone, both = (memory_use(prepare(each)) for each in (plain, guessing))
    more = float((both.weight_bytes - alone.weight_bytes)[0])
    assert more == pytest.approx(11.5e9 / 8.0, rel=0.05)
