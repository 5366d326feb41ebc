"""What networks say of a slide, kept compactly: an answer, of which all that people read is made without a network.

So another colour or smallest area costs no prediction and no GPU. An answer is some files: the class of each pixel and
how probable it is, what is inside of objects if these are told apart, the slide small, and what is known about it.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import tifffile

from pathseg.colors import default_color
from pathseg.images.pyramids import PyramidWriter, strips_of
from pathseg.prediction.bands import Band

# Pixels that are read at a time, at least: each time, outlines are joined.
ROWS_PIXELS = 2**23
# Of the picture of a slide: losses cannot be seen beneath the classes.
QUALITY = 90
# Of it, and of the class map that is laid over it.
THUMBNAIL_SIDE = 2048


class AnswerWriter:
    """Write the maps of an answer as it comes, band by band.

    Parameters
    ----------
    paths
        Where to write `classes`, `confidence` and, if they are there, `insides`, `probability` and `uncertainty`.
    size
        Width and height of the slide in pixels of the model.
    mpp
        µm per pixel of the model, or None.
    n_classes
        How many there are.
    """

    def __init__(self, paths: dict[str, Path], size: tuple[int, int], mpp: float | None, n_classes: int) -> None:
        self._stack = ExitStack()
        of_maps: dict[str, dict[str, Any]] = {
            "classes": {"colors": [default_color(index) for index in range(n_classes)]},
            "confidence": {"internal": True},
            "insides": {"internal": True},
            "probability": {"planes": n_classes},
            "uncertainty": {"averaged": True},
        }
        self._writers = {
            key: self._stack.enter_context(PyramidWriter(paths[key], *size, mpp, **options))
            for key, options in of_maps.items()
            if key in paths
        }

    def add(self, band: Band) -> None:
        """Take the next band."""
        self._writers["classes"].append(band.classes)
        # A class that is taken has some probability: 0 says that nothing was looked at.
        self._writers["confidence"].append(np.where(band.tissue, band.probabilities.max(axis=0), 0))
        if "insides" in self._writers:
            self._writers["insides"].append(band.inside())
        if "probability" in self._writers:
            self._writers["probability"].append(band.probabilities)
        if "uncertainty" in self._writers:
            self._writers["uncertainty"].append(band.uncertainty())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is written."""
        self._stack.__exit__(kind, error, trace)


@dataclass(frozen=True)
class AnswerRows:
    """Rows of an answer across the whole slide.

    Attributes
    ----------
    y : int
        The first row.
    classes : numpy.ndarray
        uint8 [h, W], class indices.
    confidence : numpy.ndarray
        uint8 [h, W], probability of that class times 255; 0 where nothing was looked at.
    insides : numpy.ndarray or None
        uint8 [h, W], 1 inside of objects, 2 surely so, if these are told apart.
    """

    y: int
    classes: np.ndarray
    confidence: np.ndarray
    insides: np.ndarray | None


class Answer:
    """An answer that is there.

    Parameters
    ----------
    paths
        Its files: `classes`, `confidence`, `picture`, `about` and, if there is one, `insides`.

    Attributes
    ----------
    about : dict
        What is known of the slide and of how it was predicted, see `pathseg.prediction.slides`.
    """

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.about: dict[str, Any] = json.loads(paths["about"].read_text(encoding="utf-8"))

    def rows(self) -> Iterator[AnswerRows]:
        """Yield all rows, from top to bottom; the next ones are read meanwhile."""
        rows = self._rows()
        with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
            next_rows = reader.submit(next, rows, None)
            while (read := next_rows.result()) is not None:
                next_rows = reader.submit(next, rows, None)
                yield read

    def _rows(self) -> Iterator[AnswerRows]:
        with ExitStack() as stack:
            pages = {
                key: stack.enter_context(tifffile.TiffFile(self.paths[key])).pages.first
                for key in ("classes", "confidence", "insides")
                if key in self.paths
            }
            at_least = max(1, ROWS_PIXELS // pages["classes"].imagewidth)
            maps = {key: strips_of(page, at_least) for key, page in pages.items()}
            insides = (strip for _, strip in maps["insides"]) if "insides" in maps else repeat(None)
            for (y, classes), (_, confidence), inside in zip(
                maps["classes"], maps["confidence"], insides, strict=False
            ):
                yield AnswerRows(y, classes, confidence, inside)

    def tissue(self) -> np.ndarray:
        """Return where tissue was looked at, small: bool [h, w], see `thumbnail_places`."""
        with tifffile.TiffFile(self.paths["confidence"]) as tiff:
            page = tiff.pages.first
            down, across = thumbnail_places(page.imagewidth, page.imagelength)
            strips = [
                strip[np.ix_(down[(down >= top) & (down < top + len(strip))] - top, across)] > 0
                for top, strip in strips_of(page)
            ]
        return np.concatenate(strips)

    def picture(self) -> np.ndarray:
        """Return the slide as the model saw it, small: uint8 [h, w, 3]."""
        pixels = cv2.imread(str(self.paths["picture"]))
        assert pixels is not None
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write the picture of a slide, uint8 [h, w, 3]."""
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    path.write_bytes(encoded.tobytes())


def thumbnail_places(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of a map that are in a small one, at most `THUMBNAIL_SIDE` a side.

    Those in the middle of each step, so that the small map lies on the slide.
    """
    step = max(1, -(-max(width, height) // THUMBNAIL_SIDE))
    down, across = (np.arange(min(step // 2, side - 1), side, step) for side in (height, width))
    return down, across
