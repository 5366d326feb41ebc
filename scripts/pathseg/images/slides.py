"""One small interface to read slides and plain images of any size, whoever reads the format.

OpenSlide reads scanner formats and tiled TIFF, tifffile all other TIFF (OME-TIFF with SubIFDs among them), and
OpenCV the rest (PNG, JPEG, BMP ...). Coordinates are pixels of the finest level, (x, y) from the top left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openslide
import tifffile
from PIL import Image

from pathseg.errors import ImageError, ResolutionError

# Larger plain images must come as a tiled format: OpenCV and untiled TIFF can only be decoded whole.
MAX_WHOLE_PIXELS = 2**30

TIFF_ENDINGS = {".tif", ".tiff", ".svs", ".btf", ".tf8"}

MICRONS_PER_UNIT = {tifffile.RESUNIT.CENTIMETER: 10_000.0, tifffile.RESUNIT.INCH: 25_400.0}

# A pixel size outside this range is a default such as 72 dpi (353 µm per pixel), not a microscope's.
PLAUSIBLE_MPP = (0.01, 50.0)


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: its size in pixels and how many finest pixels one of its pixels spans."""

    width: int
    height: int
    downsample: float


class Slide:
    """A slide or image that is open for reading.

    Parameters
    ----------
    path
        File that it is read from.
    levels
        From the finest to the coarsest.
    mpp
        µm per pixel of the finest level as the file says, or None.
    read_level
        Function of (level, x, y, width, height), in pixels of that level and inside it, that returns uint8
        [height, width, 3] RGB.
    reader
        Name of the library that reads it.
    """

    def __init__(
        self,
        path: Path,
        levels: list[Level],
        mpp: float | None,
        read_level: Callable[[int, int, int, int, int], np.ndarray],
        reader: str,
    ) -> None:
        self.path = path
        self.levels = levels
        self.mpp = mpp
        self.read_level = read_level
        self.reader = reader

    @property
    def width(self) -> int:
        """Pixels of the finest level from left to right."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """Pixels of the finest level from top to bottom."""
        return self.levels[0].height

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as `downsample`."""
        fine_enough = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.001]
        return max(fine_enough, key=lambda i: self.levels[i].downsample, default=0)


