"""Sounds become as many tokens as each family's own processor makes of them."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.encoders import EncoderWork, encoder_work
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model
from budsim.model_ops.sounds import QWEN2_5_SOUND, QWEN2_SOUND, QWEN3_SOUND, SOUNDS

GEMMA4, GEMMA3N = "google/gemma-4-E4B-it", "google/gemma-3n-E4B-it"
QWEN2, QWEN2_5 = "Qwen/Qwen2-Audio-7B-Instruct", "Qwen/Qwen2.5-Omni-7B"
QWEN3 = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
VOXTRAL, GRANITE = "mistralai/Voxtral-Mini-3B-2507", "ibm-granite/granite-speech-3.3-8b"
WHISPER, PHI4 = "openai/whisper-large-v3", "microsoft/Phi-4-multimodal-instruct"


def heard(model: str, seconds: float) -> EncoderWork:
    """Return what a catalog model's encoder of audio does."""
    return encoder_work(resolve_model(model).encoders, Media(audio_s=seconds), model)


@pytest.mark.parametrize(
    ("model", "seconds", "tokens"),
    [
        # 25 tokens a second (ai.google.dev/gemma/docs/capabilities/audio).
        (GEMMA4, 10.0, 250),
        # 188 whatever the length (transformers 5.23 Gemma3nProcessor).
        (GEMMA3N, 1.0, 188),
        (GEMMA3N, 30.0, 188),
        # "Each frame of the encoder output corresponds to about 40 ms" (arXiv 2407.10759).
        (QWEN2, 10.0, 250),
        (QWEN2, 30.0, 750),
        # "Each frame corresponds to about 40 ms" (arXiv 2503.20215).
        (QWEN2_5, 60.0, 1_500),
        # 12.5 tokens a second in blocks that are rounded up: 13 (arXiv 2509.17765, transformers).
        (QWEN3, 1.0, 13),
        (QWEN3, 60.0, 780),
        # 375 for every 30 s begun (vLLM 0.32 voxtral.py: padded, 12.5 a second).
        (VOXTRAL, 10.0, 375),
        (VOXTRAL, 60.0, 750),
        # 3 for 15 frames of 20 ms (vLLM 0.32 granite_speech.py).
        (GRANITE, 3.0, 30),
        (GRANITE, 60.0, 600),
        # 1,500 positions of 30 s, "padded to 30 seconds" (arXiv 2212.04356).
        (WHISPER, 10.0, 1_500),
        (WHISPER, 30.0, 1_500),
        # "The token rate is 80ms" (arXiv 2503.01743).
        (PHI4, 10.0, 125),
        (PHI4, 60.0, 750),
    ],
)
def test_a_sound_is_as_long_as_published(model: str, seconds: float, tokens: int) -> None:
    """The embeddings of one sound, by the family's published rule."""
    assert heard(model, seconds).largest_item == tokens


@pytest.mark.parametrize(
    ("model", "marks"), [(GEMMA4, 2), (GEMMA3N, 4), (QWEN2, 2), (QWEN2_5, 2), (QWEN3, 2)]
)
def test_marks_around_a_sound_are_prompt_tokens_too(model: str, marks: int) -> None:
    """Tokens that begin and end it."""
    found = heard(model, 10.0)
    assert found.prompt_tokens - found.largest_item == marks


@pytest.mark.parametrize(
    ("model", "longest_s"),
    [(GEMMA4, 30), (GEMMA3N, 30), (QWEN2, 30), (QWEN2_5, 300), (QWEN3, 2400)],
)
def test_longer_sounds_are_refused(model: str, longest_s: float) -> None:
    """The error names the field and the longest sound."""
    heard(model, longest_s)
    with pytest.raises(InvalidInput, match=f"at most {longest_s}") as error:
        heard(model, longest_s + 1.0)
    assert error.value.field == "audio_seconds"


@pytest.mark.parametrize(
    ("kind", "seconds", "tokens", "positions"),
    [
        # (3000 + 1) // 2 halved again for 30 s (transformers 5.24 AudioFlamingo3Processor).
        ("audioflamingo3", 30.0, 750, 1_500),
        ("audioflamingo3", 600.0, 15_000, 30_000),
        # Four positions of 50 a second joined (GlmAsrProcessor; vLLM moss_transcribe_diarize.py).
        ("glmasr", 40.0, 500, 3_000),
        ("glmasr", 655.0, 8_188, 33_000),
        ("moss_transcribe_diarize", 60.0, 750, 3_000),
        ("moss_transcribe_diarize", 5_400.0, 67_500, 270_000),
        # As Qwen3-Omni's (vLLM qwen3_asr.py).
        ("qwen3_asr", 1.0, 13, 13),
        ("qwen3_asr", 1_200.0, 15_600, 15_600),
        # (50 - 5) // 5 + 1 for each second (vLLM minicpmo.py).
        ("minicpmo", 1.0, 10, 50),
        ("minicpmo", 30.0, 300, 1_500),
    ],
)
def test_sounds_of_families_that_no_catalog_model_has(
    kind: str, seconds: float, tokens: int, positions: int
) -> None:
    """Tokens, and positions that pass the encoder; Whisper's pieces are padded to 30 s each."""
    found = SOUNDS[kind].sound(seconds)
    assert (found.tokens, found.patches) == (tokens, positions)


def test_a_short_sound_is_padded_where_whisper_was_trained_so() -> None:
    """Qwen2-Audio: 1,500 positions always; Qwen2.5-Omni: 50 for each second."""
    assert QWEN2_SOUND.sound(1.0).patches == QWEN2_SOUND.sound(30.0).patches == 1_500
    assert QWEN2_5_SOUND.sound(1.0).patches == 50


def test_long_sounds_attend_to_windows() -> None:
    """Blocks of 2 s of 50 positions; of 8 s of 13."""
    assert QWEN2_5_SOUND.sound(100.0).span == 100
    assert QWEN3_SOUND.sound(100.0).span == 104
    assert QWEN3_SOUND.sound(1.0).span == 13
