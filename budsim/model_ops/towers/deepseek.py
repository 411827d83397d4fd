"""DeepSeek-VL2's SigLIP, and the compressing encoders of DeepSeek-OCR and its successors."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, ConfigReader
from budsim.model_ops.encoders import Encoders, Tower
from budsim.model_ops.image_crops import PinpointTiles
from budsim.model_ops.image_tiles import GlobalTiles
from budsim.model_ops.towers.blocks import any_sizes, stem_of, tower_of_blocks

# DeepSeek-VL2: tiles of 384 pixels; 2 x 2 patches a token, padded from 27 to 28 patches (vLLM 0.32
# `deepseek_vl2.py`).
VL2_SIDE: Final = 384
VL2_PATCH: Final = 14
VL2_MERGE: Final = 2

# DeepSeek-OCR (arXiv 2510.18234, vLLM 0.32 `deepseek_ocr.py`): patches of 16 pixels, of which
# convolutions join 16; the whole at 1,024 pixels, two to six tiles of 640; of DeepSeek-OCR 2 of 768
# pixels, of Unlimited-OCR up to 32 tiles.
OCR_WHOLE: Final = 1_024
OCR_TILE: Final = 640
OCR2_TILE: Final = 768
OCR_PATCH: Final = 16
OCR_EDGE: Final = 64
OCR_TILES: Final = (2, 6)
UNLIMITED_TILES: Final = (2, 32)

# SAM ViT-B: 12 blocks of 768 that attend to windows of 14 x 14 patches, but for four; its neck of
# convolutions. Each token it hands over passes CLIP ViT-L: 24 blocks of 1,024; in DeepSeek-OCR 2 24
# layers of Qwen2-0.5B, together with as many queries.
SAM_HIDDEN: Final = 768
SAM_LAYERS: Final = 12
SAM_WINDOW: Final = 14 * 14
SAM_WHOLE_LAYERS: Final = 4
SAM_NECK: Final = 768 * 256 + 9 * (256 * 256 + 256 * 512 + 512 * 1_024)
CLIP_HIDDEN: Final = 1_024
CLIP_BLOCKS: Final = 24 * 12 * CLIP_HIDDEN**2
QWEN_HIDDEN: Final = 896
QWEN_BLOCKS: Final = 24 * (2 * QWEN_HIDDEN**2 + 2 * QWEN_HIDDEN * 128 + 3 * QWEN_HIDDEN * 4_864)


def deepseek_vl2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what DeepSeek-VL2 reads: a canvas of tiles and the whole, with a mark a row."""
    hidden, width, layers = any_sizes(tower)
    tile = -(-(VL2_SIDE // VL2_PATCH) // VL2_MERGE)
    patches = (VL2_SIDE // VL2_PATCH) ** 2
    stem = stem_of(hidden, tower.integer("patch_size", high=MAX_HIDDEN), patches)
    projector = (VL2_MERGE**2 * hidden + text_hidden) * text_hidden
    rule = PinpointTiles(
        side=VL2_SIDE,
        tile=tile,
        tile_patches=patches,
        canvases=_canvases(config),
        unpads=False,
        # After each row of the whole, and one between both.
        whole_marks=tile + 1,
    )
    found = tower_of_blocks(hidden, width, layers, projector=projector, stem=stem)
    return Encoders(modalities=("image",), tower=found, image=rule)


def _canvases(config: ConfigReader) -> tuple[tuple[int, int], ...]:
    name, stated = config.raw("candidate_resolutions")
    pairs = [tuple(pair) for pair in stated] if isinstance(stated, list | tuple) else []
    for pair in pairs:
        fits = len(pair) == 2 and all(isinstance(size, int) and size >= VL2_SIDE for size in pair)
        if not fits or max(pair) > MAX_HIDDEN:
            raise config.unsupported(name, f"{pair!r}"[:40], "pairs of pixels, at least 384")
    return tuple((pair[0], pair[1]) for pair in pairs) or ((VL2_SIDE, VL2_SIDE),)


def _sam(projector: int) -> Tower:
    sam = tower_of_blocks(
        SAM_HIDDEN,
        4 * SAM_HIDDEN,
        SAM_LAYERS,
        projector=projector + SAM_NECK,
        stem=stem_of(SAM_HIDDEN, OCR_PATCH, (OCR_WHOLE // OCR_PATCH) ** 2),
    )
    return replace(sam, window=SAM_WINDOW, whole_layers=SAM_WHOLE_LAYERS)


def _rule(tile: int, tiles: tuple[int, int], *, has_row_marks: bool) -> GlobalTiles:
    return GlobalTiles(
        whole_side=OCR_WHOLE,
        side=tile,
        edge=OCR_EDGE,
        patch=OCR_PATCH,
        least_tiles=tiles[0],
        most_tiles=tiles[1],
        has_row_marks=has_row_marks,
    )


def deepseek_ocr(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what DeepSeek-OCR reads: SAM, 16-fold fewer tokens, then CLIP; both are projected."""
    found = _sam(CLIP_BLOCKS + 2 * CLIP_HIDDEN * text_hidden)
    rule = _rule(OCR_TILE, OCR_TILES, has_row_marks=True)
    return Encoders(modalities=("image",), tower=found, image=rule)


def deepseek_ocr2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what DeepSeek-OCR 2 reads: the second encoder is a language model's."""
    found = _sam(QWEN_BLOCKS + QWEN_HIDDEN * text_hidden)
    rule = _rule(OCR2_TILE, OCR_TILES, has_row_marks=False)
    return Encoders(modalities=("image",), tower=found, image=rule)


def unlimited_ocr(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Unlimited-OCR reads: as DeepSeek-OCR, in more tiles."""
    seen = deepseek_ocr(config, tower, text_hidden)
    return replace(seen, image=_rule(OCR_TILE, UNLIMITED_TILES, has_row_marks=True))