def open_slide(path: str | Path) -> Slide:
    """Open a slide or image.

    Raises
    ------
    ImageError
        If it does not exist, is damaged, or is of a kind that cannot be shown as 8-bit RGB.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: is not a file; check the path and that links lead somewhere")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: is empty (0 bytes); copy it again from its source")
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
        # OpenSlide sees one level only of an OME-TIFF, whose pyramid is in SubIFDs.
        if vendor and not (vendor == "generic-tiff" and _is_ome(path)):
            return _open_with_openslide(path)
        if path.suffix.lower() in TIFF_ENDINGS:
            return _open_with_tifffile(path)
        return _open_with_opencv(path)
    except openslide.OpenSlideError as error:
        raise ImageError(f"{path}: OpenSlide cannot read it ({error}); the file is damaged or incomplete") from error
    except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
        raise ImageError(
            f"{path}: cannot be read as an image ({error}); the file is damaged or not an image"
        ) from error


def choose_mpp(slide: Slide, given: float | None) -> float:
    """Return µm per pixel of the finest level: the file's own, else the table's.

    Raises
    ------
    ResolutionError
        If neither is known. It is never derived from the objective's power, which does not fix it.
    """
    mpp = slide.mpp or given
    if mpp is None:
        raise ResolutionError(
            f"{slide.path}: the file does not say its pixel size; fill in the column `mpp` (µm per pixel) of the table"
        )
    return mpp


def _plausible(mpp: float | None) -> float | None:
    return mpp if mpp and PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1] else None


def _is_ome(path: Path) -> bool:
    with tifffile.TiffFile(path) as tiff:
        return bool(tiff.is_ome)


def _open_with_openslide(path: Path) -> Slide:
    handle = openslide.OpenSlide(str(path))
    levels = [
        Level(width, height, downsample)
        for (width, height), downsample in zip(handle.level_dimensions, handle.level_downsamples, strict=True)
    ]

    def read_level(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        # OpenSlide takes the corner in finest pixels. Rounding up keeps it inside the wanted pixel of the level.
        downsample = levels[level].downsample
        corner = (int(np.ceil(x * downsample)), int(np.ceil(y * downsample)))
        try:
            rgba = np.asarray(handle.read_region(corner, level, (width, height)))
        except openslide.OpenSlideError as error:
            raise ImageError(f"{path}: reading at x={corner[0]}, y={corner[1]} failed ({error})") from error
        return _over_white(rgba)

    return Slide(
        path, levels, _openslide_mpp(handle, path), read_level, f"OpenSlide ({handle.properties['openslide.vendor']})"
    )


def _openslide_mpp(handle: openslide.OpenSlide, path: Path) -> float | None:
    x, y = (handle.properties.get(f"openslide.mpp-{axis}") for axis in "xy")
    mpp = _plausible((float(x) + float(y)) / 2) if x and y else None
    if mpp is None and handle.properties["openslide.vendor"] == "generic-tiff":
        with tifffile.TiffFile(path) as tiff:
            mpp = _tiff_mpp(tiff.pages.first)
    return mpp


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay [H, W, 4] over white glass: what a scanner has not scanned is transparent."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _open_with_tifffile(path: Path) -> Slide:
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        if len(tiff.series) > 1 and len({s.shape for s in tiff.series}) == 1:
            raise ImageError(
                f"{path}: holds {len(tiff.series)} pictures of one size (animated or a stack); keep one of them"
            )
        mpp = _ome_mpp(tiff) or _tiff_mpp(tiff.pages.first)
        pages = [level.keyframe for level in series.levels]
        _check_pixels(path, pages[0])
        whole = [_whole_page(path, page) if not page.is_tiled else None for page in pages]
        levels = [Level(page.imagewidth, page.imagelength, pages[0].imagewidth / page.imagewidth) for page in pages]

    def read_level(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        image = whole[level]
        if image is not None:
            return image[y : y + height, x : x + width]
        try:
            with tifffile.TiffFile(path) as tiff:
                page = tiff.series[0].levels[level].keyframe
                return _read_tiles(path, page, x, y, width, height)
        # What decoders raise for damaged data; those of imagecodecs derive from RuntimeError.
        except (tifffile.TiffFileError, RuntimeError, OSError, ValueError, IndexError, TypeError) as error:
            raise ImageError(f"{path}: reading at x={x}, y={y} failed ({error}); the file is damaged") from error

    return Slide(path, levels, mpp, read_level, "tifffile")


def _check_pixels(path: Path, page: tifffile.TiffPage) -> None:
    if page.dtype != np.uint8:
        raise ImageError(f"{path}: has {page.dtype} pixels; pathseg reads 8 bits per channel, so convert it")
    if page.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
        raise ImageError(f"{path}: has {page.photometric.name} colours (CMYK or Lab); convert it to RGB")
    if page.samplesperpixel not in (1, 3, 4):
        raise ImageError(f"{path}: has {page.samplesperpixel} channels; pathseg reads grey, RGB or RGBA")


def _whole_page(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    _check_size(path, page.imagewidth, page.imagelength)
    return _rgb(page.asarray(), page)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_WHOLE_PIXELS:
        raise ImageError(
            f"{path}: {width} x {height} pixels are too many to decode whole (at most {MAX_WHOLE_PIXELS:,}); "
            "convert it to a tiled pyramidal TIFF"
        )


def _rgb(pixels: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Bring a page's pixels to [H, W, 3] RGB."""
    if page.samplesperpixel == 1:
        pixels = pixels.reshape(pixels.shape[:2])
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return (page.colormap.T[pixels] >> 8).astype(np.uint8)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = 255 - pixels
        return np.repeat(pixels[..., None], 3, axis=2)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        pixels = np.moveaxis(pixels, 0, -1)
    return _over_white(pixels) if page.samplesperpixel == 4 else np.ascontiguousarray(pixels)


