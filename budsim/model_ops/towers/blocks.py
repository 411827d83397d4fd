"""What readers of towers have in common: towers of equal blocks, and squares of merged patches."""

from __future__ import annotations

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Tower
from budsim.model_ops.image_tokens import MergedPatches


def tower_of_blocks(
    hidden: int, width: int, layers: int, *, projector: int, gated: bool = False
) -> Tower:
    """Return a tower of equal blocks: four projections and a feed-forward part each.

    ``projector`` counts the weights between the tower and the language model.
    """
    return Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=4 * hidden * hidden + (3 if gated else 2) * hidden * width,
        projector_parameters=projector,
    )


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
