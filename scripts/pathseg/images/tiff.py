"""Read TIFF by its own tiles: each is decoded by itself, so that a pixel of a level is what the file stores.

tifffile finds levels and decodes (JPEG, JPEG 2000, LZW, deflate, zstd ... by imagecodecs); which pages are the levels
of a scanner's file is OpenSlide's knowledge, and comes from outside.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from pathseg.errors import ImageError
from pathseg.images.blocks import Lattice, Opened, level_of
from pathseg.images.decoding import check_size, decoding, over_white
from pathseg.images.pixel_size import plausible_mpp

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MICRONS_PER_UNIT = {tifffile.RESUNIT.CENTIMETER: 10_000.0, tifffile.RESUNIT.INCH: 25_400.0}

# Compressions whose decoder gives RGB for YCbCr pixels.
JPEG = (COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.ALT_JPEG)

# What a page stands for: a function of (x, y, width, height) that returns uint8 [height, width, 3] RGB.
Read = Callable[[int, int, int, int], np.ndarray]


def is_tiff(path: Path) -> bool:
    """Say whether a file begins as TIFF or BigTIFF do."""
    with open(path, "rb") as file:
        return file.read(4) in MAGIC


def open_tiff(path: Path) -> Opened:
    """Open a TIFF that is no scanner's: its largest picture, and the levels that belong to it."""
    with tifffile.TiffFile(path) as tiff:
        planes, number = main_picture(path, tiff)
        mpp = _ome_mpp(path, tiff, number) or tiff_mpp(path, planes[0])
        pyramid = [planes, *_smaller_levels(tiff, planes)]
        file = _File(path)
        reads = [_reader(path, file, pages) for pages in pyramid]
    whole = planes[0].imagewidth, planes[0].imagelength
    levels = [level_of(first.imagewidth, first.imagelength, whole) for first, *_ in pyramid]
    return Opened(levels, partial(_read_level, reads), mpp, "tifffile")


def _read_level(reads: list[Read], level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    return reads[level](x, y, width, height)


def is_ome(path: Path) -> bool:
    """Say whether a TIFF is an OME-TIFF."""
    with tifffile.TiffFile(path) as tiff:
        return bool(tiff.is_ome)


def main_picture(path: Path, tiff: tifffile.TiffFile) -> tuple[list[tifffile.TiffPage], int]:
    """Return the page of a file's largest picture, or its pages if red, green and blue lie in three.

    Returns
    -------
    pages : list
        One page, or three of one channel each.
    number : int
        Number of the picture in the file.

    Raises
    ------
    ImageError
        If the file holds a stack, or several pictures of this size.
    """
    areas = [series.keyframe.imagewidth * series.keyframe.imagelength for series in tiff.series]
    if not any(areas):
        raise ImageError(f"{path}: holds no picture that has pixels; the file is damaged or not an image")
    number = int(np.argmax(areas))
    pages = [page.aspage() for page in tiff.series[number].levels[0].pages if page is not None]
    size = pages[0].imagewidth, pages[0].imagelength
    if (
        tiff.series[number].get_axes(squeeze=True) == "CYX"
        and len(pages) == 3
        and all(page.samplesperpixel == 1 for page in pages)
    ):
        return pages, number
    same = sum((s.keyframe.imagewidth, s.keyframe.imagelength) == size for s in tiff.series)
    if len(pages) > 1 or same > 1:
        raise ImageError(
            f"{path}: holds {max(len(pages), same)} pictures of {size[0]} x {size[1]} pixels (a stack, channels or an "
            "animation); save the one you mean as a file of its own"
        )
    if pages[0].imagedepth > 1:
        raise ImageError(f"{path}: holds a stack of {pages[0].imagedepth} planes; save one as a file of its own")
    return pages, number


def _smaller_levels(tiff: tifffile.TiffFile, planes: list[tifffile.TiffPage]) -> list[list[tifffile.TiffPage]]:
    """Return the pages of the other levels, from the finest: SubIFDs, or pages that are marked as reduced."""
    subifds = [[page.aspage() for page in plane.pages or []] for plane in planes]
    found = [list(pages) for pages in zip(*subifds, strict=False)]
    if len(planes) == 1:
        top = [page.aspage() for page in tiff.pages]
        found += [[page] for page in top if page.is_reduced and page.is_tiled == planes[0].is_tiled]
    levels = [pages for pages in found if all(map(_is_level_of, planes, pages))]
    return sorted(levels, key=lambda pages: -pages[0].imagewidth)


def _is_level_of(page: tifffile.TiffPage, other: tifffile.TiffPage) -> bool:
    """Say whether `other` is as the page but smaller, both sides by one factor; labels and thumbnails are not."""
    if (other.dtype, other.samplesperpixel, other.photometric) != (page.dtype, page.samplesperpixel, page.photometric):
        return False
    if not 0 < other.imagewidth < page.imagewidth or not 0 < other.imagelength <= page.imagelength:
        return False
    # Sides are rounded, in either direction: there must be a factor that gives both to a pixel.
    low, high = ([side / max(small + change, 0.5) for side, small in _sides(page, other)] for change in (1, -1))
    return max(low) <= min(high)


def _sides(page: tifffile.TiffPage, other: tifffile.TiffPage) -> list[tuple[int, int]]:
    return [(page.imagewidth, other.imagewidth), (page.imagelength, other.imagelength)]


def tiles_of_levels(path: Path, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int, Read]] | None:
    """Find the pages that hold the levels of a scanner's file, whose sizes OpenSlide tells.

    Parameters
    ----------
    path
        The file.
    sizes
        Width and height of each level in pixels. A page may be a pixel smaller (rounding), or larger by less than a
        tile (padding).

    Returns
    -------
    list of (width, height, function of a rectangle that reads it), or None
        None if a level has no page of its own, or tiles that have to be made from others.
    """
    with tifffile.TiffFile(path) as tiff:
        left = [page.aspage() for page in tiff.pages if page.is_tiled]
        file, found = _File(path), []
        for width, height in sizes:
            near = [(_misfit(page, width, height), number) for number, page in enumerate(left)]
            misfit, number = min(near, default=(np.inf, 0))
            if misfit == np.inf:
                return None
            page = left.pop(number)
            if tiff.is_svs and 0 in page.databytecounts:
                return None
            found.append((min(width, page.imagewidth), min(height, page.imagelength), _reader(path, file, [page])))
    return found


