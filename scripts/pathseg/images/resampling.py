"""Read a slide at any resolution so that a rectangle's pixels do not depend on how the slide is cut.

Every output pixel has a fixed place on the slide: pixel i spans [i, i+1) * factor of the source. Going down, it is the
mean of what it spans, the source pixels at its ends in part; going up is bicubic. Shares are rounded to fractions whose
sums are exact, so that neither the cut nor the order of adding changes a pixel.
The databases and the slides are read by the same code, so that training and prediction see the same pixels.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects
from scipy.sparse import csr_matrix

from pathseg.images.slides import Slide, choose_mpp
from pathseg.images.views import read_mirrored

# A source that is a little too coarse is interpolated linearly, which is what a mean of areas becomes where an output
# pixel spans one source pixel. Below this factor it is interpolated by cubics, which keep more of what is fine.
CUBIC_BELOW = 0.9
# Up to this factor 8 bits tell the shares of the pixels of a span apart.
FINE_UP_TO = 32

# Source pixels that are read at a time, in about square pieces, so that memory stays bounded whatever is asked for; and
# those that are weighed at a time, few enough to stay in the processor's cache.
READ_PIXELS = 2**25
WEIGHED_PIXELS = 2**18

# Pixels of a label image that are looked at together, and the number from which labels are numbered anew.
LABEL_PIXELS = 2**22
MANY_LABELS = 2**20


class Arithmetic(NamedTuple):
    """Types and bits in which shares are added up along rows, then along columns; all sums are exact in them."""

    rows: type[np.number]
    row_bits: int
    columns: type[np.number]
    column_bits: int


# The largest sums are 255 * 2**8 and 255.5 * 2**24, which just fit. The other takes fine and negative shares.
QUICK = Arithmetic(np.uint16, 8, np.uint32, 16)
FINE = Arithmetic(np.float64, 20, np.float64, 20)


@dataclass(frozen=True)
class Axis:
    """One side of a picture: its length in pixels of the source, and in pixels of what is made of it.

    Attributes
    ----------
    source, result : int
        Both lengths.
    area : bool
        Go up by areas too, which repeats pixels.
    length : float
        Source pixels that the result spans, if it is not the source's side; what lies beyond is like the last pixel.
    """

    source: int
    result: int
    area: bool = False
    length: float = 0

    @property
    def spanned(self) -> float:
        """Source pixels that the whole result spans."""
        return self.length or self.source

    @property
    def factor(self) -> float:
        """Source pixels that an output pixel spans."""
        return self.spanned / self.result

    def shares(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which source pixels output pixels start ... start+count-1 are made of, and their shares added up.

        Returns
        -------
        first : numpy.ndarray
            int [count], the first source pixel of each; it may lie outside.
        sums : numpy.ndarray
            float64 [count, n+1], the shares of the first 0, 1 ... n source pixels together: 0 at first, 1 at last.
        """
        # Of whole numbers: a pixel's place has one value, whatever the start.
        index = np.arange(start, start + count)[:, None]
        low, high = index * self.spanned / self.result, (index + 1) * self.spanned / self.result
        if self.area or self.factor >= 1:
            first = np.floor(low).astype(int)
            edges = first + np.arange(int(np.ceil(self.factor)) + 2)
            return first[:, 0], (np.clip(edges, low, high) - low) / (high - low)
        centre = (low + high) / 2 - 0.5
        before = np.floor(centre).astype(int)
        t = centre - before
        zero, one = np.zeros_like(t), np.ones_like(t)
        if self.factor >= CUBIC_BELOW:
            return before[:, 0], np.hstack([zero, 1 - t, one])
        # R. G. Keys, Cubic convolution interpolation for digital image processing (1981), a = -1/2.
        parts = [t * (-1 + t * (2 - t)) / 2, 1 + t * t * (3 * t - 5) / 2, t * (1 + t * (4 - 3 * t)) / 2]
        return before[:, 0] - 1, np.hstack([zero, np.cumsum(np.hstack(parts), axis=1), one])

    def needed(self, start: int, count: int) -> tuple[int, int]:
        """Return the source pixels that output pixels are made of: the first, and the one behind the last."""
        first, sums = self.shares(start, count)
        parts = np.diff(sums, axis=1)
        used = (first[:, None] + np.arange(parts.shape[1]))[parts != 0]
        return min(max(int(used.min()), 0), self.source - 1), min(int(used.max()) + 1, self.source)

    def weights(self, start: int, count: int, span: tuple[int, int], dtype: type[np.number], bits: int) -> csr_matrix:
        """Return what output pixels take of the source pixels span[0] ... span[1]-1, in parts of 2**bits.

        Beyond the span, the source goes on with its first and last pixel.

        Returns
        -------
        scipy.sparse.csr_matrix
            dtype [count, pixels of the span].
        """
        first, sums = self.shares(start, count)
        # Rounded sums, not rounded shares, so that they add up.
        parts = np.diff(np.rint(sums * 2**bits), axis=1).astype(dtype)
        columns = np.clip(first[:, None] + np.arange(parts.shape[1]), span[0], span[1] - 1) - span[0]
        ends = np.arange(count + 1, dtype=np.int32) * parts.shape[1]
        return csr_matrix((parts.ravel(), columns.ravel().astype(np.int32), ends), shape=(count, span[1] - span[0]))


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
        across, down = level.shares_of(slide.width, slide.height)
        self._columns = Axis(level.width, self.width, length=across)
        self._rows = Axis(level.height, self.height, length=down)

    @property
    def between_levels(self) -> bool:
        """Whether it is read from a level that is made smaller itself: twice smoothed, it is a little less sharp."""
        return self._level > 0 and self.width < 0.99 * self.slide.levels[self._level].width

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
        if width * self._columns.factor * height * self._rows.factor <= READ_PIXELS:
            return self._read_piece(x, y, width, height)
        result = np.empty((height, width, 3), np.uint8)
        step_x, step_y = (max(1, int(READ_PIXELS**0.5 / axis.factor)) for axis in (self._columns, self._rows))
        for top in range(0, height, step_y):
            for left in range(0, width, step_x):
                part = result[top : top + step_y, left : left + step_x]
                part[:] = self._read_piece(x + left, y + top, part.shape[1], part.shape[0])
        return result

    def _read_piece(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        columns, rows = self._columns, self._rows
        (x0, x1), (y0, y1) = columns.needed(x, width), rows.needed(y, height)
        source = self.slide.read_level(self._level, x0, y0, x1 - x0, y1 - y0)
        factors = {columns.factor, rows.factor}
        if factors == {1} and source.shape[:2] == (height, width):
            return source
        if factors == {2} and source.shape[:2] == (2 * height, 2 * width):  # the same pixels, ten times as fast
            return block_mean(source, 2)
        kind = QUICK if min(factors) >= CUBIC_BELOW and max(factors) <= FINE_UP_TO else FINE
        across = columns.weights(x, width, (x0, x1), kind.columns, kind.column_bits)
        result = np.empty((height, width, 3), np.uint8)
        step = max(1, int(WEIGHED_PIXELS / (x1 - x0) / rows.factor))
        for top in range(0, height, step):
            part = result[top : top + step]
            first, stop = rows.needed(y + top, len(part))
            down = rows.weights(y + top, len(part), (first, stop), kind.rows, kind.row_bits)
            sums = _weighed(source[first - y0 : stop - y0], down, across, kind)
            part[:] = cv2.transpose(_rounded(sums, kind).reshape(width, len(part), 3))
        return result


def _weighed(source: np.ndarray, down: csr_matrix, across: csr_matrix, kind: Arithmetic) -> np.ndarray:
    """Weigh [H, W, channels]: sums [output columns, output rows * channels], turned because rows are added faster."""
    height, width, channels = source.shape
    rows = down @ source.reshape(height, -1).astype(kind.rows)
    turned = cv2.transpose(rows.reshape(-1, width, channels)).reshape(width, -1)
    return across @ turned.astype(kind.columns, copy=False)


def _rounded(sums: np.ndarray, kind: Arithmetic) -> np.ndarray:
    """Bring sums back to uint8, in place as far as that goes."""
    bits = kind.row_bits + kind.column_bits
    if kind is QUICK:
        sums += np.uint32(2 ** (bits - 1))
        sums >>= np.uint32(bits)
        return sums.astype(np.uint8)
    return np.clip(np.floor(sums / 2**bits + 0.5), 0, 255).astype(np.uint8)


def block_mean(pixels: np.ndarray, side: int) -> np.ndarray:
    """Average blocks of uint8 [H, W] or [H, W, channels]; those of the last row and column may be smaller."""
    height, width = pixels.shape[:2]
    below, right = -height % side, -width % side
    if below or right:
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (pixels.shape[1] // side, pixels.shape[0] // side)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def resample_labels(labels: np.ndarray, width: int, height: int, without: int | None = None) -> np.ndarray:
    """Bring a label image to another size; each pixel takes the value that covers most of it.

    Where two values cover the same, as at every second edge if the size is halved, pixels take the lower and the higher
    by turns, like the fields of a chessboard: always the same would move edges by a quarter of a pixel.

    Parameters
    ----------
    labels
        Whole numbers [H, W], none below 0.
    width, height
        Of the result.
    without
        A value that is left out, and that pixels get which are covered by nothing else.
    """
    if labels.shape == (height, width):
        return labels
    if labels.max() >= MANY_LABELS:
        values, numbers = np.unique(labels, return_inverse=True)
        left_out = np.flatnonzero(values == without)
        few = resample_labels(numbers, width, height, int(left_out[0]) if len(left_out) else None)
        return values[few]
    rows, columns = Axis(labels.shape[0], height, area=True), Axis(labels.shape[1], width, area=True)
    result = np.full((height, width), without or 0, labels.dtype)
    step = max(1, int(LABEL_PIXELS / labels.shape[1] / rows.factor))
    for top in range(0, height, step):
        _fill_with_most(result[top : top + step], top, labels, rows, columns, without)
    return result


def _fill_with_most(
    result: np.ndarray, top: int, labels: np.ndarray, rows: Axis, columns: Axis, without: int | None
) -> None:
    """Fill the rows of `resample_labels` from `top` on."""
    y0, y1 = rows.needed(top, len(result))
    most = np.zeros(result.shape, np.uint32)
    odd = np.add.outer(np.arange(top, top + len(result)), np.arange(result.shape[1])) % 2 == 1
    for value, place in enumerate(find_objects(labels[y0:y1].astype(np.int32) + 1)):
        if place is None or value == without:
            continue
        # The output pixels that touch the rectangle which holds the value, and what they are made of.
        (above, below), (left, right) = (
            (span.start * axis.result // axis.source, -(-span.stop * axis.result // axis.source))
            for span, axis in ((slice(y0 + place[0].start, y0 + place[0].stop), rows), (place[1], columns))
        )
        above, below = max(above, top), min(below, top + len(result))
        (first, stop), (begin, end) = rows.needed(above, below - above), columns.needed(left, right - left)
        down = rows.weights(above, below - above, (first, stop), QUICK.rows, QUICK.row_bits)
        across = columns.weights(left, right - left, (begin, end), QUICK.columns, QUICK.column_bits)
        share = _weighed((labels[first:stop, begin:end] == value)[..., None].view(np.uint8), down, across, QUICK).T
        part = np.s_[above - top : below - top, left:right]
        wins = (share > most[part]) | ((share == most[part]) & odd[part] & (share > 0))
        result[part][wins] = value
        most[part][wins] = share[wins]


def model_downsample(model: dict[str, Any], slide: Slide) -> float:
    """Return how many of a slide's finest pixels one pixel of the model spans.

    Parameters
    ----------
    model
        Checkpoint with `mpp` (µm per pixel), `resize` (factor on the image size), or, as in the tutorial's files,
        neither: then the slide is taken as it is.
    slide
        The slide.

    Raises
    ------
    ResolutionError
        If the model has a resolution and the slide has none.
    """
    if model["mpp"]:
        return model["mpp"] / choose_mpp(slide)
    return 1 / (model["resize"] or 1)
