"""How many tokens a sound becomes: each family's encoder has a rate of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.image_tokens import EncodedItem

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
        Length to which the tower pads shorter sounds; 0: it pads none.
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
        heard_s = max(seconds, self.padded_s)
        positions = max(round(heard_s * rate), 1)
        return EncodedItem(
            tokens=self.fixed_tokens or max(round(seconds * self.tokens_per_s), 1),
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

# Audio encoders of Whisper's kind, by the ``model_type`` of their whole config.json.
WHISPER_SOUNDS: Final[Mapping[str, AudioRule]] = {
    "qwen2_audio": QWEN2_SOUND,
    "qwen2_5_omni": QWEN2_5_SOUND,
    "qwen3_omni_moe": QWEN3_SOUND,
}
