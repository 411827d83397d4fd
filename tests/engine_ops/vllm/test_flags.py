"""vLLM's flags: what its configuration refuses or warns of is never emitted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops.base import ServingEngine
from budsim.engine_ops.sglang import Sglang
from budsim.engine_ops.shared.families import code_arguments
from budsim.engine_ops.vllm import Vllm
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import GIB, LLAMA, device, replica

VLLM = Vllm()


def test_a_step_holds_no_more_than_all_sequences() -> None:
    """8 sequences of 100 tokens fill 800; 8,192 would only draw a warning."""
    config = replica("H100-SXM", max_num_seqs=8, context_tokens=100)
    assert VLLM.launch(LLAMA, config).args["max-num-batched-tokens"] == 800
    long = replica("H100-SXM", max_num_seqs=8, context_tokens=4096)
    assert VLLM.launch(LLAMA, long).args["max-num-batched-tokens"] == 8192


def test_a_step_of_gemma_4_holds_one_video() -> None:
    """32 frames of 78 tokens are 2,496: vLLM refuses 1,024 and 2,048."""
    gemma = resolve_model("google/gemma-4-31B-it")
    assert VLLM.min_batched_tokens(gemma) == 2496
    for tokens in (1024, 2048):
        with pytest.raises(InvalidInput, match="at least 2496"):
            VLLM.launch(gemma, replica("H100-SXM", max_num_batched_tokens=tokens))
    short = replica("H100-SXM", max_num_seqs=1, context_tokens=512)
    assert VLLM.launch(gemma, short).args["max-num-batched-tokens"] == 2496


def test_mla_without_amx_takes_whole_prompts() -> None:
    """VLLM's reference MLA cuts no prompt, keeps no prefix and has blocks of 16 tokens."""
    model = resolve_model("deepseek-ai/DeepSeek-V2-Lite-Chat")
    assert not VLLM.cuts_prompts(model, device("EPYC 9554"))
    assert not VLLM.keeps_prefixes(model, device("EPYC 9554"))
    config = replica(
        "EPYC 9554",
        context_tokens=4096,
        chunked_prefill=False,
        prefix_caching=False,
        kv_space_bytes=4 * GIB,
    )
    args = VLLM.launch(model, config).args
    assert args["block-size"] == 16
    assert args["max-num-batched-tokens"] >= 4096
    assert not args["enable-chunked-prefill"]
    for other, on in ((model, "Xeon Platinum 8480+"), (LLAMA, "EPYC 9554"), (model, "H100-SXM")):
        assert VLLM.cuts_prompts(other, device(on))


@pytest.mark.parametrize(
    "model", ["cross-encoder/ms-marco-MiniLM-L-6-v2", "google/embeddinggemma-300m"]
)
def test_classes_without_lora_get_no_adapters(model: str) -> None:
    """BertForSequenceClassification and Gemma3Model lack SupportsLoRA in vLLM 0.32."""
    architecture = resolve_model(model)
    assert not VLLM.metadata(architecture).supports_lora
    with pytest.raises(InvalidInput, match="max_loras"):
        VLLM.launch(architecture, replica("L4", context_tokens=512, max_loras=2))


def test_code_of_a_checkpoint_is_trusted_where_nothing_else_reads_it() -> None:
    """Neither vLLM 0.32 nor transformers 5.19 registers ``internlm2``, ``dots_ocr``, ``molmo2``.

    Nor ``interns1``, which SGLang 0.5.23 lacks as well, and ``unlimited-ocr``, which it alone does.
    """
    theirs = VLLM.launch(resolve_model("internlm/internlm2-chat-7b"), replica("H100-SXM"))
    assert theirs.args["trust-remote-code"]
    assert "--trust-remote-code" in theirs.command
    assert code_arguments("vllm", resolve_model("rednote-hilab/dots.ocr"))
    molmo, intern = (
        replace(LLAMA, family=f"{name}ForConditionalGeneration") for name in ("Molmo2", "InternS1")
    )
    assert code_arguments("vllm", molmo)
    assert code_arguments("vllm", intern)
    assert code_arguments("sglang", intern)
    assert code_arguments("sglang", replace(LLAMA, family="UnlimitedOCRForCausalLM"))
    assert "trust-remote-code" not in VLLM.launch(LLAMA, replica("H100-SXM")).args


def test_a_method_vllm_gives_up_is_allowed_by_its_flag() -> None:
    """Without it vLLM 0.32 refuses Meta's FP8 checkpoint of Llama 3.1 405B (fbgemm_fp8)."""
    model = resolve_model("meta-llama/Llama-3.1-405B-FP8")
    config = replica("H100-SXM", tp=8, weight_precision=Precision.FP8)
    assert VLLM.launch(model, config).args["allow-deprecated-quantization"]


def test_whisper_is_told_its_text_alone() -> None:
    """Its decoder has 448 positions beside the 1,500 of its encoder.

    It takes prompts whole and keeps none (vLLM 0.32 ``config/scheduler.py``).
    """
    whisper = resolve_model("openai/whisper-large-v3")
    config = replica("H100-SXM", context_tokens=1_700, media=Media(audio_s=30.0))
    args = Vllm().launch(whisper, config).args
    assert (whisper.max_context_tokens, args["max-model-len"]) == (1_948, 448)
    assert args["enable-chunked-prefill"] is False
    assert args["enable-prefix-caching"] is False
    assert args["limit-mm-per-prompt"] == '{"audio": 1}'


@pytest.mark.parametrize("engine", [VLLM, Sglang()])
def test_prefixes_are_kept_where_tokens_depend_on_earlier_ones_alone(engine: ServingEngine) -> None:
    """Not of encoders and Whisper, nor in vLLM of Unlimited-OCR (0.32 ``models/config.py``)."""
    hopper = device("H100-SXM")
    for model in ("BAAI/bge-m3", "openai/whisper-large-v3"):
        assert not engine.keeps_prefixes(resolve_model(model), hopper)
    ocr = replace(LLAMA, family="UnlimitedOCRForCausalLM")
    assert engine.keeps_prefixes(ocr, hopper) is (engine is not VLLM)
    assert engine.keeps_prefixes(LLAMA, hopper)
