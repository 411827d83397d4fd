"""How many tokens an image becomes: each family resizes, cuts and merges by a rule of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedItem:
    """One image, video or sound after its processor.

    Attributes
    ----------
    tokens : int
        Embeddings the tower hands to the language model.
    marks : int
        Further prompt tokens around and between them: begin, end, row and tile marks.
    patches : int
        Positions that pass through the tower.
    span : int
        Positions each of them attends to where attention is not windowed.
    """

    tokens: int
    marks: int
    patches: int
    span: int

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt that the item takes."""
        return self.tokens + self.marks


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPatches:
    """Qwen2.5-VL and newer: any size, sides rounded to patches, squares of patches merged.

    A token stands for ``patch x merge`` pixels squared: 28 x 28 in Qwen2.5-VL, 32 x 32 in Qwen3-VL.
    Images below ``least_pixels`` are enlarged, above ``most_pixels`` reduced (transformers
    ``smart_resize``, limits of each checkpoint's preprocessor_config.json). A video takes one such
    image for each ``frames`` frames; where ``most_video_pixels`` is set, all its frames together
    have no more pixels. ``most_frame_pixels`` is a limit of each, and ``frame_marks`` stand around
    each (MiniMax M3).
    """

    patch: int
    merge: int
    frames: int
    least_pixels: int
    most_pixels: int
    most_video_pixels: int = 0
    most_frame_pixels: int = 0
    frame_marks: int = 0

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 at 28 pixels a token is 37 x 37 = 1,369 tokens."""
        return self._item(1, self._tokens(width, height, self.most_pixels))

    def video(self, frames: int, width: int, height: int) -> EncodedItem:
        """Return a video of so many frames; 8 frames are 4 pairs in Qwen2.5-VL."""
        pairs = math.ceil(frames / self.frames)
        most = self.most_frame_pixels or self.most_pixels
        if self.most_video_pixels:
            most = min(most, self.most_video_pixels // (pairs * self.frames))
        marks = self.frame_marks * pairs or 2
        return self._item(pairs, self._tokens(width, height, most), marks)

    def _item(self, times: int, tokens: int, marks: int = 2) -> EncodedItem:
        patches = tokens * self.merge**2
        return EncodedItem(
            tokens=times * tokens, marks=marks, patches=times * patches, span=patches
        )

    def _tokens(self, width: int, height: int, most: int) -> int:
        edge = self.patch * self.merge
        sides = [max(round(side / edge), 1) for side in (width, height)]
        pixels = sides[0] * sides[1] * edge**2
        if pixels > most:
            scale = math.sqrt(most / (width * height))
            sides = [max(math.floor(side * scale / edge), 1) for side in (width, height)]
        elif pixels < self.least_pixels:
            scale = math.sqrt(self.least_pixels / (width * height))
            sides = [math.ceil(side * scale / edge) for side in (width, height)]
        return sides[0] * sides[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledPatches:
    """Nemotron Nano Omni: any size between two numbers of patches, squares of them joined.

    Sides are rounded up to patches, then to whole squares (vLLM 0.32 ``nano_nemotron_vl.py``,
    ``DynamicResolutionImageTiler``). Groups of ``frames`` frames of video have ``frame_patches``
    each, as a square or in the shape of the video, and ``frame_marks`` around them.
    """

    patch: int
    merge: int
    least_patches: int
    most_patches: int
    frame_patches: int
    keeps_shape: bool
    frames: int
    frame_marks: int

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 at 16 pixels a patch is 64 x 64 patches, 1,024 tokens."""
        sides = [round(size / self.patch + 0.5) for size in (height, width)]
        factor = min(math.sqrt(self.most_patches / math.prod(sides)), 1.0)
        sides = [math.floor(factor * side) for side in sides]
        if math.prod(sides) < self.least_patches < self.most_patches:
            factor = math.sqrt(self.least_patches / math.prod(sides))
            sides = [math.ceil(factor * side) for side in sides]
        tall = self._whole(sides[0], sides[1])
        wide = self._whole(sides[1], tall)
        return self._item(1, tall * wide, marks=2)

    def video(self, frames: int, width: int, height: int) -> EncodedItem:
        """Return a video of so many frames; 16 x 16 patches a frame are 64 tokens."""
        most = self.frame_patches
        if not self.keeps_shape:
            sides = [self._below(math.isqrt(most))] * 2
        else:
            shape = width / max(height, 1)
            raw = [max(round(math.sqrt(most * part)), 1) for part in (1 / shape, shape)]
            above = [math.ceil(side / self.merge) * self.merge for side in raw]
            sides = above if math.prod(above) <= most else [self._below(side) for side in raw]
        groups = math.ceil(frames / self.frames)
        return self._item(groups, math.prod(sides), marks=groups * self.frame_marks)

    def _below(self, side: int) -> int:
        return max(side // self.merge, 1) * self.merge

    def _whole(self, side: int, other: int) -> int:
        """Return whole squares of a side: more where the budget allows, else less."""
        above = math.ceil(side / self.merge) * self.merge
        return above if above * other <= self.most_patches else self._below(side)

    def _item(self, times: int, patches: int, marks: int) -> EncodedItem:
        tokens = times * (patches // self.merge**2)
        return EncodedItem(tokens=tokens, marks=marks, patches=times * patches, span=patches)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedImage:
    """Gemma 3: every image is resized to one square and pooled to the same tokens."""

    tokens: int
    patches: int
    marks: int

    def image(self, width: int, height: int) -> EncodedItem:  # noqa: ARG002
        """Return an image of any size."""
        return EncodedItem(
            tokens=self.tokens, marks=self.marks, patches=self.patches, span=self.patches
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledPatches:
    """Gemma 4: scaled to fill a budget of tokens, each of which pools a square of patches.

    Sides are multiples of ``patch x pool`` pixels (48), at most ``budget x pool^2`` patches; frames
    of a video have a budget of ``frame_budget`` tokens each, and ``frame_marks`` tokens around them
    (vLLM 0.32 ``gemma4_mm.py``).
    """

    patch: int
    pool: int
    budget: int
    frame_budget: int
    frame_marks: int

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 with 280 tokens is 16 x 16 = 256 tokens."""
        tokens = self._tokens(width, height, self.budget)
        patches = tokens * self.pool**2
        return EncodedItem(tokens=tokens, marks=2, patches=patches, span=patches)

    def video(self, frames: int, width: int, height: int) -> EncodedItem:
        """Return a video of so many frames."""
        tokens = self._tokens(width, height, self.frame_budget)
        patches = tokens * self.pool**2
        return EncodedItem(
            tokens=frames * tokens,
            marks=frames * self.frame_marks,
            patches=frames * patches,
            span=patches,
        )

    def _tokens(self, width: int, height: int, budget: int) -> int:
        edge = self.patch * self.pool
        scale = math.sqrt(budget * edge**2 / (width * height))
        sides = [math.floor(side * scale / edge) for side in (width, height)]
        # A side too thin for one token takes one, and the other at most the whole budget.
        return min(max(sides[0], 1) * max(sides[1], 1), budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRows:
    """Pixtral's tower in Mistral 3: any size up to a longest side, and a mark after each row.

    Squares of ``merge`` patches are merged, so that a token is 28 x 28 pixels (transformers
    ``get_resize_output_image_size`` of Pixtral).
    """

    patch: int
    merge: int
    longest: int

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1540 x 1540 is 55 x 55 = 3,025 tokens and 55 marks."""
        ratio = max(width / self.longest, height / self.longest, 1.0)
        edge = self.patch * self.merge
        columns, rows = (math.ceil(max(int(side / ratio), 1) / edge) for side in (width, height))
        tokens = rows * columns
        patches = tokens * self.merge**2
        return EncodedItem(tokens=tokens, marks=rows, patches=patches, span=patches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedPatches:
    """Kimi's MoonViT: any size up to a number of patches, padded to whole squares of patches.

    An image is never enlarged (transformers 5.23 ``navit_resize`` of Kimi-K2.5).
    """

    patch: int
    merge: int
    most_patches: int
    marks: int
    most_side: int = 512

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 at 28 pixels a token is 37 x 37 = 1,369 tokens."""
        edge, longest = self.patch * self.merge, self.most_side * self.patch
        count = max(height // self.patch, 1) * max(width // self.patch, 1)
        scale = min(1.0, math.sqrt(self.most_patches / count), longest / height, longest / width)
        sides = [min(max(int(side * scale), 1), longest) for side in (width, height)]
        tokens = math.ceil(sides[0] / edge) * math.ceil(sides[1] / edge)
        patches = tokens * self.merge**2
        return EncodedItem(tokens=tokens, marks=self.marks, patches=patches, span=patches)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosestGrid:
    """Muse Glimmer: the grid of tokens whose shape is nearest to the image's, up to a number.

    A token stands for ``edge`` pixels squared (transformers 5.23 ``smart_resize`` of Muse Glimmer).
    A pair of frames has ``frame_tokens`` at most, and ``frame_marks`` beside them (vLLM 0.32
    ``compute_video_frame_size``, ``_video_block``).
    """

    edge: int
    merge: int
    most_tokens: int
    marks: int = 2
    frame_tokens: int = 0
    frame_marks: int = 0
    frames: int = 2

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 at 28 pixels a token is 36 x 36 or 37 x 37."""
        tokens = self._tokens(width, height, self.most_tokens)
        patches = tokens * self.merge**2
        return EncodedItem(tokens=tokens, marks=self.marks, patches=patches, span=patches)

    def video(self, frames: int, width: int, height: int) -> EncodedItem:
        """Return a video: one image for each pair of frames, after one that begins it."""
        pairs = math.ceil(frames / self.frames)
        tokens = self._tokens(width, height, self.frame_tokens)
        patches = tokens * self.merge**2
        return EncodedItem(
            tokens=pairs * tokens,
            marks=1 + pairs * self.frame_marks,
            patches=pairs * patches,
            span=patches,
        )

    def _tokens(self, width: int, height: int, most: int) -> int:
        rows, columns = height / self.edge, width / self.edge
        if rows * columns > most:
            rows = math.sqrt(most * height / width)
            columns = rows * width / height
        grids = [
            (tall, wide)
            for tall in (math.floor(rows), math.ceil(rows))
            for wide in (math.floor(columns), math.ceil(columns))
            if min(tall, wide) >= 1 and tall * wide <= most
        ] or [(max(round(rows), 1), max(round(columns), 1))]
        tall, wide = min(grids, key=lambda grid: abs(grid[0] / grid[1] - height / width))
        return tall * wide


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedRows:
    """DeepSeek V4.1: squares of patches up to a number of tokens, with a mark after each row.

    Small images are enlarged (vLLM ``deepseek_v41/common/mm_preprocess.py``).
    """

    patch: int
    merge: int
    most_tokens: int
    least_pixels: int

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 is 25 x 25 = 625 tokens, 25 marks and two more."""
        scale = max(1.0, math.sqrt(self.least_pixels / (width * height)))
        sides = (int(width * scale), int(height * scale))
        columns, rows = (math.ceil(side / self.patch) for side in sides)
        if self._tokens(columns, rows) > self.most_tokens:
            columns, rows = self._reduced(*sides)
        tall = math.ceil(rows / self.merge)
        tokens = tall * math.ceil(columns / self.merge)
        patches = rows * columns
        return EncodedItem(tokens=tokens, marks=tall + 2, patches=patches, span=patches)

    def _tokens(self, columns: int, rows: int) -> int:
        return math.ceil(rows / self.merge) * (math.ceil(columns / self.merge) + 1) + 2

    def _reduced(self, width: int, height: int) -> tuple[int, int]:
        """Return the columns and rows of patches of the largest image that fits."""
        ratio = height / width
        widest = math.sqrt((self.most_tokens - 2) / ratio + 0.25) - 0.5
        tallest = widest * ratio
        if widest < 1.0:
            return self.merge, (self.most_tokens - 2) // 2 * self.merge
        if tallest < 1.0:
            return (self.most_tokens - 3) * self.merge, self.merge
        # In the processor's own order, whose quotients may come out below a whole number.
        cell = self.patch * self.merge
        scale = min(math.floor(widest) * cell / width, math.floor(tallest) * cell / height)
        columns, rows = (math.floor(side * scale / self.patch) for side in (width, height))
        return columns, rows