def _misfit(page: tifffile.TiffPage, width: int, height: int) -> float:
    """Return how many pixels a page differs from a level, infinity if it cannot be it."""
    across, down = page.imagewidth - width, page.imagelength - height
    if not -1 <= across < page.tilewidth or not -1 <= down < page.tilelength:
        return np.inf
    return abs(across) + abs(down)


def _reader(path: Path, file: "_File", pages: list[tifffile.TiffPage]) -> Read:
    """Return what reads rectangles of a level, which is one page, or three of one channel each."""
    for page in pages:
        _check_pixels(path, page)
    if pages[0].is_tiled:
        check_size(path, pages[0].tilewidth, pages[0].tilelength)
        lattice = _lattice(file, pages)
        # A codec that is not there is found now, when another reader can still be asked.
        lattice.read(0, 0, 1, 1)
        return lattice.read
    check_size(path, pages[0].imagewidth, pages[0].imagelength)
    parts = [_interleaved(page.asarray(), page) for page in pages]
    # Without a copy, if there is nothing to join: it may have gigabytes.
    image = _colours(pages)(parts[0] if len(parts) == 1 else np.dstack(parts))

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[y : y + height, x : x + width]

    return read


def _check_pixels(path: Path, page: tifffile.TiffPage) -> None:
    if page.dtype != np.uint8 or page.bitspersample != 8:
        kind = page.dtype if page.dtype != np.uint8 else f"{page.bitspersample}-bit"
        raise ImageError(f"{path}: has {kind} pixels; pathseg reads 8 bits per channel, so convert it")
    if page.photometric in (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB):
        raise ImageError(f"{path}: has {page.photometric.name} colours (CMYK or Lab); convert it to RGB")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in (*JPEG, COMPRESSION.APERIO_JP2000_YCBC):
        raise NotImplementedError(f"YCbCr pixels of compression {page.compression}")
    if page.samplesperpixel not in (1, 3, 4):
        raise ImageError(f"{path}: has {page.samplesperpixel} channels; pathseg reads grey, RGB or RGBA")


