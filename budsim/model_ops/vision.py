"""Counts the weights of vision towers and projectors in multimodal checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from budsim.model_ops.config_reader import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)


def vision_parameters(config: ConfigReader, kind: str, text_hidden: int) -> int:
    """Return the weights of the vision tower and projector of a kind that `TOWERS` knows."""
    tower = config.nested("vision_config")
    # Wrappers whose tower is left out of the checkpoint.
    if tower is None:
        return 0
    audio = AUDIO_PARAMETERS if config.nested("audio_config") is not None else 0
    return TOWERS[kind](tower, text_hidden) + audio * (kind == "gemma4")


def _encoder_block(hidden: int, width: int) -> int:
    """Return the weights of a transformer block with biases.

    Four projections, two matrices, two layer norms.
    """
    return 4 * hidden * (hidden + 1) + 2 * hidden * width + width + hidden + 4 * hidden


def _widths(tower: ConfigReader) -> tuple[int, int]:
    hidden = tower.integer("hidden_size", high=MAX_HIDDEN)
    return hidden, tower.integer("intermediate_size", high=MAX_WIDTH)


def _layers_and_patch(tower: ConfigReader) -> tuple[int, int]:
    layers = tower.integer("num_hidden_layers", high=MAX_LAYERS)
    return layers, tower.integer("patch_size", high=MAX_HIDDEN)


def _patch_and_frames(tower: ConfigReader) -> tuple[int, int]:
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    return patch, tower.integer("temporal_patch_size", high=MAX_HIDDEN)


def _siglip(tower: ConfigReader, text_hidden: int) -> int:
    """Return Gemma 3's SigLIP tower and projector (transformers modeling_siglip.py)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    patches = image_patches(tower)
    stem = hidden * (3 * patch * patch + 1) + patches * hidden
    return (
        stem + layers * _encoder_block(hidden, width) + 2 * hidden + hidden * text_hidden + hidden
    )


def _qwen3(tower: ConfigReader, text_hidden: int) -> int:
    """Return the tower of Qwen3-VL and Qwen3.5 (transformers modeling_qwen3_vl.py)."""
    hidden, width = _widths(tower)
    patch, frames = _patch_and_frames(tower)
    merged = hidden * tower.integer("spatial_merge_size", high=64) ** 2
    stem = (
        hidden * (3 * frames * patch * patch + 1)
        + tower.integer("num_position_embeddings", high=MAX_WIDTH) * hidden
    )
    projection = merged * (merged + 1) + (merged + 1) * tower.integer(
        "out_hidden_size", high=MAX_HIDDEN, default=text_hidden
    )
    _, extra_layers = tower.raw("deepstack_visual_indexes")
    deep = len(extra_layers) if isinstance(extra_layers, list | tuple) else 0
    blocks = tower.integer("depth", high=MAX_LAYERS) * _encoder_block(hidden, width)
    return stem + blocks + 2 * hidden + projection + deep * (2 * merged + projection)


def _qwen2_5(tower: ConfigReader, text_hidden: int) -> int:
    """Return Qwen2.5-VL's tower of gated blocks, and its merger (modeling_qwen2_5_vl.py)."""
    hidden, width = _widths(tower)
    patch, frames = _patch_and_frames(tower)
    merged = hidden * tower.integer("spatial_merge_size", high=64) ** 2
    block = 4 * hidden * (hidden + 1) + 3 * hidden * width + 2 * width + hidden + 2 * hidden
    projection = merged * (merged + 1) + (merged + 1) * tower.integer(
        "out_hidden_size", high=MAX_HIDDEN, default=text_hidden
    )
    return (
        3 * frames * patch * patch * hidden
        + tower.integer("depth", high=MAX_LAYERS) * block
        + hidden
        + projection
    )


def _hyperclova(tower: ConfigReader, text_hidden: int) -> int:
    """Return HyperCLOVA X's tower, which is Qwen2.5-VL's, and a projector behind its merger.

    vLLM 0.32 ``hyperclovax_vision_v2.py``.
    """
    merged = tower.integer("out_hidden_size", high=MAX_HIDDEN, default=text_hidden)
    return _qwen2_5(tower, text_hidden) + (merged + 1) * text_hidden


def _qwen2(tower: ConfigReader, text_hidden: int) -> int:
    """Return Qwen2-VL's tower of plain blocks, and its merger (modeling_qwen2_vl.py)."""
    hidden, width = tower_sizes_of_qwen2(tower)
    patch, frames = _patch_and_frames(tower)
    merged = hidden * tower.integer("spatial_merge_size", high=64) ** 2
    stem = 3 * frames * patch * patch * hidden
    blocks = tower.integer("depth", high=MAX_LAYERS) * _encoder_block(hidden, width)
    return stem + blocks + 2 * hidden + merged * (merged + 1) + (merged + 1) * text_hidden


def tower_sizes_of_qwen2(tower: ConfigReader) -> tuple[int, int]:
    """Return the hidden size and the feed-forward width of Qwen2-VL's tower.

    Its ``hidden_size`` is that of the language model.
    """
    hidden = tower.integer("embed_dim", high=MAX_HIDDEN)
    return hidden, round(hidden * tower.number("mlp_ratio", default=4.0, high=64.0))


