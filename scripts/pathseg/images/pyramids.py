"""Pictures too large for memory: pyramidal TIFF written from a stream of strips, and read as one."""

import itertools
import queue
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import imagecodecs
import numpy as np
import tifffile

from pathseg import __version__
from pathseg.colors import rgb_of
from pathseg.images.resampling import block_mean

TIFF_TILE = 512
# zlib's: class maps become small at any, and the network should not wait.
COMPRESSION_LEVEL = 3
# Zstandard's.
INTERNAL_LEVEL = 1
# Strips that may wait for the writer, so that a slow disk slows the network down and does not fill the memory.
STRIPS_WAITING = 2
# A file that may grow beyond 4 GB must be a BigTIFF; compression is not counted on.
BIG_BYTES = 2**32 - 2**25


class PyramidWriter:
    """Write a tiled, compressed, pyramidal TIFF in the background, strip by strip.

    The pyramid has one page per level (`subfiletype=1`), which OpenSlide, tifffile and QuPath all read. A pixel of a
    reduced level is what most of its four are (see `most_of_four`), so that class indices stay class indices; of
    planes, which are probabilities, and of what is `averaged` it is the mean.

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
    internal
        Whether pathseg alone will read it: without reduced levels, and compressed by Zstandard, which is some times as
        fast as zlib and which not all programs read.
    dtype
        Of the pixels: `uint8`, or `uint32` for numbers of objects, which have neither colours nor planes.
    averaged
        Whether the values are amounts, of which reduced levels have means.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        mpp: float | None,
        colors: list[str] | None = None,
        planes: int = 0,
        internal: bool = False,
        dtype: type[np.unsignedinteger] = np.uint8,
        averaged: bool = False,
    ) -> None:
        self.path, self.width, self.height, self.planes, self._internal = path, width, height, planes, internal
        self._dtype, self._averaged = np.dtype(dtype), averaged or planes > 0
        self._options: dict[str, Any] = {"photometric": "minisblack", "tile": (TIFF_TILE,) * 2}
        self._options |= {"compression": "zstd" if internal else "zlib"}
        self._options |= {"dtype": self._dtype, "metadata": None, "software": f"pathseg {__version__}"}
        self._mpp = mpp
        if colors is not None:
            self._options |= {"photometric": "palette", "colormap": _colormap(colors)}
        if planes:
            self._options |= {"planarconfig": "separate", "photometric": "minisblack"}
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(STRIPS_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._finished = self._thread.submit(self._write)

    def append(self, strip: np.ndarray) -> None:
        """Add the next rows: [h, W], or [planes, h, W]."""
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
        with tempfile.TemporaryFile(dir=self.path.parent) as scratch:
            shape = self.planes, self.width, self.height
            levels = _Levels(scratch, *shape, not self._internal, self._dtype, self._averaged)
            big = levels.bytes > BIG_BYTES
            with tifffile.TiffWriter(self.path, bigtiff=big) as tiff:
                for level, (height, width) in enumerate(levels.shapes):
                    if level > levels.streamed:
                        levels.reduce(level)
                    tiles = self._finest_tiles(levels) if level == 0 else levels.tiles(level)
                    tiff.write(
                        tiles,
                        shape=(height, width) if not self.planes else (self.planes, height, width),
                        subfiletype=1 if level else 0,
                        **self._resolution(width, height),
                        **self._options,
                    )

    def _resolution(self, width: int, height: int) -> dict[str, Any]:
        if not self._mpp:
            return {}
        per_centimetre = 1e4 / self._mpp
        resolution = per_centimetre * width / self.width, per_centimetre * height / self.height
        return {"resolution": resolution, "resolutionunit": "CENTIMETER"}

    def _strips(self) -> Iterator[np.ndarray]:
        """Yield what `append` was given."""
        while (strip := self._queue.get()) is not None:
            yield strip

    def _finest_tiles(self, levels: "_Levels") -> Iterator[bytes]:
        """Yield the compressed tiles of the finest level, and make the next one beside it."""
        if self.planes:
            # A TIFF holds one plane after the other: the stream must end before the second can be written.
            for strip in self._strips():
                levels.add(strip)
            yield from levels.tiles(0, self._internal)
            return
        held = np.empty((0, self.width), self._dtype)
        for strip in self._strips():
            held = np.concatenate([held, strip]) if len(held) else strip
            while len(held) >= TIFF_TILE:
                levels.add(held[None, :TIFF_TILE])
                yield from _tiles_of(held[:TIFF_TILE], self._internal)
                held = held[TIFF_TILE:]
        if len(held):
            levels.add(held[None])
            yield from _tiles_of(held, self._internal)


class _Levels:
    """The levels of a pyramid in a scratch file on the disk, where what was not written reads as zeros.

    It is read and written by plain calls: pages of a memory map would count as memory of the process.

    Attributes
    ----------
    shapes : list of (int, int)
        Height and width of each level.
    streamed : int
        The level that is written as strips come: the finest of planes, else the one after it.
    bytes : int
        Of all levels, without compression.
    """

    def __init__(
        self, scratch: BinaryIO, planes: int, width: int, height: int, reduced: bool, dtype: np.dtype, averaged: bool
    ) -> None:
        self._scratch, self._n_planes, self._dtype = scratch, max(planes, 1), dtype
        self._halved = (lambda pixels, _: block_mean(pixels, 2)) if averaged else most_of_four
        self.streamed = 0 if planes else 1
        self.shapes = [(height, width)]
        while reduced and max(self.shapes[-1]) > TIFF_TILE:
            height, width = self.shapes[-1]
            self.shapes.append((-(-height // 2), -(-width // 2)))
        sizes = [self._n_planes * dtype.itemsize * rows * columns for rows, columns in self.shapes]
        self._offsets = [0, *itertools.accumulate(sizes)]
        self.bytes = self._offsets[-1]
        scratch.truncate(self.bytes)
        self._next_row = 0

    def add(self, strip: np.ndarray) -> None:
        """Take the next rows [planes, h, W], an even number of them but the last time."""
        if self.streamed < len(self.shapes) and strip.any():
            row = self._next_row >> self.streamed
            for plane, pixels in enumerate(strip):
                self._put(self.streamed, plane, row, self._halved(pixels, row) if self.streamed else pixels)
        self._next_row += strip.shape[1]

    def reduce(self, level: int) -> None:
        """Make a level from the finer one."""
        height = self.shapes[level - 1][0]
        for plane in range(self._n_planes):
            for y in range(0, height, 2 * TIFF_TILE):
                pixels = self._get(level - 1, plane, y, min(2 * TIFF_TILE, height - y))
                if pixels.any():
                    self._put(level, plane, y // 2, self._halved(pixels, y // 2))

    def _put(self, level: int, plane: int, row: int, pixels: np.ndarray) -> None:
        self._scratch.seek(self._place(level, plane, row))
        self._scratch.write(np.ascontiguousarray(pixels).data)

    def _get(self, level: int, plane: int, row: int, count: int) -> np.ndarray:
        width = self.shapes[level][1]
        self._scratch.seek(self._place(level, plane, row))
        read = self._scratch.read(count * width * self._dtype.itemsize)
        return np.frombuffer(read, self._dtype).reshape(count, width)

    def _place(self, level: int, plane: int, row: int) -> int:
        """Return where a row starts in the scratch file."""
        height, width = self.shapes[level]
        return self._offsets[level] + (plane * height + row) * width * self._dtype.itemsize

    def tiles(self, level: int, internal: bool = False) -> Iterator[bytes]:
        """Yield the compressed tiles of a level, plane by plane and row by row."""
        height = self.shapes[level][0]
        for plane in range(self._n_planes):
            for y in range(0, height, TIFF_TILE):
                yield from _tiles_of(self._get(level, plane, y, min(TIFF_TILE, height - y)), internal)


def strips_of(page: tifffile.TiffPage, at_least: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a tiled page of one channel from top to bottom, in strips of whole tiles.

    Parameters
    ----------
    page
        Of a file that `PyramidWriter` has written.
    at_least
        Rows of a strip; the last one may have fewer.

    Yields
    ------
    top : int
        First row of the strip.
    strip : numpy.ndarray
        uint8 [h, W].
    """
    waiting: list[np.ndarray] = []
    first = 0
    for top, row in itertools.groupby(page.segments(), lambda segment: segment[1][2]):
        # No tile is left out by the writer; a file of which one is missing is none of its own.
        tiles = [tile[0, ..., 0] for tile, *_ in row if tile is not None]
        strip = np.concatenate(tiles, axis=1)
        waiting.append(strip[: page.imagelength - top, : page.imagewidth])
        bottom = top + len(waiting[-1])
        if bottom - first >= at_least or bottom == page.imagelength:
            yield first, np.concatenate(waiting)
            waiting, first = [], bottom


