"""One small interface to read slides and plain images of any size, whoever reads the format.

Scanners' formats are opened by OpenSlide, other TIFF (OME-TIFF with SubIFDs among them) by tifffile, the rest (PNG,
JPEG, BMP ...) by OpenCV. Coordinates are pixels of the finest level, (x, y) from the top left of what was scanned, as
in QuPath.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pathseg.errors import PathsegError, ResolutionError
from pathseg.images.blocks import Level, Opened
from pathseg.images.decoding import decoding, existing_file
from pathseg.images.pixel_size import agreed_mpp
from pathseg.images.plain import open_plain
from pathseg.images.scans import detect, open_scan
from pathseg.images.tiff import is_tiff, open_tiff

# A level that is coarser than what is wanted by no more than this factor serves: the difference is not seen, and the
# next finer level has up to 16 times the pixels. Levels are rounded, and scanners are not built to a hundredth.
COARSER = 1.05


class Slide:
    """A slide or image that is open for reading.

    Parameters
    ----------
    path
        File that it is read from.
    levels
        From the finest to the coarsest.
    mpp
        µm per pixel of the finest level, as the file or else the table says, or None.
    read_level
        Function of (level, x, y, width, height), in pixels of that level and inside it, that returns uint8
        [height, width, 3] RGB. A pixel has one value, whatever rectangle it is read with; several threads may read.
    reader
        Name of the library that reads it.
    mpp_source
        "file", "table" or "unknown".
    origin
        x and y of its first pixel in the whole scan, in finest pixels; (0, 0) if all of it is shown.
    """

    def __init__(
        self,
        path: Path,
        levels: list[Level],
        mpp: float | None,
        read_level: Callable[[int, int, int, int, int], np.ndarray],
        reader: str,
        mpp_source: str = "file",
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.path = path
        self.levels = levels
        self.mpp = mpp
        self.read_level = read_level
        self.reader = reader
        self.mpp_source = mpp_source
        self.origin = origin

    @property
    def width(self) -> int:
        """Pixels of the finest level from left to right."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """Pixels of the finest level from top to bottom."""
        return self.levels[0].height

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as `downsample`, or nearly so."""
        fine_enough = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * COARSER]
        return max(fine_enough, key=lambda i: self.levels[i].downsample, default=0)


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide or image.

    Parameters
    ----------
    path
        File.
    mpp
        µm per pixel as a table says, used where the file does not say.

    Raises
    ------
    ImageError
        If it does not exist, is damaged, or is of a kind that cannot be shown as 8-bit RGB.
    ResolutionError
        If file and table contradict each other, or pixels are not square.
    """
    path = existing_file(path)
    with decoding(path, "cannot be read as an image"):
        opened = _open(path)

    def read_level(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        with decoding(path, f"reading at x={x}, y={y} of level {level} failed"):
            return opened.read_level(level, x, y, width, height)

    known, source = agreed_mpp(path, opened.mpp, mpp)
    return Slide(path, opened.levels, known, read_level, opened.reader, source, opened.origin)


def _open(path: Path) -> Opened:
    vendor = detect(path)
    # OpenSlide sees one level only of an OME-TIFF, whose pyramid is in SubIFDs.
    if vendor and vendor != "generic-tiff":
        return open_scan(path)
    if not is_tiff(path):
        return open_plain(path)
    try:
        return open_tiff(path)
    except PathsegError:
        raise
    except Exception:
        # A codec that only OpenSlide has, or damage, about which it says more.
        if not vendor:
            raise
        return open_scan(path)


def choose_mpp(slide: Slide) -> float:
    """Return µm per pixel of the finest level.

    Raises
    ------
    ResolutionError
        If it is not known. It is never derived from the objective's power, which does not fix it.
    """
    if slide.mpp is None:
        raise ResolutionError(
            f"{slide.path}: the file does not say its pixel size; fill in the column `mpp` (µm per pixel) of the table"
        )
    return slide.mpp