def _llama4(tower: ConfigReader, text_hidden: int) -> int:
    """Return Llama 4's tower, adapter and projector (transformers modeling_llama4.py)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    # One position more: the class token.
    patches = image_patches(tower) + 1
    inner, out = (
        tower.integer("projector_input_dim", high=MAX_HIDDEN),
        tower.integer("vision_output_dim", high=MAX_HIDDEN),
    )
    stem = hidden * 3 * patch * patch + hidden + patches * hidden + 4 * hidden
    return (
        stem
        + layers * _encoder_block(hidden, width)
        + width * inner
        + inner * inner
        + out * text_hidden
    )


def _pixtral(tower: ConfigReader, text_hidden: int) -> int:
    """Return Mistral 3's Pixtral tower, patch merger and projector (modeling_mistral3.py)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    block = 4 * hidden * hidden + 3 * hidden * width + 2 * hidden
    projector = hidden + 4 * hidden * hidden + hidden * text_hidden + text_hidden * text_hidden
    return hidden * 3 * patch * patch + hidden + layers * block + projector


def _moonvit(tower: ConfigReader, text_hidden: int) -> int:
    """Return Kimi K2.5's MoonViT and patch merger (modeling_kimi_k25.py on the model card)."""
    hidden = tower.integer("vt_hidden_size", "hidden_size", high=MAX_HIDDEN)
    width = tower.integer("vt_intermediate_size", "intermediate_size", high=MAX_WIDTH)
    layers = tower.integer("vt_num_hidden_layers", "num_hidden_layers", high=MAX_LAYERS)
    patch, side = (
        tower.integer("patch_size", high=MAX_HIDDEN),
        tower.integer("init_pos_emb_height", high=MAX_HEADS, default=64),
    )
    stem = hidden * (3 * patch * patch + 1) + side * side * hidden
    projector = 2 * hidden + 4 * hidden * (4 * hidden + 1) + (4 * hidden + 1) * text_hidden
    return stem + layers * _encoder_block(hidden, width) + 2 * hidden + projector


def _gemma4(tower: ConfigReader, text_hidden: int) -> int:
    """Return Gemma 4's tower and projector (transformers modeling_gemma4.py).

    Gated blocks have four norms; positions are learned by row and by column.
    """
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    positions = 2 * tower.integer("position_embedding_size", high=MAX_WIDTH) * hidden
    block = (
        4 * hidden * hidden
        + 3 * hidden * width
        + 4 * hidden
        + 2 * tower.integer("head_dim", high=MAX_HIDDEN)
    )
    return 3 * patch * patch * hidden + positions + layers * block + hidden * text_hidden


def _moonvit3(tower: ConfigReader, text_hidden: int) -> int:
    """Return Kimi K3's MoonViT and merger (its config.json): heads are wider than the blocks."""
    hidden, width = (
        tower.integer("vt_hidden_size", high=MAX_HIDDEN),
        tower.integer("vt_intermediate_size", high=MAX_WIDTH),
    )
    heads, layers = (
        tower.integer("qkv_hidden_size", high=MAX_HIDDEN),
        tower.integer("vt_num_hidden_layers", high=MAX_LAYERS),
    )
    patch, side = (
        tower.integer("patch_size", high=MAX_HIDDEN),
        tower.integer("init_pos_emb_height", high=MAX_HEADS),
    )
    block = 4 * hidden * heads + 2 * hidden * width + 2 * hidden
    merged = 4 * hidden
    return (
        3 * patch * patch * hidden
        + side * side * hidden
        + layers * block
        + merged * merged
        + merged * text_hidden
    )


