"""Towers that read images at their own size: document readers, ERNIE, EXAONE and Keye."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import (
    MAX_EXPERTS,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.encoders import Encoders
from budsim.model_ops.image_tokens import MergedPatches
from budsim.model_ops.towers.blocks import any_sizes, square, stem_of, tower_of_blocks
from budsim.model_ops.towers.merged import (
    GLM46_PIXELS,
    QWEN2_5_WHOLE_LAYERS,
    QWEN2_5_WINDOW_PIXELS,
    QWEN2_PIXELS,
)

# Least and most pixels of an image, of each family's image processor:
# PaddleOCR-VL (`PaddleOCRVLImageProcessor`).
PADDLE_PIXELS: Final = (384 * 384, 1_536 * 1_536)
# ERNIE-4.5-VL (`Ernie4_5_VLMoeImageProcessor`).
ERNIE_PIXELS: Final = (56 * 56, 28 * 28 * 6_177)
# dots.ocr: min_pixels and max_pixels of its preprocessor_config.json.
DOTS_PIXELS: Final = (3_136, 11_289_600)
# EXAONE 4.5: its processor is Qwen2-VL's, with the limits of Qwen2.5-VL.
EXAONE_PIXELS: Final = QWEN2_PIXELS
# Ovis2.5 (vLLM 0.32 `ovis2_5.py`), and the words of its vocabulary of pictures (`OvisConfig`).
OVIS_PIXELS: Final = (448 * 448, 1_792 * 1_792)
OVIS_WORDS: Final = 65_536
# Keye-VL: min_pixels and max_pixels of its preprocessor_config.json.
KEYE_PIXELS: Final = (28 * 28 * 4, 28 * 28 * 1_280)


def _rule(tower: ConfigReader, pixels: tuple[int, int], frames: int) -> MergedPatches:
    return MergedPatches(
        patch=square(tower, "patch_size"),
        merge=tower.integer("spatial_merge_size", high=64, default=2),
        frames=frames,
        least_pixels=pixels[0],
        most_pixels=pixels[1],
    )


def _merged(
    tower: ConfigReader,
    text_hidden: int,
    pixels: tuple[int, int],
    *,
    frames: int = 1,
    gated: bool = False,
    positions: int = 0,
    inner: int = 0,
    reads_video: bool = False,
) -> Encoders:
    """Return equal blocks whose patches are merged and projected by two layers.

    ``inner`` is the size between these, by default that of the merged patches.
    """
    hidden, width, layers = any_sizes(tower)
    rule = _rule(tower, pixels, frames)
    merged = hidden * rule.merge**2
    inner = inner or merged
    found = tower_of_blocks(
        hidden,
        width,
        layers,
        projector=(merged + text_hidden) * inner,
        gated=gated,
        stem=stem_of(hidden, rule.patch, positions) * frames,
    )
    if reads_video:
        return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)
    return Encoders(modalities=("image",), tower=found, image=rule)


def glm46(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what GLM-OCR and GLM-5-Next read, whose blocks are as wide as they say."""
    hidden, width, layers = any_sizes(tower)
    rule = _rule(tower, GLM46_PIXELS, 2)
    out = tower.integer("out_hidden_size", high=MAX_HIDDEN, default=text_hidden)
    # The merger's inner size: three times what it hands over where nothing else is said.
    inner = tower.integer("projection_intermediate_size", high=MAX_WIDTH, default=3 * out)
    projector = out * (rule.merge**2 * hidden + out + 3 * inner)
    stem = 2 * stem_of(hidden, rule.patch, 0)
    found = tower_of_blocks(hidden, width, layers, projector=projector, gated=True, stem=stem)
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _siglip(tower: ConfigReader, text_hidden: int, pixels: tuple[int, int]) -> Encoders:
    """Return SigLIP's blocks, which learned the positions of images of one size."""
    positions = (square(tower, "image_size", default=384) // square(tower, "patch_size")) ** 2
    return _merged(tower, text_hidden, pixels, positions=positions)


def paddle(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what PaddleOCR-VL reads: SigLIP's blocks at any size."""
    return _siglip(tower, text_hidden, PADDLE_PIXELS)


def keye(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Keye-VL reads: SigLIP's blocks at any size, of images and frames."""
    return _siglip(tower, text_hidden, KEYE_PIXELS)


def dots(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what dots.ocr reads: gated blocks, whose ``hidden_size`` is that of the text."""
    hidden = tower.integer("embed_dim", high=MAX_HIDDEN)
    own = ConfigReader({**tower.values, "hidden_size": hidden}, tower.prefix)
    return _merged(own, text_hidden, DOTS_PIXELS, gated=True)


def ovis(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Ovis2.5 reads, whose merged patches choose from a vocabulary of pictures."""
    hidden, width, layers = any_sizes(tower)
    rule = MergedPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=tower.integer("hidden_stride", high=64, default=2),
        frames=tower.integer("temporal_patch_size", high=64, default=1),
        least_pixels=OVIS_PIXELS[0],
        most_pixels=OVIS_PIXELS[1],
    )
    words = config.integer("visual_vocab_size", high=MAX_VOCABULARY, default=OVIS_WORDS)
    positions = (tower.integer("image_size", high=MAX_HIDDEN, default=512) // rule.patch) ** 2
    found = tower_of_blocks(
        hidden,
        width,
        layers,
        # Into the probability of each word, and of all words into the size of the text model.
        projector=words * (rule.merge**2 * hidden + text_hidden),
        stem=stem_of(hidden, rule.patch, positions) * rule.frames,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def exaone(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what EXAONE 4.5 reads: Qwen2.5-VL's windows, with fewer heads of keys and values."""
    hidden, width, layers = any_sizes(tower)
    heads = tower.integer("num_heads", high=MAX_HEADS, default=16)
    shared = tower.integer("num_key_value_heads", high=MAX_HEADS, default=heads)
    rule = _rule(tower, EXAONE_PIXELS, tower.integer("temporal_patch_size", high=64, default=2))
    merged = hidden * rule.merge**2
    stem = rule.frames * stem_of(hidden, rule.patch, 0)
    block = 2 * hidden**2 + 2 * hidden**2 * shared // heads + 3 * hidden * width
    found = replace(
        tower_of_blocks(hidden, width, layers, projector=merged * (merged + text_hidden)),
        block_parameters=block,
        stem_parameters=stem,
        window=(QWEN2_5_WINDOW_PIXELS // rule.patch) ** 2,
        whole_layers=QWEN2_5_WHOLE_LAYERS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def ernie(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what ERNIE-4.5-VL reads, whose experts for images no token of text meets."""
    seen = _merged(
        tower,
        text_hidden,
        ERNIE_PIXELS,
        frames=tower.integer("temporal_merge_size", high=64, default=2),
        inner=any_sizes(tower)[0] * 4,
        reads_video=True,
    )
    assert seen.tower is not None
    experts = _experts_of_images(config.nested("text_config") or config, text_hidden)
    weights = seen.tower.stem_parameters + experts
    return replace(seen, tower=replace(seen.tower, stem_parameters=weights))


def _experts_of_images(text: ConfigReader, text_hidden: int) -> int:
    """Return the weights of the second group of experts in all layers; 0 where there is none."""
    counts, widths = (text.raw(name)[1] for name in ("moe_num_experts", "moe_intermediate_size"))
    if not isinstance(widths, list | tuple):
        return 0
    widths = text.integers("moe_intermediate_size", count=2, high=MAX_WIDTH)
    count = counts if isinstance(counts, int) else (counts[1] if isinstance(counts, list) else 0)
    layers = text.integer("num_hidden_layers", high=MAX_LAYERS) - 1
    assert widths is not None
    return min(int(count), MAX_EXPERTS) * 3 * text_hidden * widths[1] * layers
