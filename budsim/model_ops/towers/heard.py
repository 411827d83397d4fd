"""Encoders of audio: Whisper's blocks, and conformers, with what projects their frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.encoders import Tower
from budsim.model_ops.towers.blocks import tower_of_blocks
from budsim.model_ops.towers.radio import parakeet

# Frames of the encoder that one token joins: Voxtral, GLM-ASR and MOSS (transformers 5.24).
JOINED: Final = 4

# Positions of Dasheng that one token joins (vLLM 0.32 `midashenglm.py`, subsample_factor).
DASHENG_JOINED: Final = 5

# Phi-4-multimodal's conformer, of which config.json of the first release states the name only
# (transformers 5.24 `Phi4MultimodalAudioConfig`).
PHI4_AUDIO: Final[Mapping[str, object]] = {
    "hidden_size": 1_024,
    "intermediate_size": 1_536,
    "num_blocks": 24,
}

# Qwen3-Omni's convolutions: frames of 10 ms they run over, how often they halve, and 3 x 3 values.
CHUNK: Final = 100
HALVINGS: Final = 3
KERNEL: Final = 9

# Matrices of hidden x hidden in the convolutions of a conformer's block: into a gate of twice the
# size each, and out.
CONVOLUTION: Final = 3


def whisper_sizes(tower: ConfigReader) -> tuple[int, int, int]:
    """Return residual, feed-forward part and blocks of an encoder of Whisper's kind."""
    return (
        tower.integer("d_model", "hidden_size", high=MAX_HIDDEN),
        tower.integer("encoder_ffn_dim", "intermediate_size", high=MAX_WIDTH),
        tower.integer("encoder_layers", "num_hidden_layers", high=MAX_LAYERS),
    )


def whisper_stem(tower: ConfigReader) -> int:
    """Return the weights of two convolutions over three frames each."""
    hidden = whisper_sizes(tower)[0]
    mels = tower.integer("num_mel_bins", high=MAX_HIDDEN, default=128)
    return 3 * hidden * (mels + hidden)


