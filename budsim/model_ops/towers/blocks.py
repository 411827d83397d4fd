"""What readers of towers have in common: their sizes, equal blocks, squares of merged patches."""

from __future__ import annotations

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Tower
from budsim.model_ops.image_tokens import MergedPatches


def tower_of_blocks(
    hidden: int, width: int, layers: int, *, projector: int, gated: bool = False, stem: int = 0
) -> Tower:
    """Return a tower of equal blocks: four projections and a feed-forward part each.

    ``projector`` counts the weights between the tower and the language model, ``stem`` those that
    make patches of pixels and tell their positions.
    """
    return Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=4 * hidden * hidden + (3 if gated else 2) * hidden * width,
        projector_parameters=projector,
        stem_parameters=stem,
    )


def any_sizes(tower: ConfigReader) -> tuple[int, int, int]:
    """Return what `sizes` does, by whichever of the usual names a tower states it."""
    hidden = tower.integer("hidden_size", "embed_dim", "width", high=MAX_HIDDEN)
    layers = tower.integer("num_hidden_layers", "depth", "layers", high=MAX_LAYERS)
    if tower.has("intermediate_size"):
        return hidden, tower.integer("intermediate_size", high=MAX_WIDTH), layers
    return hidden, round(hidden * tower.number("mlp_ratio", default=4.0, high=64.0)), layers


def square(tower: ConfigReader, name: str, default: int | None = None) -> int:
    """Return the side of a square that is stated as one number, or as two equal ones."""
    stated = tower.raw(name)[1]
    if isinstance(stated, list | tuple):
        tower = tower.with_values({name: stated[0] if stated else None})
    return tower.integer(name, high=MAX_HIDDEN, default=default)


def stem_of(hidden: int, patch: int, positions: int) -> int:
    """Return the weights that make patches of pixels, and those of their positions."""
    return 3 * patch**2 * hidden + positions * hidden


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
