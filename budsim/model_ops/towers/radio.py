"""Nemotron's towers: RADIO's transformers and Parakeet (vLLM 0.32 ``nano_nemotron_vl.py``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders, Tower
from budsim.model_ops.image_tiles import RatioTiles
from budsim.model_ops.image_tokens import ShuffledPatches
from budsim.model_ops.towers.blocks import stem_of, tower_of_blocks

# Residual, blocks and feed-forward part of each size (vLLM 0.32 `radio.py`).
VITS: Final[Mapping[str, tuple[int, int, int]]] = {
    "vit_small_patch16_224": (384, 12, 1536),
    "vit_base_patch16_224": (768, 12, 3072),
    "vit_large_patch16_224": (1024, 24, 4096),
    "vit_huge_patch16_224": (1280, 32, 5120),
}
PATCH: Final = 16
# Positions of images of 2,048 pixels squared (RADIO's cpe_max_size).
POSITIONS: Final = (2048 // PATCH) ** 2
MERGE: Final = 2

# Tiles where the size of images is not free (DEFAULT_NUM_TILES).
TILES: Final = 12
# "Frame 1 sampled at 0.00 seconds: " before each frame (our count), begin and end around them.
FRAME_MARKS: Final = 13
EDGE_MARKS: Final = 2

# Parakeet (transformers 5.24 `ParakeetEncoderConfig`): frames of 10 ms a position, channels of the
# convolutions that join them, and matrices of hidden x hidden a block: five of its attention, which
# also knows distances, and three of its convolutions.
JOINED: Final = 8
CHANNELS: Final = 256
SQUARES: Final = 8


def nemotron(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Nemotron's models see: tiles, or images at their own size where it says so."""
    args = tower.nested("args") or ConfigReader({}, "vision_config.args.")
    name = args.text("model")
    if name not in VITS:
        expected = f"one of {', '.join(sorted(VITS))}"
        raise args.unsupported("model", f"the vision tower {name[:40]!r}", expected)
    hidden, layers, width = VITS[name]
    inner = config.integer("projector_hidden_size", high=MAX_WIDTH)
    found = tower_of_blocks(
        hidden,
        width,
        layers,
        projector=(MERGE**2 * hidden + text_hidden) * inner,
        stem=stem_of(hidden, PATCH, POSITIONS),
    )
    rule = _free(config, tower, args) if args.has("min_num_patches") else _tiles(config)
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _tiles(config: ConfigReader) -> RatioTiles:
    side = config.integer("force_image_size", high=MAX_HIDDEN)
    patches = (side // PATCH) ** 2
    return RatioTiles(
        side=side,
        tile_tokens=patches // MERGE**2,
        tile_patches=patches,
        most_tiles=TILES,
        has_thumbnail=config.flag("use_thumbnail", default=True),
        frame_marks=EDGE_MARKS + FRAME_MARKS,
    )


def _free(config: ConfigReader, tower: ConfigReader, args: ConfigReader) -> ShuffledPatches:
    frames = tower.integer("video_temporal_patch_size", high=64, default=1)
    side = tower.integer("video_target_img_size", high=MAX_HIDDEN, default=0, low=0)
    side = side or config.integer("force_image_size", high=MAX_HIDDEN)
    return ShuffledPatches(
        patch=PATCH,
        merge=MERGE,
        least_patches=args.integer("min_num_patches", high=2**31),
        most_patches=args.integer("max_num_patches", high=2**31, low=0, default=0) or 2**31,
        frame_patches=tower.integer(
            "video_target_num_patches", high=2**31, default=math.ceil(side / PATCH) ** 2
        ),
        keeps_shape=tower.flag("video_maintain_aspect_ratio", default=False),
        frames=frames,
        frame_marks=EDGE_MARKS + frames * FRAME_MARKS,
    )


def parakeet(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return Parakeet's conformer, with two projections behind it."""
    hidden = tower.integer("hidden_size", high=MAX_HIDDEN, default=1024)
    width = tower.integer("intermediate_size", high=MAX_WIDTH, default=4096)
    inner = tower.integer("projection_hidden_size", high=MAX_WIDTH)
    pitches = tower.integer("num_mel_bins", high=MAX_HIDDEN, default=128) // JOINED
    return Tower(
        layers=tower.integer("num_hidden_layers", high=MAX_LAYERS, default=24),
        hidden=hidden,
        width=2 * width,
        block_parameters=2 * 2 * hidden * width + SQUARES * hidden**2,
        projector_parameters=(hidden + text_hidden) * inner,
        stem_parameters=CHANNELS * pitches * hidden,
    )
