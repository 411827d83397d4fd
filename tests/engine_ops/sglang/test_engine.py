"""SGLang: its own names for the same ideas, and what it needs on CPU."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops.sglang import Sglang
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import EMBEDDING, LLAMA, MIXTURE, device, replica

SGLANG = Sglang()


def test_a_cuda_replica_is_started_by_launch_server() -> None:
    """The command names the model path, then every argument as SGLang spells it."""
    launch = SGLANG.launch(
        LLAMA, replica("H100-SXM", tp=2, pp=2, memory_fraction=0.88, max_num_seqs=64)
    )
    assert " ".join(launch.command) == (
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct "
        "--host 0.0.0.0 --tp-size 2 --disable-overlap-schedule --pp-size 2 "
        "--context-length 2048 --mem-fraction-static 0.88 --max-running-requests 64 "
        "--dtype bfloat16 --kv-cache-dtype auto --chunked-prefill-size 8192 --schedule-policy lpm"
    )


def test_attention_ranks_and_experts_keep_the_whole_size() -> None:
    """SGLang counts all devices in tp-size and says how attention and experts share them."""
    args = SGLANG.launch(MIXTURE, replica("H100-SXM", tp=8, dp=4, ep=8)).args
    assert (args["tp-size"], args["attn-dp-size"], args["ep-size"]) == (8, 4, 8)


def test_limits_of_each_attention_rank_are_given_summed() -> None:
    """SGLang splits running requests and chunks among attention ranks.

    With four ranks it gets four times the limits of one.
    """
    args = SGLANG.launch(MIXTURE, replica("H100-SXM", tp=8, dp=4, ep=8)).args
    assert (args["max-running-requests"], args["chunked-prefill-size"]) == (4 * 256, 4 * 8192)


def test_uncut_prompts_and_no_prefix_cache_are_said_in_its_words() -> None:
    """-1 switches chunking off; without the radix cache requests come first, first served."""
    args = SGLANG.launch(
        LLAMA, replica("H100-SXM", chunked_prefill=False, prefix_caching=False)
    ).args
    assert args["chunked-prefill-size"] == -1
    assert args["max-prefill-tokens"] == 8192
    assert args["disable-radix-cache"] is True
    assert args["schedule-policy"] == "fcfs"


def test_whisper_takes_prompts_whole_and_keeps_none() -> None:
    """Its 1,500 positions are part of the prompt, which SGLang 0.5.23 must not cut.

    It switches the radix cache off by itself; on AMD's devices it has no attention for Whisper.
    """
    whisper = resolve_model("openai/whisper-large-v3")
    sound = Media(audio_s=30.0)
    config = replica("H100-SXM", context_tokens=1_700, media=sound, kv_offload_bytes=1e11)
    args = SGLANG.launch(whisper, config).args
    assert (args["context-length"], args["chunked-prefill-size"]) == (1_700, -1)
    assert args["max-prefill-tokens"] == 8192
    assert args["disable-radix-cache"] is True
    assert args["schedule-policy"] == "fcfs"
    assert "enable-hierarchical-cache" not in args
    with pytest.raises(InvalidInput, match="WhisperForConditionalGeneration"):
        SGLANG.launch(whisper, replica("MI300X", context_tokens=1_700, media=sound))


def test_fp8_cache_is_e4m3() -> None:
    """SGLang has no plain fp8 for the cache."""
    assert (
        SGLANG.launch(LLAMA, replica("H100-SXM", kv_precision=Precision.FP8)).args["kv-cache-dtype"]
        == "fp8_e4m3"
    )


def test_embeddings_are_declared() -> None:
    """An embedding model is launched as one and takes its prompts whole.

    An encoder also gets the backend that attends in both directions.
    """
    encoder = SGLANG.launch(EMBEDDING, replica("H100-SXM", context_tokens=512)).args
    decoder = SGLANG.launch(
        resolve_model("Qwen/Qwen3-Embedding-4B"), replica("H100-SXM", max_num_batched_tokens=1024)
    ).args
    assert all(
        (args["is-embedding"], args["chunked-prefill-size"]) == (True, -1)
        for args in (encoder, decoder)
    )
    assert decoder["max-prefill-tokens"] == 2048, "the longest prompt"
    assert (encoder["attention-backend"], encoder["disable-radix-cache"]) == ("triton", True)
    assert not {"attention-backend", "disable-radix-cache"} & set(decoder)


def test_cpus_need_amx() -> None:
    """Sapphire Rapids has AMX, Milan and Graviton have not."""
    assert SGLANG.why_not(LLAMA, device("Xeon Platinum 8480+")) is None
    assert "AMX" in str(SGLANG.why_not(LLAMA, device("EPYC 7713")))
    assert "AMX" in str(SGLANG.why_not(LLAMA, device("Graviton4")))


def test_a_cpu_replica_binds_its_ranks() -> None:
    """Two ranks take 28 of 56 cores of a socket each; the engine's CPU backend is switched on."""
    launch = SGLANG.launch(LLAMA, replica("Xeon Platinum 8480+", tp=2, cores=28))
    assert launch.envs == {
        "SGLANG_USE_CPU_ENGINE": "1",
        "SGLANG_CPU_OMP_THREADS_BIND": "0-27|56-83",
    }
    assert launch.args["device"] == "cpu"


def test_attention_ranks_only_where_the_models_code_has_them() -> None:
    """In SGLang attention ranks share the experts of Qwen3, but not those of Mixtral.

    Both engines spread the experts of either model.
    """
    mixtral = resolve_model("mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert SGLANG.dp_sizes(MIXTURE, 8) == (1, 2, 4, 8)
    assert SGLANG.dp_sizes(mixtral, 8) == (1,)
    assert SGLANG.ep_sizes(mixtral, 8) == (1, 8)
    with pytest.raises(InvalidInput, match="no attention ranks for MixtralForCausalLM"):
        SGLANG.launch(mixtral, replica("H100-SXM", tp=8, dp=2))
