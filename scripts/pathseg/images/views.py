"""Images seen as something to read rectangles from, mirrored beyond their edges, and masks seen at an image's size."""

from collections.abc import Callable
from typing import Protocol

import numpy as np


class View(Protocol):
    """What can be predicted: anything with a size that rectangles are read from.

    Attributes
    ----------
    width, height : int
        Size in pixels.
    """

    width: int
    height: int

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width, 3] RGB, mirrored where the rectangle reaches beyond the image."""


class ArrayView:
    """An image in memory.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3].
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width, 3] RGB, mirrored where the rectangle reaches beyond the image."""

        def read_inside(x: int, y: int, width: int, height: int) -> np.ndarray:
            return self.pixels[y : y + height, x : x + width]

        return read_mirrored(read_inside, (x, y, width, height), (self.width, self.height))


def read_mirrored(
    read_inside: Callable[[int, int, int, int], np.ndarray], rectangle: tuple[int, int, int, int], size: tuple[int, int]
) -> np.ndarray:
    """Read a rectangle of an image that may reach beyond it, where the image is mirrored.

    Parameters
    ----------
    read_inside
        Function of (x, y, width, height), inside the image, that returns an array [height, width, ...].
    rectangle
        x, y, width and height.
    size
        Width and height of the image.

    Returns
    -------
    numpy.ndarray
        [height, width, ...].
    """
    x, y, width, height = rectangle
    columns, rows = mirrored(x, width, size[0]), mirrored(y, height, size[1])
    x0, x1, y0, y1 = int(columns.min()), int(columns.max()) + 1, int(rows.min()), int(rows.max()) + 1
    inside = read_inside(x0, y0, x1 - x0, y1 - y0)
    if (x0, y0, x1, y1) == (x, y, x + width, y + height):
        return inside
    if x1 <= x or y1 <= y or x0 >= x + width or y0 >= y + height:
        return inside[np.ix_(rows - y0, columns - x0)]
    # Where the image is in sight, copying whole rows and columns is several times as fast.
    before, after = (max(0, y0 - y), max(0, x0 - x)), (max(0, y + height - y1), max(0, x + width - x1))
    padded = np.pad(inside, [*zip(before, after, strict=True), *[(0, 0)] * (inside.ndim - 2)], mode="reflect")
    top, left = max(0, y - y0), max(0, x - x0)
    return padded[top : top + height, left : left + width]


def mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Return the positions start ... start+count-1 reflected into 0 ... length-1, edges not repeated: int [count]."""
    positions = np.arange(start, start + count)
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    positions = np.abs(positions) % period
    return np.minimum(positions, period - positions)


class Coverage:
    """A mask of tissue seen at the size of a view.

    Parameters
    ----------
    mask
        bool [h, w] that covers the view.
    width, height
        Size of the view in pixels.
    """

    def __init__(self, mask: np.ndarray, width: int, height: int) -> None:
        self.mask, self.width, self.height = mask, width, height
        self._columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
        self._rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)

    def rows(self, y: int, height: int) -> np.ndarray:
        """Return rows y ... y+height-1 of the mask at the view's size: bool [height, width]."""
        return self.part(y, 0, height, self.width)

    def part(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """Return a rectangle of the mask at the view's size, which lies inside the view: bool [height, width]."""
        rows, columns = self._rows[y : y + height], self._columns[x : x + width]
        cells = self.mask[rows[0] : rows[-1] + 1]
        if not cells.any():
            return np.zeros((height, width), bool)
        # Few rows are widened; then whole rows are copied.
        return cells[:, columns][rows - rows[0]]

    def extent(self, y: int, x: int, height: int, width: int) -> tuple[int, int, int, int] | None:
        """Return (y0, x0, y1, x1) that encloses the tissue in a rectangle, all in pixels of the view; None if none."""
        rows, columns = self._rows[y : y + height], self._columns[x : x + width]
        cells = self.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if not cells.any():
            return None
        used_rows = np.flatnonzero(cells.any(axis=1))[[0, -1]] + rows[0]
        used_columns = np.flatnonzero(cells.any(axis=0))[[0, -1]] + columns[0]
        y0, y1 = np.searchsorted(rows, used_rows[0], "left"), np.searchsorted(rows, used_rows[1], "right")
        x0, x1 = np.searchsorted(columns, used_columns[0], "left"), np.searchsorted(columns, used_columns[1], "right")
        return y + int(y0), x + int(x0), y + int(y1), x + int(x1)
