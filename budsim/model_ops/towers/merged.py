"""Towers whose images are squares of merged patches: Qwen's, GLM's and MiniMax's."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders
from budsim.model_ops.image_tokens import MergedPatches
from budsim.model_ops.towers.blocks import merged_patches, sizes, stem_of, tower_of_blocks
from budsim.model_ops.vision import tower_sizes_of_qwen2

# Qwen2.5-VL attends to windows of this many pixels squared but in a few layers (its config:
# window_size 112, fullatt_block_indexes of 4 layers of 32).
QWEN2_5_WINDOW_PIXELS: Final = 112
QWEN2_5_WHOLE_LAYERS: Final = 4

# preprocessor_config.json of Qwen2-VL and Qwen2.5-VL: 3,136 to 12,845,056 pixels, 4 to 16,384
# tokens.
QWEN2_PIXELS: Final = (3_136, 12_845_056)
# preprocessor_config.json of Qwen3-VL and Qwen3.5: 65,536 to 16,777,216 pixels, 64 to 16,384
# tokens; video_preprocessor_config.json: 25,165,824 pixels of all frames together.
QWEN3_PIXELS: Final = (65_536, 16_777_216)
QWEN3_VIDEO_PIXELS: Final = 25_165_824

# GLM-4.1V to 4.6V: 12,544 to 9,633,792 pixels of two frames, as which an image counts: 8 to 6,144
# tokens of 28 x 28 pixels (transformers 5.23 `Glm4vImageProcessor`).
GLM4_PIXELS: Final = (12_544 // 2, 9_633_792 // 2)

# GLM-4.6V and GLM-OCR: the same with 12,544 to 11,760,000 pixels (transformers 5.24
# `Glm46VImageProcessor`).
GLM46_PIXELS: Final = (12_544 // 2, 28 * 28 * 15_000 // 2)

# MiniMax M3: 4 to 576 tokens of 28 x 28 pixels (transformers 5.23 `MiniMaxM3VLImageProcessor`).
MINIMAX3_PIXELS: Final = (4 * 28 * 28, 451_584)
MINIMAX3_MERGE: Final = 2
MINIMAX3_FRAMES: Final = 2
# Of a frame (vLLM 0.32 `MiniMaxM3VLVideoProcessor`).
MINIMAX3_FRAME_PIXELS: Final = 768 * 28 * 28
# Begin and end of a pair of frames, and its time before: "]<]1.0 seconds[>[" (our count).
MINIMAX3_FRAME_MARKS: Final = 8


def qwen2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Qwen2-VL reads."""
    hidden, width = tower_sizes_of_qwen2(tower)
    rule = merged_patches(tower, *QWEN2_PIXELS)
    merged = hidden * rule.merge**2
    layers = tower.integer("depth", high=MAX_LAYERS)
    found = tower_of_blocks(hidden, width, layers, projector=merged * (merged + text_hidden))
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def qwen2_5(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Qwen2.5-VL reads, whose layers are windowed but for a few."""
    hidden, width, layers = sizes(tower, "depth")
    rule = merged_patches(tower, *QWEN2_PIXELS)
    merged = hidden * rule.merge**2
    projector = merged * (merged + text_hidden)
    found = replace(
        tower_of_blocks(hidden, width, layers, projector=projector, gated=True),
        window=(QWEN2_5_WINDOW_PIXELS // rule.patch) ** 2,
        whole_layers=QWEN2_5_WHOLE_LAYERS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def qwen3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Qwen3-VL and newer read, with the layers that are fed again."""
    hidden, width, layers = sizes(tower, "depth")
    rule = merged_patches(tower, *QWEN3_PIXELS, QWEN3_VIDEO_PIXELS)
    merged = hidden * rule.merge**2
    _, again = tower.raw("deepstack_visual_indexes")
    outputs = 1 + (len(again) if isinstance(again, list | tuple) else 0)
    found = replace(
        tower_of_blocks(hidden, width, layers, projector=outputs * merged * (merged + text_hidden)),
        outputs=outputs,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def bailing(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Ling-VL reads: Qwen3-VL's tower, of which no layer is fed again.

    Its processor lies in the checkpoint; the limits of Qwen3-VL's are taken for its own (vLLM 0.32
    ``bailing_moe_v3_vl.py``).
    """
    plain = tower.with_values({"deepstack_visual_indexes": None})
    seen = qwen3(config, plain, text_hidden)
    assert seen.tower is not None
    merged = seen.tower.hidden * tower.integer("spatial_merge_size", high=64) ** 2
    stem = stem_of(seen.tower.hidden, tower.integer("patch_size", high=MAX_HIDDEN), 0)
    found = replace(
        seen.tower,
        projector_parameters=(merged + text_hidden) * text_hidden,
        stem_parameters=stem * tower.integer("temporal_patch_size", high=64),
    )
    return Encoders(modalities=("image",), tower=found, image=seen.image)


def glm4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what GLM-4.1V to 4.6V read."""
    hidden = tower.integer("hidden_size", high=MAX_HIDDEN)
    out = tower.integer("out_hidden_size", high=MAX_HIDDEN)
    # What its config calls intermediate_size is that of the merger; blocks have out_hidden_size.
    merger = tower.integer("intermediate_size", high=MAX_WIDTH)
    layers = tower.integer("depth", high=MAX_LAYERS)
    projector = out * (4 * hidden + out + 3 * merger)
    found = tower_of_blocks(hidden, out, layers, projector=projector, gated=True)
    rule = merged_patches(tower, *GLM4_PIXELS)
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def glm46(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what GLM-4.6V reads: GLM-4.1V's tower, more tokens at most."""
    seen = glm4(config, tower, text_hidden)
    rule = merged_patches(tower, *GLM46_PIXELS)
    return replace(seen, image=rule, video=rule)


def minimax3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what MiniMax M3 reads."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    found = tower_of_blocks(hidden, width, layers, projector=(hidden + text_hidden) * text_hidden)
    rule = MergedPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=MINIMAX3_MERGE,
        frames=MINIMAX3_FRAMES,
        least_pixels=MINIMAX3_PIXELS[0],
        most_pixels=MINIMAX3_PIXELS[1],
        most_frame_pixels=MINIMAX3_FRAME_PIXELS,
        frame_marks=MINIMAX3_FRAME_MARKS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)
