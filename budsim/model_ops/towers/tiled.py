"""Towers of images in tiles and slices: LLaVA's, Cohere's, Idefics', Phi's, MiniCPM-V's, LFM2's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders, Tower
from budsim.model_ops.image_crops import (
    LargeTiles,
    LongestEdgeTiles,
    OverlappedCrops,
    PaddedTiles,
    PinpointTiles,
    Slices,
)
from budsim.model_ops.image_tiles import RatioTiles, Tiles
from budsim.model_ops.image_tokens import MergedPatches
from budsim.model_ops.towers.blocks import any_sizes, square, stem_of, tower_of_blocks

# LLaVA-NeXT pools 2 x 2 tokens of a frame, LLaVA-OneVision too, rounded up (transformers
# `LlavaNextVideoProcessor`, `LlavaOnevisionProcessor`).
FRAME_POOL: Final = 2
# LLaVA-OneVision: tokens of at most 9 tiles ("anyres_max_9").
ONEVISION_TILES: Final = 9

# Bee (vLLM 0.32 `bee.py`): width of its projector in that of the text model.
BEE_WIDTH: Final = 4
# Granite 4 Vision (vLLM 0.32 `granite4_vision.py`): width of a Q-Former, positions of a square.
GRANITE_WIDTH: Final = 3_072
GRANITE_OFFSETS: Final = 4

# Command A Vision: at most 12 tiles (transformers `max_patches`), a mark
# after each tile and begin and end around all (`Cohere2VisionProcessor`).
COHERE_TILES: Final = 12
COHERE_MARKS: Final = 2

# Idefics 3 (transformers `Idefics3ImageProcessor`): longest side in tiles of 364 pixels; SmolVLM2's
# preprocessor_config.json says 2,048 and 512.
LONGEST_TILES: Final = 4

# num_crops of preprocessor_config.json: Phi-3.5-vision ("the default num_crops of phi-3.5-vision is
# 4", vLLM's test of its processor), and Phi-3-vision before it; Phi-4: dynamic_hd.
PHI3_5_TILES: Final = 4
PHI3_TILES: Final = 16
PHI4_TILES: Final = 36

# MiniCPM-V: areas of 448 x 448 pixels, at most 9 slices, 64 queries; its marks are begin and end,
# and begin, number and end of the image's name. MiniCPM-V 4.6 merges 4 x 4 patches of 14 pixels.
MINICPM_SIDE: Final = 448
MINICPM_SLICES: Final = 9
MINICPM_QUERIES: Final = 64
MINICPM_PATCH: Final = 14
MINICPM_MERGE: Final = 4

# LFM2-VL (transformers 5.24 `Lfm2VlImageProcessor`): tokens of an image, tiles of 512 pixels.
LFM2_TOKENS: Final = (64, 256)
LFM2_TILES: Final = (2, 10)
LFM2_SIDE: Final = 512
LFM2_TOLERATED: Final = 2.0

# Molmo (vLLM `molmo.py`): 12 crops that overlap by 4 patches at both ends; 2 x 2 are pooled.
MOLMO_CROPS: Final = 12
MOLMO_MARGIN: Final = 8
MOLMO_POOL: Final = 2

# Molmo 2 (transformers `Molmo2ImageProcessor`, `Molmo2VideoProcessor`): 8 crops of 378 pixels; a
# frame pools 3 x 3 patches, with begin, end and its time before: " 1.0 " (our count).
MOLMO2_CROPS: Final = 8
MOLMO2_FRAME_POOL: Final = 3
MOLMO2_FRAME_MARKS: Final = 7
# Layers of the tower that the adapter reads, of 27 (vLLM 0.32 `molmo2.py`, vit_layers).
MOLMO2_READ: Final = (-3, -9)

# InternVL's and Eagle 2.5's pixel shuffle: a quarter of the patches.
SHUFFLE: Final = 4
RATIO_TILES: Final = 12

# Towers of models whose config.json names them only: CLIP ViT-L/14 of 336 pixels, and SigLIP-400M
# of 448 pixels (vLLM 0.32 `phi3v.py`, `phi4mm.py`, `molmo.py`).
CLIP_L: Final[Mapping[str, object]] = {
    "hidden_size": 1_024,
    "intermediate_size": 4_096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
SIGLIP_448: Final[Mapping[str, object]] = {
    "hidden_size": 1_152,
    "intermediate_size": 4_304,
    "num_hidden_layers": 27,
    "image_size": 448,
    "patch_size": 14,
}


def _tower(tower: ConfigReader, projector: int) -> tuple[Tower, int, int]:
    """Return a tower of plain blocks, the pixels of its side and of a patch."""
    hidden, width, layers = any_sizes(tower)
    side, patch = square(tower, "image_size"), square(tower, "patch_size")
    stem = stem_of(hidden, patch, (side // patch) ** 2)
    return tower_of_blocks(hidden, width, layers, projector=projector, stem=stem), side, patch


def _hidden(tower: ConfigReader) -> int:
    return any_sizes(tower)[0]


def _pinpoints(config: ConfigReader) -> tuple[tuple[int, int], ...]:
    """Return the (width, height) of canvases that a config.json lists as (height, width)."""
    name, stated = config.raw("image_grid_pinpoints")
    pairs = stated if isinstance(stated, list | tuple) else ()
    canvases = tuple(
        (int(pair[1]), int(pair[0]))
        for pair in pairs
        if isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(size, int) and 0 < size <= MAX_HIDDEN for size in pair)
    )
    if not canvases or len(canvases) != len(pairs):
        raise config.unsupported(name, "canvases of tiles", "a list of [height, width] in pixels")
    return canvases


def llava_next(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what LLaVA-NeXT reads: canvases of tiles of 336 pixels, and the whole."""
    projector = (_hidden(tower) + text_hidden) * text_hidden
    found, side, patch = _tower(tower, projector)
    tile = side // patch
    is_clip = tower.text("model_type") == "clip_vision_model"
    rule = PinpointTiles(
        side=side,
        tile=tile,
        # CLIP's class token passes, too.
        tile_patches=tile**2 + is_clip,
        canvases=_pinpoints(config),
        frame_tokens=(tile // FRAME_POOL) ** 2,
    )
    if config.text("model_type") != "llava_next_video":
        return Encoders(modalities=("image",), tower=found, image=rule)
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def llava_onevision(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what LLaVA-OneVision reads: the same of 384 pixels, tokens of at most nine tiles."""
    projector = (_hidden(tower) + text_hidden) * text_hidden
    found, side, patch = _tower(tower, projector)
    tile = side // patch
    rule = PinpointTiles(
        side=side,
        tile=tile,
        tile_patches=tile**2,
        canvases=_pinpoints(config),
        most_tiles=ONEVISION_TILES,
        frame_tokens=math.ceil(tile / FRAME_POOL) ** 2,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def bee(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Bee reads: LLaVA-OneVision's images, and a projector four times as wide."""
    seen = llava_onevision(config, tower, text_hidden)
    assert seen.tower is not None
    projector = BEE_WIDTH * text_hidden * (_hidden(tower) + text_hidden)
    found = replace(seen.tower, projector_parameters=projector)
    return Encoders(modalities=("image",), tower=found, image=seen.image)


def granite4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Granite 4 Vision reads: LLaVA-NeXT's tiles, windows of which queries read.

    A Q-Former of one block follows each layer of the tower that is read, and each of the four
    positions of a 2 x 2 square (vLLM 0.32 ``granite4_vision.py``).
    """
    hidden = _hidden(tower)
    former = config.nested("qformer_config") or ConfigReader({})
    width = former.integer("intermediate_size", high=MAX_WIDTH, default=GRANITE_WIDTH)
    read = config.raw("deepstack_layer_map")[1]
    outputs = GRANITE_OFFSETS + (len(read) if isinstance(read, list | tuple) else 0)
    projector = outputs * (8 * hidden**2 + 2 * hidden * width + hidden * text_hidden)
    found, side, patch = _tower(tower, projector)
    along = side // patch
    queries, window = _rate(config)
    rule = PinpointTiles(
        side=side,
        tile=along * queries // window,
        tile_patches=along**2,
        canvases=_pinpoints(config),
    )
    return Encoders(modalities=("image",), tower=replace(found, outputs=outputs), image=rule)


def _rate(config: ConfigReader) -> tuple[int, int]:
    """Return queries and patches along a window: "4/8" is 4 and 8."""
    name, stated = config.raw("downsample_rate")
    sides = str(stated).split("/")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) <= 64 for side in sides):
        raise config.unsupported(name, f"the rate {str(stated)[:20]!r}", "queries/patches: 4/8")
    return int(sides[0]), int(sides[1])


def ratio_tiles(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what InternVL's transformers class and Eagle 2.5 read: tiles of 448 pixels."""
    merged = SHUFFLE * _hidden(tower)
    found, side, patch = _tower(tower, (merged + text_hidden) * text_hidden)
    patches = (side // patch) ** 2
    has_class = tower.text("model_type") != "siglip_vision_model"
    rule = RatioTiles(
        side=side,
        tile_tokens=patches // SHUFFLE,
        tile_patches=patches + has_class,
        most_tiles=config.integer("max_dynamic_tiles", high=MAX_LAYERS, default=RATIO_TILES),
        has_thumbnail=True,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def cohere(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Command A Vision reads: canvases that enlarge the least."""
    merge = config.integer("downsample_factor", high=64, default=2)
    merged = merge**2 * _hidden(tower)
    inner = config.integer("alignment_intermediate_size", high=MAX_WIDTH, default=text_hidden)
    found, side, patch = _tower(tower, merged * inner + inner // 2 * text_hidden)
    rule = Tiles(
        side=side,
        tile_tokens=math.ceil(side // patch / merge) ** 2,
        tile_patches=(side // patch) ** 2,
        most_tiles=COHERE_TILES,
        edge_marks=COHERE_MARKS,
        tile_marks=1,
        has_row_marks=False,
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def idefics3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Idefics 3 and SmolVLM read: tiles of the longest side's part."""
    scale = config.integer("scale_factor", high=64, default=2)
    found, side, patch = _tower(tower, scale**2 * _hidden(tower) * text_hidden)
    patches = (side // patch) ** 2
    rule = LongestEdgeTiles(
        side=side,
        longest=LONGEST_TILES * side,
        tile_tokens=patches // scale**2,
        tile_patches=patches,
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def phi3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Phi-3.5-vision reads: as many tiles as there may be, 2 x 2 patches a token.

    Phi-3-vision, whose tiles are more, has the same class; its config.json states its name.
    """
    is_first = "phi-3-vision" in config.text("_name_or_path", default="").lower()
    most = PHI3_TILES if is_first else PHI3_5_TILES
    return _phi(tower, text_hidden, most=most, enlarges=True)


def phi4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Phi-4-multimodal sees: as few tiles as hold the image, 2 x 2 patches a token."""
    return _phi(tower, text_hidden, most=PHI4_TILES, enlarges=False)


def _phi(tower: ConfigReader, text_hidden: int, *, most: int, enlarges: bool) -> Encoders:
    # Phi-3 joins four patches, Phi-4 averages them.
    joined = SHUFFLE if enlarges else 1
    projector = (joined * _hidden(tower) + text_hidden) * text_hidden
    found, side, patch = _tower(tower, projector)
    rule = PaddedTiles(
        side=side, patch=patch, tile=side // patch // 2, most_tiles=most, enlarges=enlarges
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def minicpmv(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what MiniCPM-V up to 4.5 reads: slices that queries resample."""
    hidden, width, layers = any_sizes(tower)
    patch = square(tower, "patch_size")
    # Keys and values of patches, a layer of attention over them, and a projection.
    projector = hidden * text_hidden + 5 * text_hidden**2
    positions = (square(tower, "image_size", default=980) // patch) ** 2
    stem = stem_of(hidden, patch, positions)
    rule = Slices(
        side=MINICPM_SIDE,
        patch=patch,
        most_slices=MINICPM_SLICES,
        tokens=config.integer("query_num", high=MAX_WIDTH, default=MINICPM_QUERIES),
    )
    return Encoders(
        modalities=("image", "video"),
        tower=tower_of_blocks(hidden, width, layers, projector=projector, stem=stem),
        image=rule,
        video=rule,
    )


def minicpmv4_6(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what MiniCPM-V 4.6 and 4.7 read: slices whose patches are merged, 16 a token."""
    hidden, width, layers = any_sizes(tower)
    patch = square(tower, "patch_size", default=MINICPM_PATCH)
    # Two mergers of 2 x 2 patches each, with an inner layer (transformers 5.24).
    merged = SHUFFLE * hidden
    projector = 2 * merged**2 + merged * text_hidden
    stem = stem_of(hidden, patch, (square(tower, "image_size", default=980) // patch) ** 2)
    rule = Slices(side=MINICPM_SIDE, patch=patch, most_slices=MINICPM_SLICES, merge=MINICPM_MERGE)
    return Encoders(
        modalities=("image", "video"),
        tower=tower_of_blocks(hidden, width, layers, projector=projector, stem=stem),
        image=rule,
        video=rule,
    )


def lfm2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what LFM2-VL reads: images of any size up to 256 tokens, larger ones in tiles."""
    hidden, width, layers = any_sizes(tower)
    patch = square(tower, "patch_size")
    merge = config.integer("downsample_factor", high=64, default=2)
    inner = config.integer("projector_hidden_size", high=MAX_HIDDEN, default=2_560)
    area = (patch * merge) ** 2
    whole = MergedPatches(
        patch=patch,
        merge=merge,
        frames=1,
        least_pixels=LFM2_TOKENS[0] * area,
        most_pixels=LFM2_TOKENS[1] * area,
    )
    rule = LargeTiles(
        whole=whole,
        side=LFM2_SIDE,
        least_tiles=LFM2_TILES[0],
        most_tiles=LFM2_TILES[1],
        tolerated=LFM2_TOLERATED,
    )
    projector = (merge**2 * hidden + text_hidden) * inner
    stem = stem_of(hidden, patch, tower.integer("num_patches", high=MAX_WIDTH, default=256))
    found = tower_of_blocks(hidden, width, layers, projector=projector, stem=stem)
    return Encoders(modalities=("image",), tower=found, image=rule)


def molmo(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Molmo reads: crops that overlap, whose features of two layers are pooled."""
    hidden = _hidden(tower)
    wide = config.integer("intermediate_size", high=MAX_WIDTH) // 2
    # Attention over 2 x 2 patches of two layers, then a gated projection as wide as the text's.
    pooling = 2 * (2 * hidden) * hidden + 2 * hidden * hidden
    found, side, patch = _tower(tower, pooling + 2 * hidden * wide + wide * text_hidden)
    rule = OverlappedCrops(
        side=side, patch=patch, margin=MOLMO_MARGIN, pool=MOLMO_POOL, most_crops=MOLMO_CROPS
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def molmo2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Molmo 2 reads: Molmo's crops of another size, and frames of video."""
    hidden, width, layers = any_sizes(tower)
    names = ("image_size", "image_default_input_size")
    side = square(tower, next(filter(tower.has, names), names[0]))
    patch = tower.integer("patch_size", "image_patch_size", high=MAX_HIDDEN)
    along = side // patch
    adapter = config.nested("adapter_config") or ConfigReader({})
    read, last = _read_layers(adapter, layers)
    inner = adapter.integer("hidden_size", high=MAX_HIDDEN, default=hidden)
    wide = adapter.integer("intermediate_size", high=MAX_WIDTH)
    pooling = (3 * read * hidden + inner) * inner
    projector = pooling + (2 * inner + text_hidden) * wide
    stem = stem_of(hidden, patch, along**2)
    found = tower_of_blocks(hidden, width, last, projector=projector, stem=stem)
    rule = OverlappedCrops(
        side=side,
        patch=patch,
        margin=MOLMO_MARGIN,
        pool=MOLMO_POOL,
        most_crops=MOLMO2_CROPS,
        frame_tokens=math.ceil(along / MOLMO2_FRAME_POOL) ** 2,
        frame_marks=MOLMO2_FRAME_MARKS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _read_layers(adapter: ConfigReader, layers: int) -> tuple[int, int]:
    """Return how many layers of a tower are read, and up to which it is kept."""
    stated = adapter.raw("vit_layers", "vision_feature_layer")[1]
    given = stated if isinstance(stated, list | tuple) else MOLMO2_READ
    read = [layer for layer in given if isinstance(layer, int) and -layers <= layer < layers]
    if len(read) != len(given) or not read:
        raise adapter.unsupported("vit_layers", f"layers of {layers}", "numbers of its layers")
    return len(read), max(layer % layers for layer in read) + 1
