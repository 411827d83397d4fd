"""Towers that cut images into tiles, or into rows or grids of patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders, Tower
from budsim.model_ops.families.wrapped import text_part
from budsim.model_ops.image_tiles import RatioTiles, Tiles, WindowTiles
from budsim.model_ops.image_tokens import BudgetedRows, ClosestGrid, PaddedPatches, PatchRows
from budsim.model_ops.towers.blocks import sizes, stem_of, tower_of_blocks
from budsim.model_ops.vision import image_patches, step3p7_sizes

# Step3 (vLLM 0.32 `step3_vl.py`): an image of 728 pixels is cut already; two convolutions, of which
# the first makes its size.
STEP3_WHOLE_BELOW: Final = 727

# Llama 4: at most 16 tiles; a quarter of a tile's patches are left after the pixel shuffle
# (transformers image_processing_llama4_fast.py, max_patches; config: pixel_shuffle_ratio 0.5).
LLAMA4_TILES: Final = 16
LLAMA4_SHUFFLE: Final = 4

# Kimi: patches of an image at most, 4 a token: K2.5 (transformers 5.23 `Kimi_K25ImageProcessor`),
# K3 (its preprocessor_config.json: in_patch_limit) and Kimi-VL-A3B-Instruct (in_token_limit).
KIMI_PATCHES: Final[Mapping[str, int]] = {"kimi_k25": 16_384, "kimi_k3": 65_536, "kimi_vl": 4_096}
KIMI_MERGE: Final = 2
# <|media_begin|>image<|media_content|> before, <|media_end|> behind (chat template of its card).
KIMI_MARKS: Final = 4

# Muse Glimmer: tokens of an image at most (transformers 5.23 `MuseGlimmerImageProcessor`).
MUSE_TOKENS: Final = 4_096
# Of a pair of frames (vLLM 0.32 `MuseGlimmerVideoProcessor`).
MUSE_FRAME_TOKENS: Final = 144
# What ends it, and its time before: "Time: 1.0s" (our count).
MUSE_FRAME_MARKS: Final = 7

# InternVL: 12 tiles unless config.json says otherwise; the pixel shuffle leaves a quarter
# (downsample_ratio 0.5; model cards of InternVL 2.5 and later).
INTERNVL_TILES: Final = 12
INTERNVL_SHUFFLE: Final = 4

# NVLM-D (vLLM 0.32 `nvlm_d.py`): <Image>, </Image> and a line break around all tiles, and
# "<tile_1>" or "<tile_global_thumbnail>" before each (our counts).
NVLM_MARKS: Final = 4
NVLM_TILE_MARKS: Final = 5

# Mistral 3: longest side of an image (preprocessor_config.json: longest_edge 1540).
PIXTRAL_LONGEST: Final = 1_540
PIXTRAL_MERGE: Final = 2

# DeepSeek V4.1: tokens of an image with its marks, and pixels to which smaller ones are enlarged
# (vLLM's DeepseekV41Config).
DEEPSEEK_TOKENS: Final = 1_024
DEEPSEEK_PIXELS: Final = 295_936

# Step 3.7 (transformers 5.23 `Step3p7ImageProcessor`): pixels of a window, and of the longest side;
# two convolutions leave a token of four patches' side.
STEP_WINDOW: Final = 504
STEP_LONGEST: Final = 3_024
STEP_STRIDE: Final = 4


def llama4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return tiles of the tower's size, and one of the whole."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    side = tower.integer("image_size", high=MAX_HIDDEN)
    patches = image_patches(tower)
    inner = tower.integer("projector_input_dim", high=MAX_HIDDEN)
    found = tower_of_blocks(hidden, width, layers, projector=inner * (width + inner + text_hidden))
    rule = Tiles(
        side=side,
        tile_tokens=patches // LLAMA4_SHUFFLE,
        # One position more: the class token.
        tile_patches=patches + 1,
        most_tiles=LLAMA4_TILES,
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def internvl(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return tiles of 448 x 448 pixels, and one of the whole."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    side = tower.integer("image_size", high=MAX_HIDDEN)
    patches = image_patches(tower)
    projector = (INTERNVL_SHUFFLE * hidden + text_hidden) * text_hidden
    found = tower_of_blocks(hidden, width, layers, projector=projector)
    rule = RatioTiles(
        side=side,
        tile_tokens=patches // INTERNVL_SHUFFLE,
        # One position more: the class token.
        tile_patches=patches + 1,
        most_tiles=config.integer("max_dynamic_patch", high=MAX_LAYERS, default=INTERNVL_TILES),
        has_thumbnail=config.flag("use_thumbnail", default=True),
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def nvlm(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what NVLM-D reads: InternVL's tiles, each with its name, and a wider projector."""
    seen = internvl(config, tower, text_hidden)
    assert seen.tower is not None
    assert isinstance(seen.image, RatioTiles)
    text = text_part(config)
    width = text.integer("intermediate_size", high=MAX_WIDTH)
    merged = INTERNVL_SHUFFLE * seen.tower.hidden
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    found = replace(
        seen.tower,
        projector_parameters=(merged + text_hidden) * width,
        stem_parameters=stem_of(seen.tower.hidden, patch, seen.image.tile_patches),
    )
    rule = replace(seen.image, edge_marks=NVLM_MARKS, tile_marks=NVLM_TILE_MARKS)
    return Encoders(modalities=("image",), tower=found, image=rule)


