"""Levels of a slide as lattices of blocks: what is decoded at a time, and kept for a while.

A pixel of a level belongs to one block, and each block is decoded by itself from a fixed place. So a pixel has one
value, whatever rectangle asks for it and whichever thread reads.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np

# Decoded blocks that are kept, of all open slides together: about what a band across a wide slide needs, so that the
# border of the next band is not decoded again.
CACHE_BYTES = 2**28

_numbers = itertools.count()


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: its size in pixels and how many finest pixels one of its pixels spans."""

    width: int
    height: int
    downsample: float

    def shares_of(self, width: int, height: int) -> tuple[float, float]:
        """Return how many pixels of the level, in part too, all finest pixels would be from left to right and down.

        Scanners leave out what does not fill a pixel, so that a level may end before the finest does. A factor that is
        no whole number is the mean of both axes; each has its own then.
        """
        if self.downsample == round(self.downsample):
            return width / self.downsample, height / self.downsample
        return self.width, self.height


def level_of(width: int, height: int, whole: tuple[int, int], told: float | None = None) -> Level:
    """Return a level, whose factor is whole where its sides are those of a whole factor, rounded anyhow.

    Parameters
    ----------
    width, height
        Of the level in pixels.
    whole
        Width and height of the finest level.
    told
        The factor as a reader says, if it does; else that of the sides is taken.
    """
    factor = told or (whole[0] / width + whole[1] / height) / 2
    near = max(1, round(factor))
    fits = abs(whole[0] - width * near) < near and abs(whole[1] - height * near) < near
    return Level(width, height, float(near) if fits else factor)


@dataclass(frozen=True)
class Opened:
    """What a reader has opened.

    Attributes
    ----------
    levels
        From the finest to the coarsest.
    read_level
        Function of (level, x, y, width, height), in pixels of that level and inside it, that returns uint8
        [height, width, 3] RGB. Several threads may call it.
    mpp
        µm per pixel of the finest level as the file says, or None.
    reader
        Name of the library that decodes it.
    origin
        x and y of the first pixel in the whole scan, of which the reader shows a part.
    """

    levels: list[Level]
    read_level: Callable[[int, int, int, int, int], np.ndarray]
    mpp: float | None
    reader: str
    origin: tuple[int, int] = (0, 0)


class BlockCache:
    """Blocks that were used last; several threads may ask for them, and none decodes what another one is decoding.

    Parameters
    ----------
    limit
        Bytes to keep at most; one block is kept however large it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: OrderedDict[Hashable, Future[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def get(self, key: Hashable, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the block of a key, uint8 [h, w, 3], decoded now if it is not there."""
        with self._lock:
            block = self._blocks.get(key)
            if mine := block is None:
                block = self._blocks[key] = Future()
            self._blocks.move_to_end(key)
        if mine:
            self._fill(key, block, decode)
        return block.result()

    def _fill(self, key: Hashable, block: "Future[np.ndarray]", decode: Callable[[], np.ndarray]) -> None:
        try:
            block.set_result(pixels := decode())
        except BaseException as error:
            with self._lock:
                del self._blocks[key]
            block.set_exception(error)
            return
        with self._lock:
            self.bytes += pixels.nbytes
            while self.bytes > self._limit and len(self._blocks) > 1:
                oldest = next(iter(self._blocks))
                if not self._blocks[oldest].done():
                    break
                self.bytes -= self._blocks.pop(oldest).result().nbytes


CACHE = BlockCache(CACHE_BYTES)


@dataclass(frozen=True)
class Lattice:
    """A level as a lattice of blocks of one size, from its top left corner.

    Attributes
    ----------
    width, height
        Of a block, in pixels of the level.
    decode
        Function of (row, column) of a block that returns uint8 [h, w, 3]: all its pixels inside the level, and maybe
        some beyond.
    """

    width: int
    height: int
    decode: Callable[[int, int], np.ndarray]
    # Not the lattice itself: the cache would keep its file open.
    number: int = field(default_factory=lambda: next(_numbers))

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Cut a rectangle of the level out of its blocks: uint8 [height, width, 3]."""
        region = np.empty((height, width, 3), np.uint8)
        for row in range(y // self.height, (y + height - 1) // self.height + 1):
            top = row * self.height
            y0, y1 = max(y, top), min(y + height, top + self.height)
            for column in range(x // self.width, (x + width - 1) // self.width + 1):
                left = column * self.width
                x0, x1 = max(x, left), min(x + width, left + self.width)
                block = CACHE.get((self.number, row, column), partial(self.decode, row, column))
                region[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return region
