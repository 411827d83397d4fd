"""Images cut into crops by rules of their own: LLaVA's, MiniCPM-V's, Idefics', Phi's and LFM2's.

Each class names the function of the family's own processor that it follows; the checkpoints whose
numbers it takes stand in `towers.tiled`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from budsim.model_ops.image_tiles import nearest_grid
from budsim.model_ops.image_tokens import EncodedItem, MergedPatches

# LLaVA-OneVision reduces features only where they are this many times too many.
TOLERATED: Final = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PinpointTiles:
    """LLaVA-NeXT, LLaVA-OneVision and DeepSeek-VL2: one of some canvases of tiles, and the whole.

    The canvas is taken that shows most of the image's pixels, and of equal ones the smallest
    (transformers ``select_best_resolution``). Each row of tokens ends with a mark.

    Attributes
    ----------
    side, tile, tile_patches : int
        Pixels and tokens along a tile, and its positions in the tower.
    canvases : tuple of (width, height)
        Pixels of the canvases.
    unpads : bool
        Whether tokens that show no part of the image are dropped (``_get_unpadded_features``).
    most_tiles : int
        Tokens of more tiles are averaged to as many (``anyres_max_9``); 0: none are.
    whole_marks : int
        Marks of the whole.
    frame_tokens : int
        Tokens of a frame of video; 0: the model reads none.
    """

    side: int
    tile: int
    tile_patches: int
    canvases: tuple[tuple[int, int], ...]
    unpads: bool = True
    most_tiles: int = 0
    whole_marks: int = 0
    frame_tokens: int = 0

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 672 x 672 in tiles of 336 is 48 x 48 tokens and the whole of 576."""
        columns, rows = (size // self.side for size in self._canvas(width, height))
        wide, tall = columns * self.tile, rows * self.tile
        if self.unpads:
            wide, tall = self._reduced(*_without_padding(width, height, wide, tall))
        return EncodedItem(
            tokens=wide * tall + self.tile**2,
            marks=tall + self.whole_marks,
            patches=(columns * rows + 1) * self.tile_patches,
            span=self.tile_patches,
        )

    def video(self, frames: int, width: int, height: int) -> EncodedItem:  # noqa: ARG002
        """Return a video: each frame is one tile, whose tokens are pooled."""
        return EncodedItem(
            tokens=frames * self.frame_tokens,
            marks=1,
            patches=frames * self.tile_patches,
            span=self.tile_patches,
        )

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        def order(canvas: tuple[int, int]) -> tuple[int, int]:
            """Return how good a canvas is: the pixels it shows, then those it wastes."""
            scale = min(canvas[0] / width, canvas[1] / height)
            shown = min(int(width * scale) * int(height * scale), width * height)
            return -shown, canvas[0] * canvas[1] - shown

        return min(self.canvases, key=order)

    def _reduced(self, wide: int, tall: int) -> tuple[int, int]:
        most = self.most_tiles * self.tile**2
        ratio = math.sqrt(wide * tall / most) if most else 0.0
        return (int(wide // ratio), int(tall // ratio)) if ratio > TOLERATED else (wide, tall)


def _without_padding(width: int, height: int, wide: int, tall: int) -> tuple[int, int]:
    """Return the columns and rows of tokens that show part of an image."""
    if width / height > wide / tall:
        return wide, tall - (tall - int(round(height * wide / width, 7))) // 2 * 2
    return wide - (wide - int(round(width * tall / height, 7))) // 2 * 2, tall


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """MiniCPM-V: slices of about the tower's size, and the whole.

    As many as the image has areas of ``side`` squared, in the grid nearest to its shape on a
    logarithmic scale (``get_sliced_grid``). Each becomes ``tokens`` by a resampler, or one token
    for each ``merge`` patches squared.
    """

    side: int
    patch: int
    most_slices: int
    tokens: int = 0
    merge: int = 0
    image_marks: int = 5

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 in slices of 448 is 2 x 3 of 64 tokens, and the whole."""
        columns, rows = self._grid(width, height)
        slices = columns * rows
        whole = self._tokens(width, height, enlarges=not slices)
        each = self._slice(width, height, columns, rows) if slices else 0
        near = (self.side // self.patch) ** 2
        return EncodedItem(
            tokens=slices * each + whole,
            # Begin and end of each, a mark after each row of slices but the last.
            marks=self.image_marks + 2 * slices + max(rows - 1, 0),
            patches=(slices + 1) * near,
            span=near,
        )

    def video(self, frames: int, width: int, height: int) -> EncodedItem:
        """Return a video: each frame is one image of one slice."""
        near = (self.side // self.patch) ** 2
        return EncodedItem(
            tokens=frames * self._tokens(width, height, enlarges=True),
            marks=2 * frames,
            patches=frames * near,
            span=near,
        )

    def _slice(self, width: int, height: int, columns: int, rows: int) -> int:
        sides = (_multiple(width, columns) / columns, _multiple(height, rows) / rows)
        return self._tokens(*sides, enlarges=True)

    def _tokens(self, width: float, height: float, *, enlarges: bool) -> int:
        """Return the tokens of one slice, after ``find_best_resize``."""
        if not self.merge:
            return self.tokens
        edge = self.patch * self.merge
        if enlarges or width * height > self.side**2:
            ratio = width / height
            height = int(self.side / math.sqrt(ratio))
            width = int(height * ratio)
        return _multiple(width, edge) * _multiple(height, edge) // edge**2

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Return columns and rows of slices; none where the whole shows the image well."""
        wanted = min(math.ceil(width * height / self.side**2), self.most_slices)
        if wanted <= 1:
            return 0, 0
        shape = math.log(width / height)
        grids = [
            (slices // rows, rows)
            for slices in (wanted - 1, wanted, wanted + 1)
            if 1 < slices <= self.most_slices
            for rows in range(1, slices + 1)
            if slices % rows == 0
        ]
        return min(grids, key=lambda grid: abs(shape - math.log(grid[0] / grid[1])))


def _multiple(length: float, divisor: int) -> int:
    return max(round(length / divisor) * divisor, divisor)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongestEdgeTiles:
    """Idefics 3 and SmolVLM: the longest side is scaled to ``longest`` pixels, then cut into tiles.

    ``get_number_of_image_patches`` of transformers' Idefics3ImageProcessor.
    """

    side: int
    longest: int
    tile_tokens: int
    tile_patches: int

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; of 4:3 at 1,456 pixels in tiles of 364 it is 4 x 3 and the whole."""
        long, short = max(width, height), min(width, height)
        reduced = int(self.longest / (long / short))
        reduced += reduced % 2
        tall, wide = (math.ceil(size / self.side) for size in (max(reduced, 1), self.longest))
        tiles = tall * wide if max(tall, wide) > 1 else 0
        rows = tall if width >= height else wide
        return EncodedItem(
            tokens=(tiles + 1) * self.tile_tokens,
            # Two before each tile, a line break after each row, and four around the whole.
            marks=2 * tiles + (rows + 4 if tiles else 3),
            patches=(tiles + 1) * self.tile_patches,
            span=self.tile_patches,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedTiles:
    """Phi-3-vision and Phi-4-multimodal: tiles of an enlarged and padded image, and the whole.

    ``tile`` tokens along a tile, a mark after each row of them and one between both. Phi-3 enlarges
    to as many tiles as there may be and keeps what is padded (``calc_hd_transform_size`` of its
    card); Phi-4 takes as few as hold the image, and drops padding
    (``_compute_num_image_tokens`` of vLLM's ``phi4mm.py``).
    """

    side: int
    patch: int
    tile: int
    most_tiles: int
    enlarges: bool

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 448 x 448 is one tile of 256 tokens, and the whole of as many."""
        columns, rows = self._filled(width, height) if self.enlarges else self._held(width, height)
        wide, tall = columns * self.tile, rows * self.tile
        if not self.enlarges:
            wide, tall = self._shown(width, height, columns, rows)
        patches = (self.side // self.patch) ** 2
        return EncodedItem(
            tokens=wide * tall + self.tile**2,
            marks=tall + self.tile + 1,
            patches=(columns * rows + 1) * patches,
            span=patches,
        )

    def _filled(self, width: int, height: int) -> tuple[int, int]:
        """Return the columns and rows of as many tiles as there may be."""
        long, short = max(width, height), min(width, height)
        ratio, scale = long / short, 1
        while (scale + 1) * math.ceil((scale + 1) / ratio) <= self.most_tiles:
            scale += 1
        other = math.ceil(int(scale * self.side / ratio) / self.side)
        return (scale, other) if width >= height else (other, scale)

    def _held(self, width: int, height: int) -> tuple[int, int]:
        """Return the columns and rows of as few tiles as hold the image."""
        columns, rows = (math.ceil(size / self.side) for size in (width, height))
        if columns * rows <= self.most_tiles:
            return columns, rows
        return nearest_grid(width, height, self.side, most=self.most_tiles)

    def _shown(self, width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
        """Return the columns and rows of tokens that show part of the image."""
        sides = (columns * self.side, rows * self.side)
        scale = min(sides[0] / width, sides[1] / height)
        padding = (sides[0] - int(width * scale), sides[1] - int(height * scale))
        merge = self.side // self.patch // self.tile
        wide, tall = (
            math.ceil((side // self.patch - spare // self.patch) / merge)
            for side, spare in zip(sides, padding, strict=True)
        )
        return wide, tall


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeTiles:
    """LFM2-VL: an image of any size up to ``whole.most_pixels``; twice as large ones in tiles.

    Tiles of ``side`` pixels stand before a whole that is reduced (transformers 5.24
    ``Lfm2VlImageProcessor``).
    """

    whole: MergedPatches
    side: int
    least_tiles: int
    most_tiles: int
    tolerated: float

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 512 x 512 is 256 tokens, 1024 x 1024 four tiles and the whole."""
        whole, edge = self.whole.image(width, height), self.whole.patch * self.whole.merge
        rounded = max(round(width / edge), 1) * max(round(height / edge), 1) * edge**2
        if rounded <= self.tolerated * self.whole.most_pixels:
            return whole
        columns, rows = nearest_grid(
            width, height, self.side, least=self.least_tiles, most=self.most_tiles
        )
        tiles, patches = columns * rows, (self.side // self.whole.patch) ** 2
        return EncodedItem(
            tokens=tiles * (self.side // edge) ** 2 + whole.tokens,
            # Begin and end, the name of each tile and of the whole.
            marks=tiles + 3,
            patches=tiles * patches + whole.patches,
            span=patches,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlappedCrops:
    """Molmo: crops that overlap by a margin, and the whole; 2 x 2 patches of them are pooled.

    The grid is chosen like Llama 4's, of the image without both margins (vLLM ``molmo.py``).
    Molmo 2 shows a frame of video as one crop of ``frame_tokens`` with ``frame_marks`` around them.
    """

    side: int
    patch: int
    margin: int
    pool: int
    most_crops: int
    frame_tokens: int = 0
    frame_marks: int = 0

    def video(self, frames: int, width: int, height: int) -> EncodedItem:  # noqa: ARG002
        """Return a video: each frame is the whole, whose patches are pooled more."""
        patches = (self.side // self.patch) ** 2
        return EncodedItem(
            tokens=frames * self.frame_tokens,
            marks=frames * self.frame_marks,
            patches=frames * patches,
            span=patches,
        )

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; of one crop it is 12 x 12 tokens, and the whole as many."""
        along = self.side // self.patch
        window = (along - self.margin) * self.patch
        spare = self.margin * self.patch
        columns, rows = self._grid(max(width - spare, 1), max(height - spare, 1), window)
        wide, tall = (
            math.ceil((count * (along - self.margin) + self.margin) / self.pool)
            for count in (columns, rows)
        )
        whole = math.ceil(along / self.pool)
        return EncodedItem(
            tokens=wide * tall + whole**2,
            # A mark after each row of both, and their begin and end.
            marks=tall + whole + 4,
            patches=(columns * rows + 1) * along**2,
            span=along**2,
        )

    def _grid(self, width: int, height: int, window: int) -> tuple[int, int]:
        def order(grid: tuple[int, int]) -> tuple[bool, float, int]:
            """Return how good a grid is: enlarging comes first, by the least change of size."""
            scale = min(grid[0] * window / width, grid[1] * window / height)
            return scale < 1, scale if scale >= 1 else -scale, grid[0] * grid[1]

        grids = [
            (columns, rows)
            for columns in range(1, self.most_crops + 1)
            for rows in range(1, self.most_crops // columns + 1)
        ]
        return min(grids, key=order)
