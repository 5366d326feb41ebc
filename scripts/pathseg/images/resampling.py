"""Read a slide at any resolution so that a rectangle's pixels do not depend on how the slide is cut.

Every output pixel has a fixed place on the slide: pixel i spans [i, i+1) * factor of the source. Going down, whole
numbers of source pixels are averaged (area) and the rest is interpolated bilinearly; going up is bicubic.
The databases and the slides are read by the same code, so that training and prediction see the same pixels.
"""

from typing import Any

import cv2
import numpy as np

from pathseg.images.slides import Slide, choose_mpp
from pathseg.images.views import read_mirrored


class ResampledSlide:
    """A slide seen at a chosen resolution.

    Parameters
    ----------
    slide
        The slide.
    downsample
        Finest pixels per pixel of this view: 2 halves the size, 0.5 doubles it.

    Attributes
    ----------
    width, height : int
        Size of the view in its own pixels.
    """

    def __init__(self, slide: Slide, downsample: float) -> None:
        self.slide = slide
        self.downsample = downsample
        self.width = max(1, round(slide.width / downsample))
        self.height = max(1, round(slide.height / downsample))
        self._level = slide.level_for(downsample)
        level = slide.levels[self._level]
        # Sizes of levels are rounded, so that each axis has a factor of its own.
        self._factor_x = level.width / self.width
        self._factor_y = level.height / self.height

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return a rectangle of the view, mirrored at the slide's borders.

        Parameters
        ----------
        x, y, width, height
            In pixels of the view; may reach beyond it.

        Returns
        -------
        numpy.ndarray
            uint8 [height, width, 3] RGB.
        """
        return read_mirrored(self._read_inside, (x, y, width, height), (self.width, self.height))

    def _read_inside(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        level = self.slide.levels[self._level]
        if self._factor_x == self._factor_y == 1:
            return self.slide.read_level(self._level, x, y, width, height)
        block_x, block_y = max(1, int(self._factor_x)), max(1, int(self._factor_y))
        x0, x1 = source_range(x, width, self._factor_x, block_x, level.width)
        y0, y1 = source_range(y, height, self._factor_y, block_y, level.height)
        source = self.slide.read_level(self._level, x0, y0, x1 - x0, y1 - y0)
        if block_x > 1 or block_y > 1:
            source = block_mean(source, block_x, block_y)
        at_x = _positions(x, width, self._factor_x, block_x) - x0 // block_x
        at_y = _positions(y, height, self._factor_y, block_y) - y0 // block_y
        if np.array_equal(at_x, np.arange(source.shape[1])) and np.array_equal(at_y, np.arange(source.shape[0])):
            return source
        method = cv2.INTER_CUBIC if min(self._factor_x, self._factor_y) < 1 else cv2.INTER_LINEAR
        map_x, map_y = np.meshgrid(at_x.astype(np.float32), at_y.astype(np.float32))
        return cv2.remap(source, map_x, map_y, method, borderMode=cv2.BORDER_REPLICATE)


def _positions(start: int, count: int, factor: float, block: int) -> np.ndarray:
    """Return where the centres of output pixels lie among blocks of source pixels: float64 [count]."""
    return (np.arange(start, start + count) + 0.5) * factor / block - 0.5


def source_range(start: int, count: int, factor: float, block: int, length: int) -> tuple[int, int]:
    """Return the source pixels that output pixels need, with room to interpolate, from a multiple of `block`."""
    margin = 2
    low = int(np.floor(start * factor / block)) - margin
    high = int(np.ceil((start + count) * factor / block)) + margin
    return max(low, 0) * block, min(high * block, length)


def block_mean(pixels: np.ndarray, block_x: int, block_y: int) -> np.ndarray:
    """Average blocks of [H, W, 3]; the last row and column of blocks may be smaller."""
    height, width = pixels.shape[:2]
    extra_y, extra_x = -height % block_y, -width % block_x
    if extra_x or extra_y:
        pixels = cv2.copyMakeBorder(pixels, 0, extra_y, 0, extra_x, cv2.BORDER_REPLICATE)
    size = (pixels.shape[1] // block_x, pixels.shape[0] // block_y)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def resample_labels(labels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bring a label image [H, W] to another size, each pixel taking the label at its centre."""
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[np.ix_(rows, columns)]


def model_downsample(model: dict[str, Any], slide: Slide, given_mpp: float | None) -> float:
    """Return how many of a slide's finest pixels one pixel of the model spans.

    Parameters
    ----------
    model
        Checkpoint with `mpp` (µm per pixel), `resize` (factor on the image size), or, as in the tutorial's files,
        neither: then the slide is taken as it is.
    slide
        The slide.
    given_mpp
        µm per pixel of the slide as a table says, used where the file does not.

    Raises
    ------
    ResolutionError
        If the model has a resolution and the slide has none.
    """
    if model["mpp"]:
        return model["mpp"] / choose_mpp(slide, given_mpp)
    return 1 / (model["resize"] or 1)
