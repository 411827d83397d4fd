"""Images become tokens of the prompts, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model
from budsim.performance.items import with_items
from budsim.performance.lengths import EmpiricalLength, LognormalLength, UniformLength, longer
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic

QWEN = resolve_model("Qwen/Qwen3-VL-8B-Instruct")
IMAGE = Media(images=1, width=640, height=320)
TOKENS = 20 * 10 + 2
TEXT = Traffic.closed(concurrency=4, input_tokens=100, output_tokens=50, media=IMAGE)


def test_prompts_grow_by_the_tokens_of_items() -> None:
    """100 tokens of text and an image of 200 with two marks."""
    found = with_items(QWEN, TEXT)
    assert found.input_tokens == 100 + TOKENS
    assert found.context_tokens == 150 + TOKENS
    assert found.item_tokens == TOKENS


def test_prompts_grow_once() -> None:
    """A traffic that has its items is left as it is."""
    once = with_items(QWEN, TEXT)
    assert with_items(QWEN, once) is once


def test_recorded_prompts_grow_too() -> None:
    """Each request of a trace holds the items."""
    trace = Trace(
        send_s=np.array([0.0, 1.0]),
        prompt_tokens=np.array([10, 20]),
        output_tokens=np.array([5, 5]),
        reused_from=np.array([-1, -1]),
        reused_tokens=np.array([0, 0]),
    )
    found = with_items(QWEN, replace(TEXT, arrivals=trace)).arrivals
    assert isinstance(found, Trace)
    assert found.prompt_tokens.tolist() == [10 + TOKENS, 20 + TOKENS]


@pytest.mark.parametrize(
    "law",
    [
        UniformLength(low=10, high=30),
        EmpiricalLength(values=(5, 9)),
        LognormalLength(mean_tokens=100.0, variation=1.0),
    ],
)
def test_every_law_grows(law: UniformLength | EmpiricalLength | LognormalLength) -> None:
    """Mean, longest and each length are longer by 7 tokens, also in two steps."""
    found, quantiles = longer(longer(law, 4), 3), np.array([0.1, 0.9])
    assert (found.mean, found.most) == (law.mean + 7, law.most + 7)
    assert (found.at(quantiles) == law.at(quantiles) + 7).all()


def test_too_many_items_are_named_by_their_field() -> None:
    """A thousand images of the largest size are more tokens than any prompt."""
    media = Media(images=1000, width=16_384, height=16_384)
    traffic = Traffic.closed(concurrency=1, input_tokens=9, output_tokens=9, media=media)
    with pytest.raises(InvalidInput) as error:
        with_items(resolve_model("Qwen/Qwen2.5-VL-7B-Instruct"), traffic)
    assert error.value.field == "images_per_request"


def test_a_text_model_refuses_images() -> None:
    """The error names the field, and the model."""
    llama = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    with pytest.raises(InvalidInput, match=r"Llama-3\.1-8B-Instruct takes none") as error:
        with_items(llama, TEXT)
    assert error.value.field == "images_per_request"


def test_whisper_reads_a_sound_of_each_request() -> None:
    """Without one it would be a decoder of four tokens; with 30 s it reads 1,500 positions."""
    whisper = resolve_model("openai/whisper-large-v3")
    text = Traffic.closed(concurrency=1, input_tokens=4, output_tokens=100)
    with pytest.raises(InvalidInput, match=r"audio_seconds: is missing.*reads a sound"):
        with_items(whisper, text)
    assert with_items(whisper, replace(text, media=Media(audio_s=30.0))).input_tokens == 1_504