def plain(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return Whisper's encoder with one projection: Qwen2-Audio, Qwen2.5-Omni."""
    hidden, width, layers = whisper_sizes(tower)
    return tower_of_blocks(
        hidden, width, layers, projector=hidden * text_hidden, stem=whisper_stem(tower)
    )


def whole(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return the encoder of Whisper itself, whose decoder reads it without a projection."""
    hidden, width, layers = whisper_sizes(tower)
    positions = tower.integer("max_source_positions", high=MAX_WIDTH, default=1_500)
    stem = whisper_stem(tower) + positions * hidden
    return tower_of_blocks(hidden, width, layers, projector=0, stem=stem)


def convolved(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:
    """Return the encoder of Qwen3-Omni and Qwen3-ASR: three convolutions over time and pitch.

    Each halves both. Of 100 frames of 128 pitches 50 x 64, 25 x 32 and 13 x 16 values of 480 are
    left, so that 13 positions take 4.5 GFLOPs; the blocks take 16.4 (transformers 5.24
    ``Qwen3OmniMoeAudioEncoder``).
    """
    found = plain(config, tower, text_hidden)
    inner = tower.integer("downsample_hidden_size", high=MAX_HIDDEN, default=480)
    times, pitches = CHUNK, tower.integer("num_mel_bins", high=MAX_HIDDEN, default=128)
    flops, weights, before = 0.0, 0, 1
    for _ in range(HALVINGS):
        times, pitches = math.ceil(times / 2), math.ceil(pitches / 2)
        flops += 2.0 * KERNEL * before * inner * times * pitches
        weights += KERNEL * before * inner
        before = inner
    joined_pitches = inner * pitches * found.hidden
    flops = flops / times + 2.0 * joined_pitches
    return replace(found, stem_parameters=weights + joined_pitches, stem_flops=flops)


def two_layers(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return Whisper's encoder with two projections: Audio Flamingo 3, MiniCPM-o."""
    hidden, width, layers = whisper_sizes(tower)
    projector = (hidden + text_hidden) * text_hidden
    return tower_of_blocks(hidden, width, layers, projector=projector, stem=whisper_stem(tower))


def joined(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return Whisper's encoder whose frames are joined by four, then projected twice."""
    hidden, width, layers = whisper_sizes(tower)
    projector = (JOINED * hidden + text_hidden) * text_hidden
    return tower_of_blocks(hidden, width, layers, projector=projector, stem=whisper_stem(tower))


def granite(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:
    """Return Granite Speech's conformer, and the Q-Former behind it."""
    hidden = tower.integer("hidden_dim", high=MAX_HIDDEN)
    factor = tower.integer("feedforward_mult", high=64, default=4)
    heads = tower.integer("num_heads", high=MAX_HEADS) * tower.integer("dim_head", high=MAX_HIDDEN)
    expansion = tower.integer("conv_expansion_factor", high=64, default=2)
    block = 4 * factor * hidden**2 + 4 * hidden * heads + CONVOLUTION * expansion * hidden**2
    former = config.nested("projector_config")
    projector = hidden * text_hidden if former is None else _former(former, hidden, text_hidden)
    return Tower(
        layers=tower.integer("num_layers", high=MAX_LAYERS),
        hidden=hidden,
        width=factor * hidden,
        block_parameters=block,
        projector_parameters=projector,
        attention=heads,
    )


def _former(former: ConfigReader, hidden: int, text_hidden: int) -> int:
    inner = former.integer("hidden_size", high=MAX_HIDDEN)
    blocks = former.integer("num_hidden_layers", high=MAX_LAYERS)
    width = former.integer("intermediate_size", high=MAX_WIDTH)
    every = former.integer("cross_attention_frequency", high=MAX_LAYERS, default=2)
    crossed = blocks // every * 2 * (inner + hidden) * inner
    return blocks * (4 * inner + 2 * width) * inner + crossed + inner * text_hidden


def phi4_audio(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:  # noqa: ARG001
    """Return Phi-4-multimodal's conformer: two gated feed-forward parts a block."""
    hidden = tower.integer("hidden_size", high=MAX_HIDDEN)
    width = tower.integer("intermediate_size", high=MAX_WIDTH)
    block = 2 * 3 * hidden * width + (4 + CONVOLUTION) * hidden**2
    return Tower(
        layers=tower.integer("num_blocks", high=MAX_LAYERS),
        hidden=hidden,
        width=2 * width,
        block_parameters=block,
        projector_parameters=(hidden + text_hidden) * text_hidden,
    )


def dasheng(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Tower:
    """Return MiDashengLM's encoder, of whose positions five are joined, then projected twice."""
    hidden = tower.integer("embed_dim", high=MAX_HIDDEN)
    width = round(hidden * tower.number("mlp_ratio", default=4.0, high=64.0))
    layers = tower.integer("depth", high=MAX_LAYERS)
    times = config.integer("subsample_factor", high=64, default=DASHENG_JOINED)
    projector = (times * hidden + text_hidden) * text_hidden
    return tower_of_blocks(hidden, width, layers, projector=projector)


HEARD: Final[Mapping[str, Callable[[ConfigReader, ConfigReader, int], Tower]]] = {
    "whisper": whole,
    "qwen2_audio": plain,
    "qwen2_5_omni": plain,
    "qwen3_omni_moe": convolved,
    "qwen3_asr": convolved,
    "audioflamingo3": two_layers,
    "voxtral": joined,
    "glmasr": joined,
    "moss_transcribe_diarize": joined,
    "granite_speech": granite,
    "granite_speech_plus": granite,
    "midashenglm": dasheng,
    "minicpmo": two_layers,
    "nemotron_vl": parakeet,
    "phi4mm": phi4_audio,
}
