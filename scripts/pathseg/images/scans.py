"""Read scanners' formats: OpenSlide knows their levels, pixel size and bounds; TIFF is decoded tile by tile.

OpenSlide itself takes corners in finest pixels and interpolates what is left of a level's pixel, so that a pixel
would have another value in each rectangle. Where it has to decode, it is asked for blocks of a fixed lattice only.
"""

from functools import partial
from pathlib import Path

import numpy as np
import openslide

from pathseg.images.blocks import Lattice, Opened, level_of
from pathseg.images.decoding import over_white
from pathseg.images.pixel_size import plausible_mpp
from pathseg.images.tiff import Read, tiles_of_levels

# Side of a block in pixels of its level.
BLOCK = 1024

# Formats whose levels are TIFF pages of tiles, laid side by side.
TILED_TIFF = {"aperio", "leica", "philips"}


def detect(path: Path) -> str | None:
    """Return the name of a format that OpenSlide reads, or None."""
    return openslide.OpenSlide.detect_format(str(path))


def open_scan(path: Path, handle: openslide.OpenSlide | None = None) -> Opened:
    """Open a scanner's file, cropped to what was scanned as QuPath does.

    Parameters
    ----------
    path
        The file.
    handle
        The file as OpenSlide has opened it; None to open it.
    """
    handle = handle or openslide.OpenSlide(str(path))
    vendor = handle.properties["openslide.vendor"]
    left, top, width, height = bounds(handle)
    factors = list(zip(handle.level_dimensions, handle.level_downsamples, strict=True))
    sizes = [
        (_side(width, factor, dimensions[0]), _side(height, factor, dimensions[1])) for dimensions, factor in factors
    ]
    mpp = plausible_mpp(path, *(_number(handle, f"openslide.mpp-{axis}") for axis in "xy"))
    tiles = tiles_of_levels(path, sizes) if vendor in TILED_TIFF else None
    if tiles:
        sizes, reads, reader = [tile[:2] for tile in tiles], [tile[2] for tile in tiles], "tifffile"
    else:
        reads = [_blocks(handle, level, (left, top)).read for level in range(handle.level_count)]
        reader = "OpenSlide"
    levels = [
        level_of(*size, (width, height), factor) for size, factor in zip(sizes, handle.level_downsamples, strict=True)
    ]
    return Opened(levels, partial(_read_level, reads), mpp, f"{reader} ({vendor})", (left, top))


def _side(whole: int, factor: float, stored: int) -> int:
    """Return a level's side: as stored, or less where the file is padded or cropped to what was scanned."""
    return stored if abs(stored - whole / factor) < 1 else max(1, round(whole / factor))


def _read_level(reads: list[Read], level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    return reads[level](x, y, width, height)


def bounds(handle: openslide.OpenSlide) -> tuple[int, int, int, int]:
    """Return x, y, width and height of what was scanned, in finest pixels: all, if the file does not say.

    Of an MRXS most is empty. QuPath crops a slide to these bounds, and its coordinates are relative to them.
    """
    whole_width, whole_height = handle.dimensions
    numbers = [_number(handle, f"openslide.bounds-{name}") for name in ("x", "y", "width", "height")]
    x, y, width, height = (int(number or 0) for number in numbers)
    if not (0 <= x < x + width <= whole_width and 0 <= y < y + height <= whole_height):
        return 0, 0, whole_width, whole_height
    return x, y, width, height


def _number(handle: openslide.OpenSlide, name: str) -> float | None:
    value = handle.properties.get(name)
    return float(value) if value else None


def _blocks(handle: openslide.OpenSlide, level: int, origin: tuple[int, int]) -> Lattice:
    """Return a level as blocks that OpenSlide reads; `origin` is its corner in finest pixels."""
    downsample = handle.level_downsamples[level]

    def decode(row: int, column: int) -> np.ndarray:
        x, y = (round(start + n * BLOCK * downsample) for start, n in zip(origin, (column, row), strict=True))
        return over_white(np.asarray(handle.read_region((x, y), level, (BLOCK, BLOCK))))

    return Lattice(BLOCK, BLOCK, decode)
