"""Rows may say which images, video and audio their requests held."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from budsim.performance.measured.measurements import read_measurements

ROW = {
    "device_name": "H100-SXM",
    "engine": "vllm",
    "model_hf": "Qwen/Qwen3-VL-8B-Instruct",
    "tp": "1",
    "input_tokens": "100",
    "output_tokens": "50",
    "concurrency": "1",
    "mode": "serving",
}


def test_items_are_tokens_of_the_prompt() -> None:
    """Two images of 20 x 10 tokens with two marks each; the second row is text."""
    seen = {**ROW, "images_per_request": "2", "image_size": "640x320"}
    found = read_measurements(pd.DataFrame([seen, ROW]).fillna("")).candidates
    assert found.input_tokens.tolist() == [504.0, 100.0]
    assert found.has_items.tolist() == [True, False]


def test_without_the_columns_nothing_is_seen() -> None:
    """Tables of text have no column of items."""
    assert read_measurements(pd.DataFrame([ROW])).candidates.medium is None


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ({"images_per_request": "1"}, "image_size"),
        ({"images_per_request": "1.5", "image_size": "8x8"}, "images_per_request"),
        ({"audio_seconds": "3"}, "audio_seconds"),
    ],
)
def test_a_row_that_cannot_be_says_why(cells: dict[str, str], field: str) -> None:
    """The row's problem names the column."""
    problems = read_measurements(pd.DataFrame([{**ROW, **cells}])).problems
    assert problems[0].startswith(field)


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ({}, "audio_seconds: is missing"),
        ({"audio_seconds": "30", "prefix_hit_share": "0.5"}, "prefix_hit_share: servers"),
        ({"audio_seconds": "30", "speculative_method": "ngram"}, "speculative_method: .*encoder"),
    ],
)
def test_a_row_of_whisper_has_a_sound_and_nothing_its_server_turns_off(
    cells: dict[str, str], field: str
) -> None:
    """Every request reads 30 s; prefixes are not kept and no tokens are guessed."""
    whisper = {**ROW, "model_hf": "openai/whisper-large-v3"}
    problems = read_measurements(pd.DataFrame([{**whisper, **cells}])).problems
    assert re.match(field, problems[0])
