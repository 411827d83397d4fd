"""What a config.json says of the towers that read images and audio, family by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import TEXT, Encoders, Tower
from budsim.model_ops.sounds import WHISPER_SOUNDS
from budsim.model_ops.towers.blocks import tower_of_blocks
from budsim.model_ops.towers.gemma import gemma3, gemma3n, gemma4
from budsim.model_ops.towers.grids import (
    deepseek,
    internvl,
    kimi,
    llama4,
    mistral3,
    muse_glimmer,
    step3p7,
)
from budsim.model_ops.towers.merged import glm4, minimax3, qwen2, qwen2_5, qwen3


def encoders_of(config: ConfigReader, text_hidden: int) -> Encoders:
    """Return what a whole config.json says of images and audio."""
    kind, tower = config.text("model_type"), config.nested("vision_config")
    seen = TEXT
    if tower is not None:
        read = _READERS.get(kind)
        seen = read(config, tower, text_hidden) if read else Encoders(modalities=("image",))
    heard = config.nested("audio_config")
    if heard is None or kind not in WHISPER_SOUNDS:
        return seen
    return replace(
        seen,
        modalities=(*seen.modalities, "audio"),
        audio_tower=_whisper(heard, text_hidden),
        audio=WHISPER_SOUNDS[kind],
    )


def _whisper(tower: ConfigReader, text_hidden: int) -> Tower:
    """Return an encoder of Whisper's kind: plain blocks, and a projection of what leaves them."""
    hidden = tower.integer("d_model", high=MAX_HIDDEN)
    width = tower.integer("encoder_ffn_dim", high=MAX_WIDTH)
    layers = tower.integer("encoder_layers", high=MAX_LAYERS)
    return tower_of_blocks(hidden, width, layers, projector=hidden * text_hidden)


_READERS: Final[Mapping[str, Callable[[ConfigReader, ConfigReader, int], Encoders]]] = {
    "deepseek_v41": deepseek,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "glm4v": glm4,
    "glm4v_moe": glm4,
    "internvl_chat": internvl,
    "kimi_k25": kimi,
    "kimi_k3": kimi,
    "kimi_vl": kimi,
    "minimax_m3_vl": minimax3,
    "muse_glimmer": muse_glimmer,
    "step3p7": step3p7,
    "qwen2_5_omni": qwen2_5,
    "qwen3_omni_moe": qwen3,
    "gemma4": gemma4,
    "llama4": llama4,
    "mistral3": mistral3,
    "qwen2_vl": qwen2,
    "qwen2_5_vl": qwen2_5,
    "hyperclovax_vision_v2": qwen2_5,
    "vlm": qwen2_5,
    "qwen3_vl": qwen3,
    "qwen3_vl_moe": qwen3,
    "qwen3_5": qwen3,
    "qwen3_5_moe": qwen3,
}
