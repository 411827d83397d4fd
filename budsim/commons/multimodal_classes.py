"""Classes of models that read images or sounds, by the engines whose registries name them.

vLLM 0.32.0 (``model_executor/models/registry.py``) and SGLang 0.5.23 (``srt/models``), read in
their wheels; those of families that `constants` lists already stand there.
"""

from __future__ import annotations

from typing import Final

# Of both engines.
SGLANG_MULTIMODAL: Final = frozenset(
    {
        "Cohere2VisionForConditionalGeneration",
        "DeepseekOCRForCausalLM",
        "DotsOCRForCausalLM",
        "Ernie4_5_VLMoeForConditionalGeneration",
        "GlmAsrForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
        "InternS1ForConditionalGeneration",
        "Lfm2VlForConditionalGeneration",
        "LightOnOCRForConditionalGeneration",
        "LlavaForConditionalGeneration",
        "MiniCPMO",
        "MiniCPMV",
        "MiniCPMV4_6ForConditionalGeneration",
        "MiniCPMV4_7ForConditionalGeneration",
        "PaddleOCRVLForConditionalGeneration",
        "Phi4MMForCausalLM",
        "Qwen3ASRForConditionalGeneration",
        "Step3VLForConditionalGeneration",
        "UnlimitedOCRForCausalLM",
        "VoxtralForConditionalGeneration",
    }
)

VLLM_MULTIMODAL: Final = SGLANG_MULTIMODAL | frozenset(
    {
        "AudioFlamingo3ForConditionalGeneration",
        "Blip2ForConditionalGeneration",
        "DeepseekOCR2ForCausalLM",
        "DeepseekVLV2ForCausalLM",
        "Eagle2_5_VLForConditionalGeneration",
        "Exaone4_5_ForConditionalGeneration",
        "GraniteSpeechForConditionalGeneration",
        "GraniteSpeechPlusForConditionalGeneration",
        "Idefics3ForConditionalGeneration",
        "InternVLForConditionalGeneration",
        "KeyeForConditionalGeneration",
        "KeyeVL1_5ForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "LlavaNextVideoForConditionalGeneration",
        "LlavaOnevisionForConditionalGeneration",
        "MolmoForCausalLM",
        "MossTranscribeDiarizeForConditionalGeneration",
        "PaliGemmaForConditionalGeneration",
        "Phi3VForCausalLM",
        "QianfanOCRForConditionalGeneration",
        "SkyworkR1VChatModel",
        "SmolVLMForConditionalGeneration",
        "WhisperForConditionalGeneration",
    }
)
