"""What one request holds besides text: images, frames of a video, seconds of audio."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput

# Bounds far above what any checkpoint accepts; a larger number is a mistake.
MOST_IMAGES: Final = 1_000
MOST_FRAMES: Final = 10_000
LARGEST_SIDE: Final = 16_384
LONGEST_AUDIO_S: Final = 36_000.0

WHOLE: Final = "whole number"
_SIZE: Final = re.compile(r"(\d{1,9})\s*[xX]\s*(\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Items of one request; none by default.

    Attributes
    ----------
    images : int
        Images of ``width`` x ``height`` pixels.
    width, height : int
        Pixels of an image, or of a frame, as clients send it. Models resize it by their own rule.
    video_frames : int
        Frames of one video that the model sees, after sampling.
    audio_s : float
        Seconds of audio.
    """

    images: int = 0
    width: int = 0
    height: int = 0
    video_frames: int = 0
    audio_s: float = 0.0

    def __post_init__(self) -> None:
        _require_range("images_per_request", self.images, MOST_IMAGES, WHOLE)
        _require_range("video_frames", self.video_frames, MOST_FRAMES, WHOLE)
        _require_range("audio_seconds", self.audio_s, LONGEST_AUDIO_S, "number")
        seen = self.images or self.video_frames
        sized = min(self.width, self.height) > 0
        if seen and not sized:
            raise InvalidInput("image_size", "is missing", "WIDTHxHEIGHT in pixels: 1024x768")
        if sized and not seen:
            problem = "is given without images or frames"
            raise InvalidInput("image_size", problem, "images_per_request or video_frames")
        if max(self.width, self.height) > LARGEST_SIDE:
            problem = f"{self.width}x{self.height} is too large"
            raise InvalidInput("image_size", problem, f"sides of at most {LARGEST_SIDE} pixels")

    def __bool__(self) -> bool:
        """Whether there is any item."""
        return bool(self.images or self.video_frames or self.audio_s)

    @classmethod
    def named(
        cls, *, images: int = 0, size: str = "", video_frames: int = 0, audio_s: float = 0.0
    ) -> Media:
        """Return the items that options name; ``size`` is WIDTHxHEIGHT in pixels.

        Raises
        ------
        InvalidInput
            A number is out of range, or the size is missing or none.
        """
        width, height = _sides(size) if size else (0, 0)
        return cls(
            images=images, width=width, height=height, video_frames=video_frames, audio_s=audio_s
        )


def _sides(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text.strip())
    sides = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not min(sides):
        raise InvalidInput(
            "image_size", f"{text[:40]!r} is no size", "WIDTHxHEIGHT in pixels: 1024x768"
        )
    return sides


def _require_range(field: str, value: object, most: float, kind: str) -> None:
    # Python callers may pass anything; JSON and options are numbers by then.
    if isinstance(value, int | float) and 0 <= value <= most and (kind != WHOLE or not value % 1):
        return
    raise InvalidInput(field, f"is {value!r}", f"a {kind} from 0 to {most:g}")


# Requests of text alone.
TEXT_ONLY: Final = Media()