def mistral3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return rows of patches, each with a mark."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    merge = config.integer("spatial_merge_size", high=64, default=PIXTRAL_MERGE)
    projector = 4 * hidden * hidden + (hidden + text_hidden) * text_hidden
    found = tower_of_blocks(hidden, width, layers, projector=projector, gated=True)
    rule = PatchRows(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=merge,
        longest=tower.integer("image_size", high=MAX_HIDDEN, default=PIXTRAL_LONGEST),
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def kimi(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return images of any size, padded to whole squares of patches."""
    hidden = tower.integer("vt_hidden_size", "hidden_size", high=MAX_HIDDEN)
    width = tower.integer("vt_intermediate_size", "intermediate_size", high=MAX_WIDTH)
    heads = tower.integer("qkv_hidden_size", high=MAX_HIDDEN, default=hidden)
    merged = 4 * hidden
    found = Tower(
        layers=tower.integer("vt_num_hidden_layers", "num_hidden_layers", high=MAX_LAYERS),
        hidden=hidden,
        width=width,
        block_parameters=4 * hidden * heads + 2 * hidden * width,
        projector_parameters=merged * (merged + text_hidden),
        attention=heads,
    )
    rule = PaddedPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=KIMI_MERGE,
        most_patches=KIMI_PATCHES[config.text("model_type")],
        marks=KIMI_MARKS,
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def muse_glimmer(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return the grid of tokens that is nearest to an image."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    merge = tower.integer("merge_size", high=64, default=2)
    inner = tower.integer("projector_hidden_size", high=MAX_HIDDEN, default=4096)
    projector = (hidden * merge**2 + inner + text_hidden) * inner
    found = tower_of_blocks(hidden, width, layers, projector=projector)
    rule = ClosestGrid(
        edge=tower.integer("patch_size", high=MAX_HIDDEN) * merge,
        merge=merge,
        most_tokens=MUSE_TOKENS,
        frame_tokens=MUSE_FRAME_TOKENS,
        frame_marks=MUSE_FRAME_MARKS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def deepseek(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what DeepSeek V4.1 reads: rows of squares of patches."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    merge = tower.integer("downsample_ratio", high=64, default=3)
    projector = (hidden * merge**2 + text_hidden) * text_hidden
    found = tower_of_blocks(hidden, width, layers, projector=projector, gated=True)
    rule = BudgetedRows(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=merge,
        most_tokens=tower.integer("max_image_tokens", high=MAX_WIDTH, default=DEEPSEEK_TOKENS),
        least_pixels=tower.integer("min_pixels", high=2**31, default=DEEPSEEK_PIXELS),
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def step3p7(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Step 3.7 reads: windows of an image and the whole."""
    return _perceived(tower, text_hidden, whole_below=0)


def step_vl(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Step3-VL-10B reads: Step 3.7's tower, and windows as of Step3."""
    return _perceived(tower, text_hidden, whole_below=STEP3_WHOLE_BELOW)


def _perceived(tower: ConfigReader, text_hidden: int, *, whole_below: int) -> Encoders:
    hidden, width, layers = step3p7_sizes(tower)
    # Four positions of the first convolution for each of the second.
    convolutions = 4 * 9 * 2 * hidden**2 + 9 * 8 * hidden**2
    projector = convolutions + 4 * hidden * text_hidden
    found = tower_of_blocks(hidden, width, layers, projector=projector)
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    rule = _step_windows(tower, patch, whole_below)
    return Encoders(modalities=("image",), tower=found, image=rule)


def _step_windows(tower: ConfigReader, patch: int, whole_below: int) -> WindowTiles:
    """Return how Step's models cut an image into windows."""
    return WindowTiles(
        side=tower.integer("image_size", high=MAX_HIDDEN),
        window=STEP_WINDOW,
        patch=patch,
        edge=patch * STEP_STRIDE,
        longest=STEP_LONGEST,
        whole_below=whole_below,
    )


def step3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Step3 reads: as Step 3.7, with convolutions that widen what they reduce."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    out = tower.integer("output_hidden_size", high=MAX_HIDDEN)
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    # Four positions of the first convolution for each of the second.
    projector = 4 * 4 * hidden * out + 9 * out * 2 * out + 2 * out * text_hidden
    positions = image_patches(tower) + 1
    found = tower_of_blocks(
        hidden, width, layers, projector=projector, stem=stem_of(hidden, patch, positions)
    )
    rule = _step_windows(tower, patch, STEP3_WHOLE_BELOW)
    return Encoders(modalities=("image",), tower=found, image=rule)