def most_of_four(classes: np.ndarray, first_row: int = 0) -> np.ndarray:
    """Halve a class map [h, w]: each pixel has the class that most of its four have.

    Where two classes have two each, as at every second edge, pixels take the one and the other by turns, like the
    fields of a chessboard: always the same would move edges by a quarter of a pixel.

    Parameters
    ----------
    classes
        Whole numbers [h, w]; an odd last row or column counts twice.
    first_row
        Number of the result's first row in the whole map.
    """
    height, width = classes.shape
    classes = np.pad(classes, ((0, height % 2), (0, width % 2)), "edge")
    four = [classes[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    halved = four[0].copy()
    # Only where the four are not one class: that is at edges.
    mixed = np.nonzero((four[0] != four[1]) | (four[0] != four[2]) | (four[0] != four[3]))
    a, b, c, d = (pixels[mixed] for pixels in four)
    odd = (mixed[0] + mixed[1] + first_row) % 2 == 1
    with_b, with_c, with_d = a == b, a == c, a == d
    two_each = (with_b & (c == d)) | (with_c & (b == d)) | (with_d & (b == c))
    rest = np.where((b == c) | (b == d), b, np.where(c == d, c, np.where(odd, d, a)))
    most = np.where(with_b | with_c | with_d, a, rest)
    halved[mixed] = np.where(two_each & odd, np.where(with_b, c, b), most)
    return halved


def _tiles_of(strip: np.ndarray, internal: bool = False) -> Iterator[bytes]:
    """Yield the compressed tiles of [h, w], h at most `TIFF_TILE`."""
    for x in range(0, strip.shape[1], TIFF_TILE):
        yield encoded(strip[:, x : x + TIFF_TILE], internal)


def encoded(tile: np.ndarray, internal: bool = False) -> bytes:
    """Compress a tile [h, w]; one at the lower or right end is filled up with zeros."""
    value = int(tile[0, 0])
    if tile.shape == (TIFF_TILE, TIFF_TILE) and (tile == value).all():
        return _encoded_plain(value, tile.dtype, internal)
    full = np.zeros((TIFF_TILE, TIFF_TILE), tile.dtype)
    full[: tile.shape[0], : tile.shape[1]] = tile
    return _compressed(full, internal)


@lru_cache(maxsize=256)
def _encoded_plain(value: int, dtype: np.dtype, internal: bool) -> bytes:
    """Compress a tile that has one value, as most of a slide's glass has."""
    return _compressed(np.full((TIFF_TILE, TIFF_TILE), value, dtype), internal)


def _compressed(tile: np.ndarray, internal: bool) -> bytes:
    return (
        bytes(imagecodecs.zstd_encode(tile.tobytes(), INTERNAL_LEVEL))
        if internal
        else zlib.compress(tile, COMPRESSION_LEVEL)
    )


def _colormap(colors: list[str]) -> np.ndarray:
    """Return the palette of a TIFF, uint16 [3, 256]: colours of values 0 ... n-1, and black."""
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, : len(colors)] = np.array([rgb_of(color) for color in colors], np.uint16).T * 257
    return colormap


def painted(source: Path, path: Path, colors: list[str]) -> None:
    """Copy a pyramid that has a palette, and give the copy another one: colours of values 0 ... n-1 as #rrggbb."""
    shutil.copyfile(source, path)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.aspage().tags["ColorMap"].overwrite(_colormap(colors).ravel().tolist())
