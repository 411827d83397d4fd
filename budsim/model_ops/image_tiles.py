"""Images cut into tiles of the tower's size, and one of the whole: each family chooses its grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from budsim.model_ops.image_tokens import EncodedItem

# Tokens around a frame of InternVL: its name, a number, a colon, begin, end, line break; our count.
FRAME_MARKS: Final = 6

# Of Step 3.7 (`_plan_patches`): sides below NARROW pixels and shapes above LONG are padded to a
# square; shapes above ELONGATED are cut even where the whole holds them; a rest of more than
# SNAPPED of a window becomes one.
NARROW: Final = 32
LONG: Final = 4
ELONGATED: Final = 1.5
SNAPPED: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Llama 4: cut into square tiles of the tower's size, and one of the whole where several are.

    The canvas of at most ``most_tiles`` tiles is chosen that enlarges the image least, or reduces
    it least, and has the smallest area (transformers ``get_best_fit``; Cohere's
    ``get_optimal_tiled_canvas`` is the same). ``edge_marks`` stand around all, ``tile_marks`` after
    each tile, and ``has_row_marks`` between tiles of a row and after each row.
    """

    side: int
    tile_tokens: int
    tile_patches: int
    most_tiles: int
    edge_marks: int = 3
    tile_marks: int = 0
    has_row_marks: bool = True

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 672 x 672 is 4 tiles and the whole: 5 x 144 = 720 tokens."""
        rows, columns = self._canvas(width, height)
        tiles = rows * columns
        whole = 1 if tiles > 1 else 0
        between = rows * columns if whole and self.has_row_marks else 0
        return EncodedItem(
            tokens=(tiles + whole) * self.tile_tokens,
            marks=self.edge_marks + (tiles + whole) * self.tile_marks + between,
            patches=(tiles + whole) * self.tile_patches,
            span=self.tile_patches,
        )

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        def order(canvas: tuple[int, int]) -> tuple[bool, float, int]:
            """Return how good a canvas is: enlarging comes first, by the least change of size."""
            rows, columns = canvas
            scale = min(rows * self.side / height, columns * self.side / width)
            return scale < 1, scale if scale >= 1 else -scale, rows * columns

        return min(self._canvases(), key=order)

    def _canvases(self) -> Iterator[tuple[int, int]]:
        for rows in range(1, self.most_tiles + 1):
            for columns in range(1, self.most_tiles // rows + 1):
                yield rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioTiles:
    """InternVL: cut into square tiles, as many as fit the image's shape, and one of the whole.

    Of the grids of at most ``most_tiles`` tiles the one of the nearest aspect ratio is taken, and
    of equal ones the largest that the image fills by half (``find_closest_aspect_ratio`` on the
    model cards). A frame of video is one tile.
    """

    side: int
    tile_tokens: int
    tile_patches: int
    most_tiles: int
    has_thumbnail: bool
    edge_marks: int = 2
    tile_marks: int = 0
    frame_marks: int = FRAME_MARKS

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 896 x 448 is 2 tiles and the whole: 3 x 256 = 768 tokens."""
        tiles = self._tiles(width, height)
        tiles += 1 if self.has_thumbnail and tiles > 1 else 0
        return self._item(tiles, marks=self.edge_marks + tiles * self.tile_marks)

    def video(self, frames: int, width: int, height: int) -> EncodedItem:  # noqa: ARG002
        """Return a video: ``Frame1: <img>...</img>`` and a line break for each frame."""
        return self._item(frames, marks=self.frame_marks * frames)

    def _item(self, tiles: int, *, marks: int) -> EncodedItem:
        return EncodedItem(
            tokens=tiles * self.tile_tokens,
            marks=marks,
            patches=tiles * self.tile_patches,
            span=self.tile_patches,
        )

    def _tiles(self, width: int, height: int) -> int:
        columns, rows = nearest_grid(width, height, self.side, most=self.most_tiles)
        return columns * rows


