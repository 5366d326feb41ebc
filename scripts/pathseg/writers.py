"""Write pictures too large for memory: pyramidal TIFF from a stream of strips."""

import queue
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile

from pathseg import __version__
from pathseg.colors import rgb_of

TIFF_TILE = 512
# zlib's: class maps become small at any, and the network should not wait.
COMPRESSION_LEVEL = 3
# Strips that may wait for the writer, so that a slow disk slows the network down and does not fill the memory.
STRIPS_WAITING = 2
# A file that may grow beyond 4 GB must be a BigTIFF; compression is not counted on.
BIG_BYTES = 2**32 - 2**25


class PyramidWriter:
    """Write a tiled, compressed, pyramidal TIFF in the background, strip by strip.

    The pyramid has one page per level (`subfiletype=1`), which OpenSlide, tifffile and QuPath all read; reduced
    levels take every second pixel, so that class indices stay class indices.

    Parameters
    ----------
    path
        File to write; the caller renames it when it is complete.
    width, height
        Size of the finest level in pixels.
    mpp
        µm per pixel for the resolution tags, or None.
    colors
        Colours of values 0 ... n-1 as #rrggbb, or None for grey levels.
    planes
        Planes to expect in each strip; 0 for strips [h, W] without a plane axis.
    """

    def __init__(
        self, path: Path, width: int, height: int, mpp: float | None, colors: list[str] | None = None, planes: int = 0
    ) -> None:
        self.path, self.width, self.height, self.planes = path, width, height, planes
        self._options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "tile": (TIFF_TILE,) * 2}
        self._options |= {"dtype": np.uint8, "metadata": None, "software": f"pathseg {__version__}"}
        self._mpp = mpp
        if colors is not None:
            colormap = np.zeros((3, 256), np.uint16)
            colormap[:, : len(colors)] = np.array([rgb_of(color) for color in colors], np.uint16).T * 257
            self._options |= {"photometric": "palette", "colormap": colormap}
        if planes:
            self._options |= {"planarconfig": "separate", "photometric": "minisblack"}
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(STRIPS_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._finished = self._thread.submit(self._write)

    def append(self, strip: np.ndarray) -> None:
        """Add the next rows: uint8 [h, W], or [planes, h, W]."""
        while not self._finished.done():
            try:
                self._queue.put(strip, timeout=1)
            except queue.Full:
                continue
            return
        self._finished.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is written; raise what went wrong in the background."""
        while not self._finished.done():
            try:
                self._queue.put(None, timeout=1)
                break
            except queue.Full:
                continue
        self._thread.shutdown(wait=True)
        if kind is None:
            self._finished.result()

    def _write(self) -> None:
        n_planes = max(self.planes, 1)
        with tempfile.TemporaryFile(dir=self.path.parent) as scratch:
            levels = _Levels(scratch, n_planes, self.width, self.height)
            big = self.width * self.height * n_planes * 4 // 3 > BIG_BYTES
            with tifffile.TiffWriter(self.path, bigtiff=big) as tiff:
                rows = self._tile_rows(levels)
                for level, (height, width) in enumerate(levels.shapes):
                    tiles = self._finest_tiles(rows, levels) if level == 0 else _tiles_of(levels.array(level))
                    tiff.write(
                        tiles,
                        shape=(height, width) if not self.planes else (self.planes, height, width),
                        subfiletype=1 if level else 0,
                        **self._resolution(width),
                        **self._options,
                    )

    def _resolution(self, width: int) -> dict[str, Any]:
        if not self._mpp:
            return {}
        per_centimetre = 1e4 / (self._mpp * self.width / width)
        return {"resolution": (per_centimetre, per_centimetre), "resolutionunit": "CENTIMETER"}

    def _tile_rows(self, levels: "_Levels") -> Iterator[np.ndarray]:
        """Yield strips [planes, TIFF_TILE, W] from strips of any height; the last may be lower."""
        held = np.empty((max(self.planes, 1), 0, self.width), np.uint8)
        while (strip := self._queue.get()) is not None:
            strip = strip if strip.ndim == 3 else strip[None]
            levels.add(strip)
            held = np.concatenate([held, strip], axis=1)
            while held.shape[1] >= TIFF_TILE:
                yield held[:, :TIFF_TILE]
                held = held[:, TIFF_TILE:]
        if held.shape[1]:
            yield held

    def _finest_tiles(self, rows: Iterator[np.ndarray], levels: "_Levels") -> Iterator[bytes]:
        if not self.planes:
            for row in rows:
                yield from _tiles_of(row)
            return
        # A TIFF holds one plane after the other, so that the stream has to end before the second can be written.
        for row in rows:
            levels.keep_finest(row)
        yield from _tiles_of(levels.array(0))


class _Levels:
    """The reduced levels of a pyramid, in a scratch file on the disk."""

    def __init__(self, scratch: Any, n_planes: int, width: int, height: int) -> None:
        self.shapes = [(height, width)]
        while max(self.shapes[-1]) > TIFF_TILE:
            self.shapes.append(tuple(-(-side // 2) for side in self.shapes[-1]))
        self._arrays: list[np.ndarray] = []
        offset = 0
        for level_height, level_width in self.shapes:
            size = n_planes * level_height * level_width
            scratch.truncate(offset + size)
            self._arrays.append(
                np.memmap(scratch, np.uint8, "r+", offset=offset, shape=(n_planes, level_height, level_width))
            )
            offset += -(-size // 4096) * 4096
        self._next_row = 0
        self._next_finest = 0

    def add(self, strip: np.ndarray) -> None:
        """Take every 2nd, 4th ... pixel of the next rows [planes, h, W]."""
        if not strip.any():
            # The scratch file is empty, which reads as zeros.
            self._next_row += strip.shape[1]
            return
        for level, array in enumerate(self._arrays[1:], start=1):
            step = 2**level
            first = -self._next_row % step
            reduced = strip[:, first::step, ::step]
            start = (self._next_row + first) // step
            array[:, start : start + reduced.shape[1]] = reduced
        self._next_row += strip.shape[1]

    def keep_finest(self, row: np.ndarray) -> None:
        """Keep the next rows of the finest level."""
        self._arrays[0][:, self._next_finest : self._next_finest + row.shape[1]] = row
        self._next_finest += row.shape[1]

    def array(self, level: int) -> np.ndarray:
        """Return a level: uint8 [planes, h, w]."""
        return self._arrays[level]


def _tiles_of(planes: np.ndarray) -> Iterator[bytes]:
    """Yield the compressed tiles of [planes, h, w], plane by plane and row by row."""
    for plane in planes:
        for y in range(0, plane.shape[0], TIFF_TILE):
            for x in range(0, plane.shape[1], TIFF_TILE):
                yield encoded(plane[y : y + TIFF_TILE, x : x + TIFF_TILE])


def encoded(tile: np.ndarray) -> bytes:
    """Compress a tile [h, w]; one at the lower or right end is filled up with zeros."""
    value = int(tile[0, 0])
    if tile.shape == (TIFF_TILE, TIFF_TILE) and (tile == value).all():
        return _encoded_plain(value)
    full = np.zeros((TIFF_TILE, TIFF_TILE), np.uint8)
    full[: tile.shape[0], : tile.shape[1]] = tile
    return zlib.compress(full, COMPRESSION_LEVEL)


@cache
def _encoded_plain(value: int) -> bytes:
    """Compress a tile that has one value, as most of a slide's glass has."""
    return zlib.compress(np.full((TIFF_TILE, TIFF_TILE), value, np.uint8), COMPRESSION_LEVEL)
