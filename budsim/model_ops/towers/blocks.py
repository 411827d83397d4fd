"""What readers of towers have in common: sizes of blocks, and squares of merged patches."""

from __future__ import annotations

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.image_tokens import MergedPatches


def block(hidden: int, width: int, *, gated: bool) -> int:
    """Return the weights of four projections and a feed-forward part."""
    return 4 * hidden * hidden + (3 if gated else 2) * hidden * width


def sizes(tower: ConfigReader, layers: str) -> tuple[int, int, int]:
    """Return the sizes of the residual and of the feed-forward part, and how many blocks."""
    return (
        tower.integer("hidden_size", high=MAX_HIDDEN),
        tower.integer("intermediate_size", high=MAX_WIDTH),
        tower.integer(layers, high=MAX_LAYERS),
    )


def merged_patches(tower: ConfigReader, least: int, most: int, video: int = 0) -> MergedPatches:
    """Return the rule of a tower whose images may have any size between two numbers of pixels."""
    return MergedPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=tower.integer("spatial_merge_size", high=64),
        frames=tower.integer("temporal_patch_size", high=MAX_HIDDEN),
        least_pixels=least,
        most_pixels=most,
        most_video_pixels=video,
    )
