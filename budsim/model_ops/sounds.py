"""How many tokens a sound becomes: each family's encoder has a rate of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.image_tokens import EncodedItem
from budsim.model_ops.media import LONGEST_AUDIO_S

# Begin and end of a sound.
MARKS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRule:
    """An encoder of audio that hands over equally many tokens each second.

    Attributes
    ----------
    tokens_per_s : float
        Tokens of the prompt.
    positions_per_s : float
        Positions that pass through the tower; by default as many.
    window_s : float
        Seconds that a position attends to; by default the whole sound.
    padded_s : float
        The tower pads sounds to whole multiples of this length; 0: it pads none.
    pads_tokens : bool
        Whether the padding becomes tokens, too.
    longest_s : float
        Longest sound that is taken, seconds.
    fixed_tokens : int
        Tokens of every sound; 0: they follow from its length.
    marks : int
        Further prompt tokens around it.
    """

    tokens_per_s: float
    longest_s: float
    positions_per_s: float = 0.0
    window_s: float = math.inf
    padded_s: float = 0.0
    fixed_tokens: int = 0
    pads_tokens: bool = False
    marks: int = MARKS

    def sound(self, seconds: float) -> EncodedItem:
        """Return a sound of ``seconds``; 10 s at 25 tokens a second are 250.

        Raises
        ------
        InvalidInput
            It is longer than the model takes.
        """
        if seconds > self.longest_s:
            expected = f"at most {self.longest_s:g} s"
            raise InvalidInput("audio_seconds", f"is {seconds:g}", expected)
        rate = self.positions_per_s or self.tokens_per_s
        heard_s = self.padded_s * math.ceil(seconds / self.padded_s) if self.padded_s else seconds
        said_s = heard_s if self.pads_tokens else seconds
        positions = max(round(heard_s * rate), 1)
        return EncodedItem(
            tokens=self.fixed_tokens or max(round(said_s * self.tokens_per_s), 1),
            marks=self.marks,
            patches=positions,
            span=min(positions, max(round(min(self.window_s, heard_s) * rate), 1)),
        )


# Gemma 4 E2B and E4B: 25 tokens a second, at most 30 s (ai.google.dev/gemma/docs/capabilities/
# audio; processor_config.json: audio_ms_per_token 40, audio_seq_length 750).
GEMMA4_SOUND: Final = AudioRule(tokens_per_s=25.0, longest_s=30.0)

# Gemma 3n: 188 tokens for every sound, at most 30 s (transformers 5.23 `Gemma3nProcessor`); its
# card states 6.25 tokens a second.
GEMMA3N_SOUND: Final = AudioRule(tokens_per_s=6.25, longest_s=30.0, fixed_tokens=188, marks=4)

# Qwen2-Audio: 30 s of 100 frames a second always pass, halved by a convolution, and pairs of what
# leaves are averaged (transformers 5.23 `Qwen2AudioEncoder`): 25 tokens a second, "about 40 ms"
# each (arXiv 2407.10759).
QWEN2_SOUND: Final = AudioRule(
    tokens_per_s=25.0, positions_per_s=50.0, longest_s=30.0, padded_s=30.0
)

# Qwen2.5-Omni: as Qwen2-Audio without padding, in blocks of 2 s (its config: n_window 100,
# seconds_per_chunk 2; arXiv 2503.20215); its feature extractor cuts at 300 s.
QWEN2_5_SOUND: Final = AudioRule(
    tokens_per_s=25.0, positions_per_s=50.0, window_s=2.0, longest_s=300.0
)

# Qwen3-Omni: 13 positions for each second, in blocks of 8 s (transformers 5.23
# `_get_feat_extract_output_lengths`, n_window_infer 800); "up to 40 minutes" (arXiv 2509.17765).
QWEN3_SOUND: Final = AudioRule(tokens_per_s=13.0, window_s=8.0, longest_s=2400.0)

# Qwen3-ASR: as Qwen3-Omni; "up to 20 minutes" (its card).
QWEN3_ASR_SOUND: Final = replace(QWEN3_SOUND, longest_s=1200.0)

# Whisper in pieces of 30 s, each padded, of 50 positions a second (arXiv 2212.04356).
_IN_PIECES: Final = AudioRule(
    tokens_per_s=25.0, positions_per_s=50.0, padded_s=30.0, window_s=30.0, longest_s=600.0
)

# Audio Flamingo 3: pairs are averaged; at most 10 minutes (transformers 5.24
# `AudioFlamingo3Processor`, max_audio_len 600).
FLAMINGO_SOUND: Final = _IN_PIECES

# Voxtral: four are joined, and padding is kept (vLLM 0.32 `voxtral.py`, 12.5 tokens a second); "up
# to 40 minutes" (its card). Its marks are [INST]'s [BEGIN_AUDIO].
VOXTRAL_SOUND: Final = replace(
    _IN_PIECES, tokens_per_s=12.5, pads_tokens=True, longest_s=2400.0, marks=1
)

# GLM-ASR: four are joined; at most 655 s (transformers 5.24 `GlmAsrProcessor`).
GLM_ASR_SOUND: Final = replace(_IN_PIECES, tokens_per_s=12.5, longest_s=655.0)

# MOSS-Transcribe-Diarize: four are joined (vLLM 0.32, audio_merge_size 4); at most 90 minutes
# (vLLM's MAX_AUDIO_DURATION_S).
MOSS_SOUND: Final = replace(_IN_PIECES, tokens_per_s=12.5, longest_s=5400.0)

# Granite Speech: 50 positions a second in blocks of 200, and 3 queries for each 15 of them; at most
# 8,000,000 samples of 16 kHz (vLLM 0.32 `granite_speech.py`).
GRANITE_SOUND: Final = AudioRule(
    tokens_per_s=10.0, positions_per_s=50.0, window_s=4.0, longest_s=500.0, marks=0
)

# Phi-4-multimodal: 8 frames of 10 ms a position; "up to 30 minutes" of speech (arXiv 2503.01743).
PHI4_SOUND: Final = AudioRule(tokens_per_s=12.5, longest_s=1800.0, marks=0)

# MiniCPM-o: in pieces of 1 s, of which 50 positions are averaged by five (vLLM 0.32 `minicpmo.py`,
# audio_chunk_length 1.0 and audio_pool_step 5). No longest sound is published.
MINICPM_SOUND: Final = AudioRule(
    tokens_per_s=10.0, positions_per_s=50.0, window_s=1.0, longest_s=LONGEST_AUDIO_S
)

# MiDashengLM: 4 frames of 10 ms a position, of which five are joined, in pieces of 1,008 frames
# (vLLM 0.32 `midashenglm.py`; target_length of its config.json). No longest sound is published.
DASHENG_SOUND: Final = AudioRule(
    tokens_per_s=5.0, positions_per_s=25.0, window_s=10.08, longest_s=LONGEST_AUDIO_S
)

# Nemotron Nano Omni: 8 frames of 10 ms a token, in pieces of 30 s (vLLM 0.32 `parakeet.py`). No
# longest sound is published.
PARAKEET_SOUND: Final = AudioRule(tokens_per_s=12.5, window_s=30.0, longest_s=LONGEST_AUDIO_S)

# Whisper: 1,500 positions of each 30 s, which its decoder reads; engines cut longer sounds into
# requests of 30 s (vLLM 0.32 `whisper.py`, max_audio_clip_s).
WHISPER_SOUND: Final = AudioRule(
    tokens_per_s=50.0, padded_s=30.0, pads_tokens=True, longest_s=30.0, marks=0
)

# By the ``model_type`` of their whole config.json.
SOUNDS: Final[Mapping[str, AudioRule]] = {
    "whisper": WHISPER_SOUND,
    "qwen2_audio": QWEN2_SOUND,
    "qwen2_5_omni": QWEN2_5_SOUND,
    "qwen3_omni_moe": QWEN3_SOUND,
    "qwen3_asr": QWEN3_ASR_SOUND,
    "audioflamingo3": FLAMINGO_SOUND,
    "voxtral": VOXTRAL_SOUND,
    "glmasr": GLM_ASR_SOUND,
    "moss_transcribe_diarize": MOSS_SOUND,
    "granite_speech": GRANITE_SOUND,
    "granite_speech_plus": GRANITE_SOUND,
    "midashenglm": DASHENG_SOUND,
    "minicpmo": MINICPM_SOUND,
    "nemotron_vl": PARAKEET_SOUND,
    "phi4mm": PHI4_SOUND,
}