def image_patches(tower: ConfigReader) -> int:
    """Return the patches of a square image of the tower's size: 448 pixels by 14 are 1,024."""
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    return (tower.integer("image_size", high=MAX_HIDDEN) // patch) ** 2


def _minimax3(tower: ConfigReader, text_hidden: int) -> int:
    """Return MiniMax M3's tower and projector (vLLM 0.33 ``minimax_m3/common/vision_tower.py``)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    return (
        2 * 3 * patch * patch * hidden
        + layers * _encoder_block(hidden, width)
        + (hidden + text_hidden) * text_hidden
    )


def _deepseek(tower: ConfigReader, text_hidden: int) -> int:
    """Return DeepSeek V4.1's tower and aligner (vLLM 0.33 ``deepseek_v4/common/vision.py``)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    merged = hidden * tower.integer("downsample_ratio", high=64, default=3) ** 2
    block = 4 * hidden * (hidden + 1) + 3 * hidden * width + 2 * hidden
    aligner = (merged + 1 + text_hidden + 1) * text_hidden
    return hidden * (3 * patch * patch + 1) + layers * block + hidden + aligner


def step3p7_sizes(tower: ConfigReader) -> tuple[int, int, int]:
    """Return the sizes and blocks of Step 3.7's tower, whose feed-forward part has a ratio."""
    hidden = tower.integer("hidden_size", "width", high=MAX_HIDDEN)
    ratio = tower.number("mlp_ratio", high=64.0, default=8960 / 1536)
    return (
        hidden,
        int(hidden * ratio),
        tower.integer("num_hidden_layers", "layers", high=MAX_LAYERS),
    )


def _step3p7(tower: ConfigReader, text_hidden: int) -> int:
    """Return Step 3.7's tower, two convolutions and its projector (modeling_step3p7.py)."""
    hidden, width, layers = step3p7_sizes(tower)
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    patches = image_patches(tower)
    stem = hidden * (3 * patch * patch + patches) + 2 * hidden
    convolutions = 9 * 2 * hidden**2 + 9 * 8 * hidden**2 + 6 * hidden
    blocks = layers * (_encoder_block(hidden, width) + 2 * hidden)
    return stem + blocks + convolutions + 4 * hidden * text_hidden


def _muse_glimmer(tower: ConfigReader, text_hidden: int) -> int:
    """Return Muse Glimmer's tower and its three projections (vLLM 0.33 ``muse_glimmer.py``).

    Patches of ``merge_size`` squared are merged without weights.
    """
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    frames = tower.integer("patch_temporal", high=MAX_HIDDEN, default=2)
    merged = hidden * tower.integer("merge_size", high=64, default=2) ** 2
    inner = tower.integer("projector_hidden_size", high=MAX_HIDDEN, default=4096)
    rows = tower.integer("pos_emb_height", high=MAX_HEADS, default=32)
    columns = tower.integer("pos_emb_width", high=MAX_HEADS, default=32)
    stem = hidden * (3 * frames * patch * patch + rows * columns) + 4 * hidden
    projections = (merged + inner + text_hidden) * inner
    return stem + layers * _encoder_block(hidden, width) + projections


def _glm4(tower: ConfigReader, text_hidden: int) -> int:  # noqa: ARG001
    """Return the tower and merger of GLM-4.1V to 4.6V (transformers modeling_glm4v.py).

    Gated blocks as wide as the output; what the config calls intermediate_size is the merger's.
    """
    hidden = tower.integer("hidden_size", high=MAX_HIDDEN)
    out = tower.integer("out_hidden_size", high=MAX_HIDDEN)
    patch, frames = _patch_and_frames(tower)
    patches = image_patches(tower)
    stem = hidden * (3 * frames * patch * patch + 1) + patches * hidden + 2 * hidden
    block = 4 * hidden * hidden + 3 * hidden * out + 2 * hidden
    merger = 4 * hidden * out + out + out * out + 2 * out
    merger += 3 * out * tower.integer("intermediate_size", high=MAX_WIDTH)
    return stem + tower.integer("depth", high=MAX_LAYERS) * block + merger


def _intern_vit(tower: ConfigReader, text_hidden: int) -> int:
    """Return InternViT, whose blocks scale what they add, and its projector (model cards)."""
    hidden, width = _widths(tower)
    layers, patch = _layers_and_patch(tower)
    # One position more: the class token.
    patches = image_patches(tower) + 1
    stem = hidden + hidden * (3 * patch * patch + 1) + patches * hidden
    merged = 4 * hidden
    projector = 2 * merged + (merged + 1) * text_hidden + (text_hidden + 1) * text_hidden
    return stem + layers * (_encoder_block(hidden, width) + 2 * hidden) + projector


# Gemma 4's encoder of audio in E2B and E4B, as its card rounds it.
AUDIO_PARAMETERS: Final = 305_000_000

# Gemma 3n's MobileNet-V5 for images and its encoder of audio: its card's 7.85 B less the 6.84 B of
# its text. Their sizes are the same in every checkpoint.
GEMMA3N_TOWERS: Final = 1_010_000_000

TOWERS: Final[Mapping[str, Callable[[ConfigReader, int], int]]] = {
    "gemma3": _siglip,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    # The hub's configuration says `vlm`.
    "hyperclovax_vision_v2": _hyperclova,
    "vlm": _hyperclova,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "qwen3_5": _qwen3,
    "qwen4_exp": _qwen3,
    "qwen3_5_moe": _qwen3,
    "llama4": _llama4,
    "mistral3": _pixtral,
    "lighton_ocr": _pixtral,
    "gemma4": _gemma4,
    "gemma3n": lambda _tower, _text_hidden: GEMMA3N_TOWERS,
    "kimi_k25": _moonvit,
    "kimi_vl": _moonvit,
    "glm4v": _glm4,
    "glm4v_moe": _glm4,
    "glm46v": _glm4,
    "internvl_chat": _intern_vit,
    "skywork_chat": _intern_vit,
    "qwen2_5_omni": _qwen2_5,
    "qwen3_omni_moe": _qwen3,
    "kimi_k3": _moonvit3,
    "minimax_m3_vl": _minimax3,
    "muse_glimmer": _muse_glimmer,
    "step3p7": _step3p7,
    "step_vl": _step3p7,
    "cosmos3_omni": _qwen3,
    "opencua": _qwen2_5,
    "deepseek_v41": _deepseek,
}
