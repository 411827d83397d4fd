"""Images, video and audio of measured requests, as optional columns state them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.encoders import encoder_work
from budsim.model_ops.media import Media
from budsim.performance.candidates import Floats, Integers
from budsim.performance.items import check_sound

# Optional columns of text and of numbers.
TEXTS = ("image_size",)
NUMBERS = ("images_per_request", "video_frames", "audio_seconds")


def mark_unreadable_items(
    text: pd.DataFrame,
    numbers: pd.DataFrame,
    models: Sequence[Architecture | None],
    problems: pd.Series,
) -> None:
    """Write into ``problems`` why the items of a row cannot be read by its model."""
    with_items = set(_rows_with_items(text, numbers))
    for row, model in enumerate(models):
        if problems.iloc[row] or model is None or not (row in with_items or model.reads_encoder):
            continue
        try:
            media = _media(text, numbers, row)
            check_sound(model, media)
            encoder_work(model.encoders, media, model.model_id)
        except InvalidInput as error:
            problems.iloc[row] = str(error)


def items_of(
    text: pd.DataFrame, numbers: pd.DataFrame, models: Sequence[Architecture]
) -> tuple[tuple[Media, ...], Integers | None, Floats]:
    """Return the distinct items, which of them each row has (None: no row has any), their tokens.

    Tokens are those the items of a request take in its prompt, shape (n,).
    """
    tokens, codes = np.zeros(len(text)), np.zeros(len(text), dtype=np.int64)
    rows = _rows_with_items(text, numbers)
    if not rows:
        return (), None, tokens
    found: dict[Media, int] = {Media(): 0}
    for row in rows:
        media, model = _media(text, numbers, row), models[row]
        codes[row] = found.setdefault(media, len(found))
        tokens[row] = encoder_work(model.encoders, media, model.model_id).prompt_tokens
    return tuple(found), codes, tokens


def _rows_with_items(text: pd.DataFrame, numbers: pd.DataFrame) -> list[int]:
    stated = (numbers[list(NUMBERS)] > 0).any(axis=1) | (text.image_size != "")
    return np.flatnonzero(stated).tolist()


def _media(text: pd.DataFrame, numbers: pd.DataFrame, row: int) -> Media:
    images, frames, seconds = (
        float(value) for value in numbers[list(NUMBERS)].iloc[row].fillna(0.0)
    )
    for name, value in (("images_per_request", images), ("video_frames", frames)):
        if value % 1:
            raise InvalidInput(name, f"is {value:g}", "a whole number")
    return Media.named(
        images=int(images),
        size=str(text.image_size.iloc[row]),
        video_frames=int(frames),
        audio_s=seconds,
    )
