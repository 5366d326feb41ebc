"""Write pictures too large for memory: pyramidal TIFF from a stream of strips."""

import itertools
import queue
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

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
                    tiles = self._finest_tiles(rows, levels) if level == 0 else levels.tiles(level)
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
            levels.add(strip, keep_finest=self.planes > 0)
            held = np.concatenate([held, strip], axis=1) if held.shape[1] else strip
            while held.shape[1] >= TIFF_TILE:
                yield held[:, :TIFF_TILE]
                held = held[:, TIFF_TILE:]
        if held.shape[1]:
            yield held

    def _finest_tiles(self, rows: Iterator[np.ndarray], levels: "_Levels") -> Iterator[bytes]:
        if not self.planes:
            for row in rows:
                yield from _tiles_of(row[0])
            return
        # A TIFF holds one plane after the other, so that the stream has to end before the second can be written.
        for _ in rows:
            pass
        yield from levels.tiles(0)


class _Levels:
    """The reduced levels of a pyramid, in a scratch file on the disk, where what was not written reads as zeros.

    It is read and written by plain calls: pages of a memory map would count as memory of the process.
    """

    def __init__(self, scratch: BinaryIO, n_planes: int, width: int, height: int) -> None:
        self._scratch, self._n_planes = scratch, n_planes
        self.shapes = [(height, width)]
        while max(self.shapes[-1]) > TIFF_TILE:
            height, width = self.shapes[-1]
            self.shapes.append((-(-height // 2), -(-width // 2)))
        sizes = [n_planes * level_height * level_width for level_height, level_width in self.shapes]
        self._offsets = [0, *itertools.accumulate(sizes)]
        scratch.truncate(self._offsets[-1])
        self._next_row = 0

    def add(self, strip: np.ndarray, keep_finest: bool) -> None:
        """Take every 2nd, 4th ... pixel of the next rows [planes, h, W], and on request every one."""
        if strip.any():
            for level in range(0 if keep_finest else 1, len(self.shapes)):
                step = 2**level
                first = -self._next_row % step
                reduced = np.ascontiguousarray(strip[:, first::step, ::step])
                for plane in range(self._n_planes):
                    self._scratch.seek(self._place(level, plane, (self._next_row + first) // step))
                    self._scratch.write(reduced[plane].data)
        self._next_row += strip.shape[1]

    def _place(self, level: int, plane: int, row: int) -> int:
        """Return where a row starts in the scratch file."""
        height, width = self.shapes[level]
        return self._offsets[level] + (plane * height + row) * width

    def tiles(self, level: int) -> Iterator[bytes]:
        """Yield the compressed tiles of a level, plane by plane and row by row."""
        height, width = self.shapes[level]
        for plane in range(self._n_planes):
            for y in range(0, height, TIFF_TILE):
                rows = min(TIFF_TILE, height - y)
                self._scratch.seek(self._place(level, plane, y))
                strip = np.frombuffer(self._scratch.read(rows * width), np.uint8).reshape(rows, width)
                yield from _tiles_of(strip)


def _tiles_of(strip: np.ndarray) -> Iterator[bytes]:
    """Yield the compressed tiles of [h, w], h at most `TIFF_TILE`."""
    for x in range(0, strip.shape[1], TIFF_TILE):
        yield encoded(strip[:, x : x + TIFF_TILE])


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
