"""What a config.json says of the towers that read images and audio, family by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.encoders import TEXT, Encoders
from budsim.model_ops.sounds import SOUNDS
from budsim.model_ops.towers import deepseek, fixed, grids, merged, native, radio, tiled
from budsim.model_ops.towers.gemma import gemma3, gemma3n, gemma4
from budsim.model_ops.towers.heard import HEARD, PHI4_AUDIO
from budsim.model_ops.vision import TOWERS, vision_parameters

# Objects of a config.json that describe towers. One that no rule here reads is an error: its
# weights would be missing.
SEEN: Final = ("vision_config", "vit_config", "visual_tokenizer_config")
SPOKEN: Final = (
    "audio_config",
    "audio_encoder_config",
    "encoder_config",
    "sound_config",
    "speech_config",
)

# Families of which vLLM 0.32 takes images alone, though their kind of tiles could show frames.
_NO_VIDEO: Final = frozenset({"eagle_2_5_vl", "llama_nemotron_vl", "opencua", "skywork_chat"})

# Families whose reader of images reads sounds, too.
_HEAR_THEMSELVES: Final = frozenset({"gemma4", "gemma3n"})

# Towers that a config.json only names, or leaves to the code of the checkpoint.
_UNSTATED: Final[Mapping[str, Mapping[str, object]]] = {
    "phi3_v": tiled.CLIP_L,
    "phi4mm": tiled.SIGLIP_448,
    "molmo": tiled.CLIP_L,
}

# DeepSeek's readers of documents have the ``model_type`` of DeepSeek-VL2, Step3-VL-10B and Ovis
# names of their code, Nemotron those of their classes.
_BY_CLASS: Final[Mapping[str, str]] = {
    "BailingMoeV3VLForConditionalGeneration": "bailing_vl",
    "BeeForConditionalGeneration": "bee",
    "DeepseekOCRForCausalLM": "deepseek_ocr",
    "DeepseekOCR2ForCausalLM": "deepseek_ocr2",
    "Llama_Nemotron_Nano_VL": "llama_nemotron_vl",
    "NemotronH_Nano_Omni_Reasoning_V3": "nemotron_vl",
    "NemotronH_Nano_VL_V2": "nemotron_vl",
    "NemotronH_Omni_Reasoning_V3": "nemotron_vl",
    "NemotronH_Super_Omni_Reasoning_V3": "nemotron_vl",
    "Ovis2_5": "ovis2_5",
    "Ovis2_6ForCausalLM": "ovis2_5",
    "Ovis2_6_MoeForCausalLM": "ovis2_5",
    "RForConditionalGeneration": "r_4b",
    "StepVLForConditionalGeneration": "step_vl",
    "UnlimitedOCRForCausalLM": "unlimited_ocr",
}


def encoders_of(config: ConfigReader, text_hidden: int) -> Encoders:
    """Return what a whole config.json says of images and audio.

    Raises
    ------
    UnsupportedModel
        It states a tower that is not known here.
    """
    kind = _kind(config)
    seen = _seen(config, kind, text_hidden)
    heard = _heard(config, kind)
    if heard is None or kind in _HEAR_THEMSELVES:
        return seen
    return replace(
        seen,
        modalities=(*seen.modalities, "audio"),
        audio_tower=HEARD[kind](config, heard, text_hidden),
        audio=SOUNDS[kind],
    )


def tower_parameters(config: ConfigReader, encoders: Encoders, text_hidden: int) -> int:
    """Return the weights of the towers that `encoders_of` found, with their projectors."""
    kind = _kind(config)
    heard = encoders.audio_tower if kind in HEARD else None
    audio = heard.parameters if heard else 0
    if kind in TOWERS:
        return vision_parameters(config, kind, text_hidden) + audio
    return audio + (encoders.tower.parameters if encoders.tower else 0)


def _kind(config: ConfigReader) -> str:
    named = filter(None, map(_BY_CLASS.get, config.texts("architectures")))
    return next(named, config.text("model_type"))


def _seen(config: ConfigReader, kind: str, text_hidden: int) -> Encoders:
    stated = next(filter(config.has, SEEN), "")
    tower = config.nested(stated) if stated else None
    if tower is None and kind in _UNSTATED:
        tower = ConfigReader(_UNSTATED[kind])
    # Text models, and wrappers whose tower is left out of the checkpoint.
    if tower is None:
        return TEXT
    read = READERS.get(kind)
    if read is None:
        raise config.unsupported(
            stated, f"the vision tower of {kind!r}", f"one of {', '.join(sorted(READERS))}"
        )
    seen = read(config, tower, text_hidden)
    return replace(seen, modalities=("image",), video=None) if kind in _NO_VIDEO else seen


def _heard(config: ConfigReader, kind: str) -> ConfigReader | None:
    if kind == "whisper":
        return config
    stated = next(filter(config.has, SPOKEN), "")
    if not stated:
        return ConfigReader(PHI4_AUDIO) if kind == "phi4mm" else None
    if kind not in HEARD and kind not in _HEAR_THEMSELVES:
        known = sorted({*HEARD, *_HEAR_THEMSELVES})
        raise config.unsupported(
            stated, f"the encoder of audio of {kind!r}", f"one of {', '.join(known)}"
        )
    return config.nested(stated)


READERS: Final[Mapping[str, Callable[[ConfigReader, ConfigReader, int], Encoders]]] = {
    "NVLM_D": grids.nvlm,
    "aria": fixed.aria,
    "bailing_vl": merged.bailing,
    "bee": tiled.bee,
    "blip-2": fixed.blip2,
    "cohere2_vision": tiled.cohere,
    "cosmos3_omni": merged.qwen3,
    "deepseek_ocr": deepseek.deepseek_ocr,
    "deepseek_ocr2": deepseek.deepseek_ocr2,
    "deepseek_v41": grids.deepseek,
    "deepseek_vl_v2": deepseek.deepseek_vl2,
    "dots_ocr": native.dots,
    "eagle_2_5_vl": tiled.ratio_tiles,
    "ernie4_5_moe_vl": native.ernie,
    "ernie4_5_vl_moe": native.ernie,
    "exaone4_5": native.exaone,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "gemma4": gemma4,
    "glm46v": merged.glm46,
    "glm4v": merged.glm4,
    "glm4v_moe": merged.glm4,
    "glm5_next": native.glm46,
    "glm_ocr": native.glm46,
    "granite4_vision": tiled.granite4,
    "hyperclovax_vision_v2": merged.qwen2_5,
    "idefics3": tiled.idefics3,
    "interns1": tiled.ratio_tiles,
    "internvl": tiled.ratio_tiles,
    "internvl_chat": grids.internvl,
    "KeyeVL1_5": native.keye,
    "keye_vl1_5": native.keye,
    "Keye": native.keye,
    "kimi_k25": grids.kimi,
    "kimi_k3": grids.kimi,
    "kimi_vl": grids.kimi,
    "lfm2_vl": tiled.lfm2,
    "lighton_ocr": grids.mistral3,
    "llama4": grids.llama4,
    "llama_nemotron_vl": radio.nemotron,
    "llava": fixed.llava,
    "llava_next": tiled.llava_next,
    "llava_next_video": tiled.llava_next,
    "llava_onevision": tiled.llava_onevision,
    "minicpmo": tiled.minicpmv,
    "minicpmv": tiled.minicpmv,
    "minicpmv4_6": tiled.minicpmv4_6,
    "minicpmv4_7": tiled.minicpmv4_6,
    "minimax_m3_vl": merged.minimax3,
    "mistral3": grids.mistral3,
    "molmo": tiled.molmo,
    "molmo2": tiled.molmo2,
    "muse_glimmer": grids.muse_glimmer,
    "nemotron_vl": radio.nemotron,
    "opencua": merged.qwen2_5,
    "ovis2_5": native.ovis,
    "paddleocr_vl": native.paddle,
    "paligemma": fixed.paligemma,
    "phi3_v": tiled.phi3,
    "phi4mm": tiled.phi4,
    "qianfan_ocr": tiled.ratio_tiles,
    "qwen2_5_omni": merged.qwen2_5,
    "qwen2_5_vl": merged.qwen2_5,
    "qwen2_vl": merged.qwen2,
    "qwen3_5": merged.qwen3,
    "qwen3_5_moe": merged.qwen3,
    "qwen3_omni_moe": merged.qwen3,
    "qwen3_vl": merged.qwen3,
    "qwen3_vl_moe": merged.qwen3,
    "qwen4_exp": merged.qwen3,
    "r_4b": tiled.llava_next,
    "skywork_chat": grids.internvl,
    "smolvlm": tiled.idefics3,
    "step3_vl": grids.step3,
    "step3p7": grids.step3p7,
    "step_vl": grids.step_vl,
    "unlimited_ocr": deepseek.unlimited_ocr,
    "vlm": merged.qwen2_5,
}
