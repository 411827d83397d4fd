"""Gemma's towers: images of fixed budgets of tokens, and conformers for audio."""

from __future__ import annotations

from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_WIDTH, ConfigReader
from budsim.model_ops.encoders import Encoders, Tower
from budsim.model_ops.image_tokens import FixedImage, PooledPatches
from budsim.model_ops.sounds import GEMMA3N_SOUND, GEMMA4_SOUND
from budsim.model_ops.towers.blocks import sizes, tower_of_blocks
from budsim.model_ops.vision import AUDIO_PARAMETERS, image_patches

# Gemma 3: 4 x 4 patches are pooled (mm_tokens_per_image 256 of 64 x 64 patches); two line breaks
# and begin and end of the image around them (transformers Gemma3Processor).
GEMMA3_TOKENS: Final = 256
GEMMA3_MARKS: Final = 4

# Gemma 4: pools 3 x 3 patches; 280 tokens an image unless asked otherwise, 70 a frame with 8 around
# them (ai.google.dev/gemma/docs/capabilities/vision; vLLM 0.32 models/gemma4_mm.py).
GEMMA4_POOL: Final = 3
GEMMA4_TOKENS: Final = 280
GEMMA4_FRAME_TOKENS: Final = 70
GEMMA4_FRAME_MARKS: Final = 8

# Gemma 3n: every image is 256 tokens (transformers 5.23 `Gemma3nProcessor`).
GEMMA3N_TOKENS: Final = 256

# Gemma 3n's towers, of which its card and report state weights only: MobileNet-V5 of 300 M, whose
# convolutions are counted as if each weight met each token, and a conformer of 680 M with 12 blocks
# of 1,536 (transformers 5.23 `Gemma3nAudioConfig`).
GEMMA3N_VISION: Final = Tower(
    layers=1, hidden=2_048, width=0, block_parameters=300_000_000, projector_parameters=0
)
GEMMA3N_AUDIO: Final = Tower(
    layers=12,
    hidden=1_536,
    width=6_144,
    block_parameters=680_000_000 // 12,
    projector_parameters=0,
)

# Gemma 4's conformer of 12 blocks (config: gemma4_audio, hidden size 1,024), of which the card
# states the weights only.
GEMMA4_AUDIO: Final = Tower(
    layers=12,
    hidden=1_024,
    width=4_096,
    block_parameters=AUDIO_PARAMETERS // 12,
    projector_parameters=0,
)


def gemma3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what SigLIP reads: every image becomes the same tokens."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    tokens = config.integer("mm_tokens_per_image", high=MAX_WIDTH, default=GEMMA3_TOKENS)
    found = tower_of_blocks(hidden, width, layers, projector=hidden * text_hidden)
    rule = FixedImage(tokens=tokens, patches=image_patches(tower), marks=GEMMA3_MARKS)
    return Encoders(modalities=("image",), tower=found, image=rule)


def gemma4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    """Return what Gemma 4 reads; E2B and E4B hear, too."""
    hidden, width, layers = sizes(tower, "num_hidden_layers")
    found = tower_of_blocks(hidden, width, layers, projector=hidden * text_hidden, gated=True)
    rule = PooledPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        pool=tower.integer("pooling_kernel_size", high=64, default=GEMMA4_POOL),
        budget=config.integer(
            "vision_soft_tokens_per_image", high=MAX_WIDTH, default=GEMMA4_TOKENS
        ),
        frame_budget=GEMMA4_FRAME_TOKENS,
        frame_marks=GEMMA4_FRAME_MARKS,
    )
    seen = Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)
    if config.nested("audio_config") is None:
        return seen
    return Encoders(
        modalities=("image", "video", "audio"),
        tower=found,
        image=rule,
        video=rule,
        audio_tower=GEMMA4_AUDIO,
        audio=GEMMA4_SOUND,
    )


def gemma3n(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    """Return what Gemma 3n reads and hears."""
    rule = FixedImage(tokens=GEMMA3N_TOKENS, patches=GEMMA3N_TOKENS, marks=GEMMA3_MARKS)
    return Encoders(
        modalities=("image", "audio"),
        tower=GEMMA3N_VISION,
        image=rule,
        audio_tower=GEMMA3N_AUDIO,
        audio=GEMMA3N_SOUND,
    )