def _read_tiles(path: Path, page: tifffile.TiffPage, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Decode the tiles of a page that a rectangle touches, and cut it out: uint8 [height, width, 3]."""
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        raise ImageError(f"{path}: is tiled with a plane for each channel; convert it to interleaved RGB")
    tile_height, tile_width = page.tilelength, page.tilewidth
    per_row = -(-page.imagewidth // tile_width)
    region = np.full((height, width, 3), 255, np.uint8)
    handle = page.parent.filehandle
    for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
        for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
            index = row * per_row + column
            if not page.databytecounts[index]:
                continue
            # tifffile may read headers when it is asked for these, so they come before the seek.
            decode, tables = page.decode, page.jpegtables
            handle.seek(page.dataoffsets[index])
            decoded = decode(handle.read(page.databytecounts[index]), index, jpegtables=tables)[0]
            tile = _rgb(decoded[0], page)
            top, left = row * tile_height, column * tile_width
            y0, y1 = max(y, top), min(y + height, top + tile.shape[0])
            x0, x1 = max(x, left), min(x + width, left + tile.shape[1])
            region[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
    return region


def _ome_mpp(tiff: tifffile.TiffFile) -> float | None:
    if not tiff.is_ome:
        return None
    description = tifffile.xml2dict(tiff.ome_metadata)
    image = description["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    factor = {"µm": 1.0, "nm": 1e-3, "mm": 1e3}.get(pixels.get("PhysicalSizeXUnit", "µm"))
    if factor is None or "PhysicalSizeX" not in pixels:
        return None
    return _plausible(factor * float(pixels["PhysicalSizeX"]))


def _tiff_mpp(page: tifffile.TiffPage) -> float | None:
    """Return µm per pixel from the resolution tags, if their unit is a length."""
    microns = MICRONS_PER_UNIT.get(page.resolutionunit)
    if microns is None or not page.resolution[0]:
        return None
    return _plausible(microns / page.resolution[0])


def _open_with_opencv(path: Path) -> Slide:
    image = read_plain_image(path)

    def read_level(_level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[y : y + height, x : x + width]

    return Slide(path, [Level(image.shape[1], image.shape[0], 1.0)], None, read_level, "OpenCV")


def read_plain_image(path: Path) -> np.ndarray:
    """Decode a PNG, JPEG or other plain image whole: uint8 [H, W, 3] RGB."""
    pixels = _decode(path)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{path}: has {pixels.dtype} pixels; pathseg reads 8 bits per channel, so convert it")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        return _over_white(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(path: Path) -> np.ndarray:
    """Decode with OpenCV without any conversion, after a look at the size that the header claims."""
    try:
        count = cv2.imcount(str(path))
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(
            f"{path}: OpenCV refuses it ({error.err or error}); the image is damaged or too large"
        ) from error
    if pixels is None:
        raise ImageError(f"{path}: is not an image that OpenSlide, tifffile or OpenCV can read, or it is damaged")
    if count > 1:
        raise ImageError(f"{path}: holds {count} pictures (animated); save the one you mean as a file of its own")
    return pixels


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image whole, values as they are stored.

    Returns
    -------
    numpy.ndarray
        uint8 or uint16 [H, W].

    Raises
    ------
    ImageError
        If it is not an image of one channel (three equal channels are taken as one).
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: is not a file; check the path and that links lead somewhere")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: is empty (0 bytes); copy it again from its source")
    labels = _read_tiff_labels(path) if path.suffix.lower() in TIFF_ENDINGS else _read_plain_labels(path)
    if labels.ndim == 3:
        if labels.shape[2] not in (3, 4) or not (labels[..., :1] == labels[..., :3]).all():
            raise ImageError(
                f"{path}: is a colour picture; a mask must hold one number per pixel (the class's mask_value), so save "
                "it as a grey or indexed image"
            )
        labels = labels[..., 0]
    if labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path}: has {labels.dtype} pixels; a mask has 8 or 16 bits of whole numbers")
    return np.ascontiguousarray(labels)


def _read_plain_labels(path: Path) -> np.ndarray:
    pixels = _decode(path)
    with Image.open(path) as image:
        # OpenCV shows an indexed image in its palette's colours; the labels are the indices.
        return np.asarray(image) if image.mode == "P" else pixels


def _read_tiff_labels(path: Path) -> np.ndarray:
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            _check_size(path, page.imagewidth, page.imagelength)
            return page.asarray()
    except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
        raise ImageError(f"{path}: cannot be read as a TIFF ({error}); the file is damaged or not an image") from error