def _lattice(file: "_File", pages: list[tifffile.TiffPage]) -> Lattice:
    """Return the tiles of a level as blocks."""
    page = pages[0]
    tile_width, tile_height = page.tilewidth, page.tilelength
    per_row, per_column = -(-page.imagewidth // tile_width), -(-page.imagelength // tile_height)
    planes = [_Plane(file, page) for page in pages]
    # A page with a plane for each channel has all tiles of the first one, then all of the next.
    steps = [0]
    if page.planarconfig == PLANARCONFIG.SEPARATE:
        steps = [channel * per_row * per_column for channel in range(page.samplesperpixel)]
    colours = _colours(pages)

    def decode(row: int, column: int) -> np.ndarray:
        index = row * per_row + column
        parts = [plane.decode(index + step) for plane in planes for step in steps]
        tiles = [part for part in parts if part is not None]
        if len(tiles) < len(parts):
            return np.full((tile_height, tile_width, 3), 255, np.uint8)
        return colours(tiles[0] if len(tiles) == 1 else np.dstack(tiles))

    return Lattice(tile_width, tile_height, decode)


class _File:
    """A file of which several threads read parts at a time."""

    def __init__(self, path: Path) -> None:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.path, self.size = path, path.stat().st_size
        self._descriptor = file.fileno()
        weakref.finalize(self, file.close)

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes."""
        content = os.pread(self._descriptor, count, offset)
        if len(content) < count:
            raise EOFError(f"the file ends before byte {offset + count:,}")
        return content


class _Plane:
    """The tiles of a page. Its headers are read now, so that no thread has to."""

    def __init__(self, file: _File, page: tifffile.TiffPage) -> None:
        self._file = file
        self._decode, self._tables = page.decode, page.jpegtables
        self._offsets, self._counts = np.array(page.dataoffsets), np.array(page.databytecounts)
        if (end := int((self._offsets + self._counts).max())) > file.size:
            raise ImageError(
                f"{file.path}: has {file.size:,} bytes and tiles up to {end:,}; it is damaged, copy it again"
            )

    def decode(self, index: int) -> np.ndarray | None:
        """Return the samples of a tile, uint8 [h, w, samples], or None if the file has no such tile."""
        if not self._counts[index]:
            return None
        content = self._file.read(int(self._offsets[index]), int(self._counts[index]))
        decoded: np.ndarray = self._decode(content, index, jpegtables=self._tables)[0][0]
        return decoded


def _interleaved(pixels: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Bring what a page decodes to to [H, W, samples]."""
    if page.samplesperpixel > 1 and page.planarconfig == PLANARCONFIG.SEPARATE:
        return np.moveaxis(pixels, 0, -1)
    return pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _colours(pages: list[tifffile.TiffPage]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what brings uint8 [h, w, samples] of a level to [h, w, 3] RGB."""
    page = pages[0]
    if len(pages) == 3 or page.samplesperpixel == 3:
        # The others are RGB already: decoders of JPEG convert, this one does not.
        return _from_ycbcr if page.compression == COMPRESSION.APERIO_JP2000_YCBC else np.ascontiguousarray
    if page.samplesperpixel == 4:
        return partial(over_white, premultiplied=EXTRASAMPLE.ASSOCALPHA in page.extrasamples)
    if page.photometric == PHOTOMETRIC.PALETTE:
        return partial(_look_up, (page.colormap.T >> 8).astype(np.uint8))
    grey = np.arange(256, dtype=np.uint8)
    grey = grey[::-1] if page.photometric == PHOTOMETRIC.MINISWHITE else grey
    return partial(_look_up, np.repeat(grey[:, None], 3, axis=1))


def _look_up(colours: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return colours[pixels[..., 0]]


def _from_ycbcr(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)


def _ome_mpp(path: Path, tiff: tifffile.TiffFile, number: int) -> float | None:
    """Return µm per pixel of a file's picture from its OME-XML."""
    if not tiff.is_ome:
        return None
    with decoding(path, "has OME-XML that cannot be read"):
        images = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        images = images if isinstance(images, list) else [images]
        pixels = images[min(number, len(images) - 1)]["Pixels"]
        sides = [_in_microns(pixels, axis) for axis in "XY"]
    return plausible_mpp(path, *sides)


def _in_microns(pixels: dict[str, Any], axis: str) -> float | None:
    """Return a side of a pixel in µm as OME-XML says; the other axis serves where only one is there."""
    name = f"PhysicalSize{axis}" if f"PhysicalSize{axis}" in pixels else "PhysicalSizeX"
    factor = {"µm": 1.0, "nm": 1e-3, "mm": 1e3}.get(pixels.get(f"{name}Unit", "µm"))
    return factor * float(pixels[name]) if factor and name in pixels else None


def tiff_mpp(path: Path, page: tifffile.TiffPage) -> float | None:
    """Return µm per pixel from the resolution tags, if their unit is a length."""
    microns = MICRONS_PER_UNIT.get(page.resolutionunit)
    if microns is None or not all(page.resolution):
        return None
    return plausible_mpp(path, *(microns / per_unit for per_unit in page.resolution))
