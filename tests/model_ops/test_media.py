"""Items of a request are named, or refused by their field."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.media import TEXT_ONLY, Media


def test_a_size_is_read() -> None:
    """Width and height in pixels."""
    media = Media.named(images=2, size="1024x768")
    assert (media.images, media.width, media.height) == (2, 1024, 768)
    assert media
    assert not TEXT_ONLY


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"images": -1, "size": "10x10"}, "images_per_request"),
        ({"images": 1.5, "size": "10x10"}, "images_per_request"),
        ({"images": "2", "size": "10x10"}, "images_per_request"),
        ({"images": 1}, "image_size"),
        ({"images": 1, "size": "large"}, "image_size"),
        ({"images": 1, "size": "0x100"}, "image_size"),
        ({"images": 1, "size": "99999x100"}, "image_size"),
        ({"size": "100x100"}, "image_size"),
        ({"video_frames": 10**6, "size": "10x10"}, "video_frames"),
        ({"audio_s": float("nan")}, "audio_seconds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, object], field: str) -> None:
    """The error names the field as callers spell it."""
    with pytest.raises(InvalidInput) as error:
        Media.named(**options)  # type: ignore[arg-type]
    assert error.value.field == field
