"""Classes of models that read images or sounds, by the engines whose registries name them.

vLLM 0.32.0 (``model_executor/models/registry.py``) and SGLang 0.5.23 (``srt/models``), read in
their wheels; those of families that `constants` lists already stand there.
"""

from __future__ import annotations

from typing import Final

# Of both engines.
SGLANG_MULTIMODAL: Final = frozenset(
    {
        "BailingMoeV3VLForConditionalGeneration",
        "Cohere2VisionForConditionalGeneration",
        "Cosmos3ForConditionalGeneration",
        "DeepseekOCRForCausalLM",
        "DotsOCRForCausalLM",
        "Ernie4_5_VLMoeForConditionalGeneration",
        "GlmAsrForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
        "InternS1ForConditionalGeneration",
        "Lfm2VlForConditionalGeneration",
        "LightOnOCRForConditionalGeneration",
        "LlavaForConditionalGeneration",
        "MiDashengLMModel",
        "MiniCPMO",
        "MiniCPMV",
        "MiniCPMV4_6ForConditionalGeneration",
        "MiniCPMV4_7ForConditionalGeneration",
        "NemotronH_Nano_Omni_Reasoning_V3",
        "NemotronH_Nano_VL_V2",
        "NemotronH_Omni_Reasoning_V3",
        "PaddleOCRVLForConditionalGeneration",
        "Phi4MMForCausalLM",
        "Qwen3ASRForConditionalGeneration",
        "Step3VLForConditionalGeneration",
        "StepVLForConditionalGeneration",
        "UnlimitedOCRForCausalLM",
        "VoxtralForConditionalGeneration",
    }
)

VLLM_MULTIMODAL: Final = SGLANG_MULTIMODAL | frozenset(
    {
        "AriaForConditionalGeneration",
        "AudioFlamingo3ForConditionalGeneration",
        "BeeForConditionalGeneration",
        "Blip2ForConditionalGeneration",
        "DeepseekOCR2ForCausalLM",
        "DeepseekVLV2ForCausalLM",
        "Eagle2_5_VLForConditionalGeneration",
        "Exaone4_5_ForConditionalGeneration",
        "Glm5NextForConditionalGeneration",
        "Granite4VisionForConditionalGeneration",
        "GraniteSpeechForConditionalGeneration",
        "GraniteSpeechPlusForConditionalGeneration",
        "Idefics3ForConditionalGeneration",
        "InternVLForConditionalGeneration",
        "KeyeForConditionalGeneration",
        "KeyeVL1_5ForConditionalGeneration",
        "Llama_Nemotron_Nano_VL",
        "LlavaNextForConditionalGeneration",
        "LlavaNextVideoForConditionalGeneration",
        "LlavaOnevisionForConditionalGeneration",
        "Molmo2ForConditionalGeneration",
        "MolmoForCausalLM",
        "MossTranscribeDiarizeForConditionalGeneration",
        "NVLM_D",
        "NemotronH_Super_Omni_Reasoning_V3",
        "OpenCUAForConditionalGeneration",
        "Ovis2_5",
        "Ovis2_6ForCausalLM",
        "Ovis2_6_MoeForCausalLM",
        "PaliGemmaForConditionalGeneration",
        "Phi3VForCausalLM",
        "QianfanOCRForConditionalGeneration",
        "Qwen2_5OmniForConditionalGeneration",
        "Qwen4ExpForConditionalGeneration",
        "RForConditionalGeneration",
        "SkyworkR1VChatModel",
        "SmolVLMForConditionalGeneration",
        "WhisperForConditionalGeneration",
    }
)