def nearest_grid(
    width: int, height: int, side: int, *, most: int, least: int = 1
) -> tuple[int, int]:
    """Return the columns and rows of ``least`` to ``most`` tiles of the nearest aspect ratio.

    Of equal ones the largest that the image fills by half (``find_closest_aspect_ratio``).
    """
    grids = [
        (columns, rows)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if columns * rows >= least
    ]
    best, difference = (1, 1), math.inf
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        now = abs(width / height - columns / rows)
        filled = width * height > columns * rows * side**2 / 2
        if now < difference or (now == difference and filled):
            best, difference = (columns, rows), now
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalTiles:
    """DeepSeek-OCR: the whole at one size, and tiles of another where the image is larger.

    Tokens of each stand in rows that end with a mark where ``has_row_marks``; one mark is between
    whole and tiles (vLLM ``deepseek_ocr.py``).

    Attributes
    ----------
    whole_side, side, edge : int
        Pixels of the whole, of a tile and of a token.
    patch : int
        Pixels of a patch of the tower.
    least_tiles, most_tiles : int
        Tiles of an image larger than one.
    has_row_marks : bool
        Whether rows of tokens end with a mark.
    """

    whole_side: int
    side: int
    edge: int
    patch: int
    least_tiles: int
    most_tiles: int
    has_row_marks: bool = True

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 640 x 640 is the whole of 16 x 16 tokens, and 17 marks."""
        columns, rows = 0, 0
        if max(width, height) > self.side:
            columns, rows = nearest_grid(
                width, height, self.side, least=self.least_tiles, most=self.most_tiles
            )
        whole, tile = (math.ceil(side / self.edge) for side in (self.whole_side, self.side))
        seen, near = ((side // self.patch) ** 2 for side in (self.whole_side, self.side))
        patches = seen + columns * rows * near
        return EncodedItem(
            tokens=whole**2 + columns * rows * tile**2,
            marks=(whole + rows * tile if self.has_row_marks else 0) + 1,
            patches=patches,
            span=round((seen**2 + columns * rows * near**2) / patches),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTiles:
    """Step 3.7: windows of a large or long image, and one of the whole (transformers 5.23).

    A window is ``window`` pixels squared, or as large as the short side of a long image. Windows
    and the whole are resized to ``window`` and ``side`` pixels, of which a token takes ``edge``.
    Images of at most ``whole_below`` pixels, by default ``side``, are not cut unless they are long.
    """

    side: int
    window: int
    patch: int
    edge: int
    longest: int
    whole_below: int = 0

    def image(self, width: int, height: int) -> EncodedItem:
        """Return an image; 1024 x 1024 is 2 x 2 windows of 81 tokens and the whole of 169."""
        columns, rows = self._windows(width, height)
        windows = columns * rows
        near, whole = ((size // self.patch) ** 2 for size in (self.window, self.side))
        patches = windows * near + whole
        return EncodedItem(
            tokens=windows * (self.window // self.edge) ** 2 + (self.side // self.edge) ** 2,
            # Begin and end of each, and a mark after each row of windows but the last.
            marks=2 * (windows + 1) + max(rows - 1, 0),
            patches=patches,
            span=round((windows * near**2 + whole**2) / patches),
        )

    def _windows(self, width: int, height: int) -> tuple[int, int]:
        """Return columns and rows of windows; none for an image that the whole shows well."""
        if min(width, height) < NARROW and max(width / height, height / width) > LONG:
            width = height = max(width, height)
        scale = min(1.0, self.longest / max(width, height))
        width, height = max(int(width * scale), 1), max(int(height * scale), 1)
        short, long = sorted((width, height))
        if long <= (self.whole_below or self.side):
            window = short if long / short > ELONGATED else 0
        else:
            window = min(short, self.window) if long / short > LONG else self.window
        if not window:
            return 0, 0
        counts = (
            side // window + (side % window > SNAPPED * window) if side >= window else 1
            for side in (width, height)
        )
        columns, rows = (max(1, count) for count in counts)
        return columns, rows
