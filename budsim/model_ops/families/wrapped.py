"""Finds the text model in the config.json of a wrapper that also reads images or sounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from budsim.model_ops.config_reader import MAX_WIDTH, ConfigReader

# Where wrappers keep their text model; InternVL's says llm_config, DeepSeek-VL2's language_config.
TEXT_PARTS: Final = ("text_config", "llm_config", "language_config")

# Wrappers whose text model declares no model_type of its own.
TEXT_TYPES: Final = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "minimax_m3_vl": "minimax_m3",
    "qwen2_audio": "qwen2",
    "llava": "llama",
    "llava_next": "llama",
    "paligemma": "gemma",
    "deepseek_vl_v2": "deepseek_v2",
    "deepseek_ocr": "deepseek_v2",
    "deepseek_ocr2": "deepseek_v2",
    "unlimited_ocr": "deepseek_v2",
    "step3_vl": "step3_text",
}

# Classes that engines assume where a config.json names none (vLLM 0.32 `DeepseekVLV2Config`).
CLASSES: Final[Mapping[str, str]] = {"deepseek_vl_v2": "DeepseekVLV2ForCausalLM"}

# Wrappers that state the text model beside the tower: its model_type.
FLAT: Final[Mapping[str, str]] = {
    "dots_ocr": "qwen2",
    "ernie4_5_moe_vl": "ernie4_5_moe",
    "Keye": "qwen3",
    "KeyeVL1_5": "qwen3",
    "keye_vl1_5": "qwen3",
    "molmo": "qwen2",
    "paddleocr_vl": "ernie4_5",
    "phi3_v": "phi3",
    "phi4mm": "phi3",
}

# MiniCPM-V and MiniCPM-o by their ``version`` (vLLM 0.32 `minicpmv.py`, `minicpmo.py`).
MINICPM: Final[Mapping[str, Mapping[str, str]]] = {
    "minicpmv": {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"},
    "minicpmo": {"2.6": "qwen2", "4.5": "qwen3"},
}

# Fields that state two groups of experts in ERNIE-4.5-VL: those of text come first.
_OF_TWO_GROUPS: Final = (
    "moe_num_experts",
    "moe_intermediate_size",
    "moe_k",
    "moe_layer_start_index",
    "moe_layer_end_index",
)

# Sizes of compressed heads, 0 where a DeepSeek keeps heads of keys and values.
_HEADS: Final = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def text_part(outer: ConfigReader) -> ConfigReader:
    """Return the fields of the text model: a nested object, or the whole under its own type.

    Raises
    ------
    UnsupportedModel
        A version of MiniCPM whose text model is not known.
    """
    wrapper = outer.text("model_type")
    nested = next(filter(None, map(outer.nested, TEXT_PARTS)), None)
    if nested is None:
        return _flat(outer, wrapper)
    # Wrappers state these for the whole model; the text part's own values win.
    inherited = {
        key: value
        for key, value in outer.values.items()
        if key in {"tie_word_embeddings", "torch_dtype", "dtype"}
    }
    default = {"model_type": TEXT_TYPES[wrapper]} if wrapper in TEXT_TYPES else {}
    inner = ConfigReader({**inherited, **default, **nested.values}, nested.prefix)
    # DeepSeek's small models keep heads of keys and values, under the type of those that do not.
    if inner.text("model_type") == "deepseek_v2" and not inner.has("kv_lora_rank"):
        inner = inner.with_values({"model_type": "deepseek", **dict.fromkeys(_HEADS)})
    return _first_group(inner)


def _flat(outer: ConfigReader, wrapper: str) -> ConfigReader:
    kind = FLAT.get(wrapper, "")
    if wrapper in MINICPM:
        versions = MINICPM[wrapper]
        version = str(outer.raw("version")[1])
        kind = versions.get(version, "")
        if not kind:
            expected = f"one of {', '.join(versions)}"
            raise outer.unsupported("version", f"{version[:20]!r} of {wrapper}", expected)
    if not kind:
        return outer
    own = outer.with_values({"model_type": kind})
    if wrapper == "molmo":
        # It counts both halves of the gated part (vLLM 0.32 `molmo.py`).
        width = outer.integer("intermediate_size", high=MAX_WIDTH)
        own = own.with_values({"intermediate_size": width // 2})
    return _first_group(own)


def _first_group(text: ConfigReader) -> ConfigReader:
    firsts = {
        name: value[0]
        for name in _OF_TWO_GROUPS
        if isinstance(value := text.values.get(name), list | tuple) and value
    }
    return text.with_values(firsts) if firsts else text
