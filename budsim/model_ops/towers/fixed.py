"""Towers whose images always become the same number of tokens."""

from __future__ import annotations

from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders
from budsim.model_ops.image_tokens import FixedImage, PatchRows
from budsim.model_ops.towers.blocks import any_sizes, stem_of, tower_of_blocks
from budsim.model_ops.vision import image_patches

# Pixtral's rows in LLaVA's classes (transformers `PixtralImageProcessor`): sides of 1,024 pixels.
PIXTRAL_SIDE: Final = 1_024

# Aria (transformers `AriaConfig`, projector_patch_to_query_dict; `AriaImageProcessor`,
# max_image_size 980): 256 queries of 70 x 70 patches of 14 pixels.
ARIA_PATCHES: Final = 4_900
ARIA_QUERIES: Final = 256

# BLIP-2 (transformers `Blip2Config`): queries of its Q-Former.
BLIP2_QUERIES: Final = 32


def llava(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what LLaVA 1.5 reads: all patches of one square; Pixtral's tower keeps the shape."""
    hidden, width, layers = any_sizes(tower)
    projector = (hidden + text_hidden) * text_hidden
    patch = tower.integer("patch_size", high=MAX_HIDDEN)
    if tower.text("model_type") == "pixtral":
        found = tower_of_blocks(
            hidden, width, layers, projector=projector, gated=True, stem=stem_of(hidden, patch, 0)
        )
        side = tower.integer("image_size", high=MAX_HIDDEN, default=PIXTRAL_SIDE)
        return Encoders(
            modalities=("image",),
            tower=found,
            image=PatchRows(patch=patch, merge=1, longest=side),
        )
    patches = image_patches(tower)
    stem = stem_of(hidden, patch, patches + 1)
    found = tower_of_blocks(hidden, width, layers, projector=projector, stem=stem)
    # One position more: CLIP's class token, which is handed over where all features are selected.
    whole = config.text("vision_feature_select_strategy", default="default") == "full"
    classes = int(tower.text("model_type") != "siglip_vision_model")
    rule = FixedImage(tokens=patches + classes * whole, patches=patches + classes, marks=0)
    return Encoders(modalities=("image",), tower=found, image=rule)


def paligemma(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what PaliGemma reads: all patches of one square, and a line break."""
    hidden, width, layers = any_sizes(tower)
    patches = image_patches(tower)
    stem = stem_of(hidden, tower.integer("patch_size", high=MAX_HIDDEN), patches)
    found = tower_of_blocks(hidden, width, layers, projector=hidden * text_hidden, stem=stem)
    rule = FixedImage(tokens=patches, patches=patches, marks=1)
    return Encoders(modalities=("image",), tower=found, image=rule)


def aria(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Aria reads: the queries of one layer that attends to all patches of a square."""
    hidden, width, layers = any_sizes(tower)
    patches = ARIA_PATCHES
    # Two projections each of queries, keys and values, two of what leaves the attention, and two
    # layers (vLLM 0.32 `aria.py`, AriaCrossAttention and AriaProjectorMLP).
    projector = 8 * hidden**2 + (hidden + text_hidden) * text_hidden
    stem = stem_of(hidden, tower.integer("patch_size", high=MAX_HIDDEN), patches)
    found = tower_of_blocks(
        hidden, width, layers, projector=projector, stem=stem + ARIA_QUERIES * hidden
    )
    rule = FixedImage(tokens=ARIA_QUERIES, patches=patches, marks=2)
    return Encoders(modalities=("image",), tower=found, image=rule)


def blip2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what BLIP-2 reads: the queries of a Q-Former, which attend to all patches."""
    hidden, width, layers = any_sizes(tower)
    former = config.nested("qformer_config") or config
    inner = former.integer("hidden_size", high=MAX_HIDDEN)
    blocks = former.integer("num_hidden_layers", high=MAX_LAYERS)
    wide = former.integer("intermediate_size", high=MAX_WIDTH)
    every = former.integer("cross_attention_frequency", high=MAX_LAYERS, default=2)
    crossed = blocks // every * (2 * inner + 2 * hidden) * inner
    projector = blocks * (4 * inner + 2 * wide) * inner + crossed + inner * text_hidden
    patches = image_patches(tower) + 1
    stem = stem_of(hidden, tower.integer("patch_size", high=MAX_HIDDEN), patches)
    found = tower_of_blocks(hidden, width, layers, projector=projector, stem=stem)
    queries = config.integer("num_query_tokens", high=MAX_WIDTH, default=BLIP2_QUERIES)
    rule = FixedImage(tokens=queries, patches=patches, marks=0)
    return Encoders(modalities=("image",), tower=found, image=rule)
