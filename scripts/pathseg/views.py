"""Images seen as something to read rectangles from, mirrored beyond their edges."""

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
        return self.pixels[np.ix_(mirrored(y, height, self.height), mirrored(x, width, self.width))]


def mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Return the positions start ... start+count-1 reflected into 0 ... length-1, edges not repeated: int [count]."""
    positions = np.arange(start, start + count)
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    positions = np.abs(positions) % period
    return np.minimum(positions, period - positions)
