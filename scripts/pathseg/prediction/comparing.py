"""Predictions beside what is known of an image, at the resolution of the truth."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide
from pathseg.images.views import View
from pathseg.labels.geojson import is_annotation_file
from pathseg.labels.label_maps import LabelMap
from pathseg.labels.values import IGNORE
from pathseg.prediction.bands import Band
from pathseg.prediction.delivery import predict_view
from pathseg.prediction.inference import Predictor
from pathseg.prediction.scaling import scaled

# Side in pixels, about, of the parts that are predicted if something in or beside them is known.
KNOWN_SQUARE = 64
# Pixels of an image of which whole maps may be in memory.
LARGEST_WHOLE = 2**26


def grid_of_truth(mask: str, view: ResampledSlide) -> ResampledSlide:
    """Return the image at the resolution of what is known of it.

    A mask has its own pixels, which are the image's; so have annotations, unless there are more than `LARGEST_WHOLE`
    of them: outlines have no pixels of their own, and slides too many. Then it is the model's, that of `view`.
    """
    if is_annotation_file(mask) and not is_small(view.slide):
        return view
    return ResampledSlide(view.slide, 1.0)


def is_small(image: Slide | View) -> bool:
    """Say whether whole maps of an image may be in memory."""
    return image.width * image.height <= LARGEST_WHOLE


def predict_beside(
    labels: LabelMap, grid: ResampledSlide, view: ResampledSlide, predictor: Predictor, settings: dict[str, Any]
) -> Iterator[tuple[np.ndarray, Band]]:
    """Predict what is known of an image, as it is delivered, and bring it to the resolution of the truth.

    Parameters
    ----------
    labels, grid
        What is known, and the image at its resolution.
    view
        The image at the model's resolution.
    predictor, settings
        See `predict_view`.

    Yields
    ------
    numpy.ndarray
        Class indices [h, W], `IGNORE` where nothing is known.
    Band
        What is predicted there.
    """
    # A pixel of the model beyond what is known may be interpolated from.
    square = max(KNOWN_SQUARE, math.ceil(2 * view.downsample / grid.downsample))
    bands = predict_view(view, predictor, settings, wanted=known_part(labels, grid, square))
    for band in scaled(bands, (view.width, view.height), (grid.width, grid.height)):
        yield labels.read(0, band.y, grid.width, len(band.classes)), band


def known_part(labels: LabelMap, view: View, square: int) -> np.ndarray:
    """Return in which parts of a view something is known, or in one beside it, so that no more is predicted.

    Parameters
    ----------
    labels
        What is known.
    view
        At the resolution of the labels.
    square
        Side of a part in pixels, about.

    Returns
    -------
    numpy.ndarray
        bool [h, w] that covers the view.
    """
    n_rows, n_columns = (-(-side // square) for side in (view.height, view.width))
    # The first pixel of each part; the parts are as large as each other, as `Coverage` takes them to be.
    tops, lefts = (
        np.ceil(np.arange(n) * side / n - 0.5).astype(int)
        for n, side in ((n_rows, view.height), (n_columns, view.width))
    )
    known = np.zeros((n_rows, n_columns), bool)
    for row, (top, bottom) in enumerate(itertools.pairwise([*tops, view.height])):
        strip = labels.read(0, top, view.width, bottom - top) != IGNORE
        known[row] = np.logical_or.reduceat(strip.any(axis=0), lefts)
    return binary_dilation(known, np.ones((3, 3), bool))
