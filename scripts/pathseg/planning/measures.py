"""What is measured of images and their masks: sizes of pixels and objects, gaps between them, classes, colours."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, choose_mpp, open_slide
from pathseg.labels.label_maps import AnnotatedLabels, LabelMap, open_instances, open_labels
from pathseg.labels.tissue import HIGHEST_THRESHOLD, stained
from pathseg.labels.values import IGNORE, class_counts
from pathseg.logs import progress
from pathseg.scores.objects import connected

# Objects are measured in windows of this side in pixels, so many of an image at most.
WINDOW, WINDOWS = 1024, 4
# In windows in which more than this share of the objects' pixels is cut by the rim, objects are too large for them.
MOST_CUT = 0.5
# Classes are counted, and colours taken, in pictures of at most this side in pixels.
PICTURE = 1024
# A mask is moved by so many pixels of that picture at most, to see where its outlines fit the image best.
FARTHEST = 32


@dataclass(frozen=True)
class ImageMeasures:
    """What was measured of an image. Lengths are in µm, or in pixels of the file where no pixel size is asked for.

    Attributes
    ----------
    sample, patient, part : str
        Its row of the sample table.
    mpp : float
        µm per pixel of the file, or 1.
    width, height : float
        Of the image.
    areas : numpy.ndarray
        Known area of each class [C].
    widths, object_areas : list of numpy.ndarray
        Of the objects of each class [n]: the diameter of the largest circle inside, and the area.
    gaps : numpy.ndarray
        From each object to the next one, where there is one [n]; 0 where they touch.
    color : numpy.ndarray
        Mean optical density of what is stained, in red, green and blue [3]; NaN where nothing is.
    fits : numpy.ndarray or None
        See `outline_fits`; None where the image is too small, or the mask has no outline.
    fit_step : float
        Length of a step in `fits`.
    """

    sample: str
    patient: str
    part: str
    mpp: float
    width: float
    height: float
    areas: np.ndarray
    widths: list[np.ndarray]
    object_areas: list[np.ndarray]
    gaps: np.ndarray
    color: np.ndarray
    fits: np.ndarray | None
    fit_step: float


def measure_images(rows: list[dict[str, Any]], settings: dict[str, Any], threads: int) -> list[ImageMeasures]:
    """Measure the images of rows of the sample table.

    Parameters
    ----------
    rows
        With their files.
    settings
        `classes`, `ignore_value`, `outside_annotations` and `tiles` of the configuration.
    threads
        How many are measured at a time.
    """
    labelling = settings["classes"], settings["ignore_value"], settings["outside_annotations"]
    in_um = not settings["tiles"]["resize"]

    def measure(row: dict[str, Any]) -> ImageMeasures:
        return measure_image(row, *labelling, in_um)

    with ThreadPoolExecutor(threads) as pool:
        return list(progress(pool.map(measure, rows), "measuring", total=len(rows), unit="image"))


def measure_image(
    row: dict[str, Any], classes: list[dict[str, Any]], ignore_value: int | None, outside: str, in_um: bool
) -> ImageMeasures:
    """Measure an image and its mask.

    Parameters
    ----------
    row
        Of the sample table, with its files.
    classes, ignore_value, outside
        How the mask is read, see `open_labels`.
    in_um
        Whether the pixel size counts; without, lengths are in pixels of the file.

    Raises
    ------
    PathsegError
        If image or mask cannot be read, or the pixel size is needed and not known.
    """
    slide = open_slide(row["image"], row["mpp"])
    mpp = choose_mpp(slide) if in_um else 1.0
    whole = ResampledSlide(slide, max(1.0, max(slide.width, slide.height) / PICTURE))
    picture = whole.read(0, 0, whole.width, whole.height)
    small = open_labels(row["mask"], whole, classes, ignore_value, outside).read(0, 0, whole.width, whole.height)
    pixel = mpp * slide.width / whole.width
    objects = _measure_objects(row, slide, small, (classes, ignore_value, outside))
    return ImageMeasures(
        row["sample"],
        row["patient"],
        row["part"],
        mpp,
        slide.width * mpp,
        slide.height * mpp,
        class_counts(small, len(classes)) * pixel**2,
        [widths * mpp for widths in objects.widths],
        [areas * mpp**2 for areas in objects.areas],
        objects.gaps * mpp,
        mean_density(picture),
        outline_fits(picture, small),
        pixel,
    )


def mean_density(rgb: np.ndarray) -> np.ndarray:
    """Return the mean optical density of the stained pixels of uint8 [H, W, 3], float [3]; NaN if there are none."""
    pixels = rgb[stained(rgb) > HIGHEST_THRESHOLD]
    density = -np.log10(np.maximum(pixels, 1) / 255)
    return density.mean(axis=0) if len(pixels) else np.full(3, np.nan)


def outline_fits(rgb: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    """Return how well the outlines of a mask fit an image, if the mask is moved.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3].
    indices
        Class indices [H, W].

    Returns
    -------
    numpy.ndarray or None
        Correlation of outlines and changes of colour, float32 [y, x], the mask moved by -`FARTHEST` to `FARTHEST`
        pixels to the bottom and to the right. None where the image is too small, or there is no outline.
    """
    inner = np.s_[FARTHEST:-FARTHEST, FARTHEST:-FARTHEST]
    there = ((indices > 0) & (indices != IGNORE)).astype(np.uint8)
    outlines = cv2.morphologyEx(there, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    if min(indices.shape) < 8 * FARTHEST or not outlines[inner].any():
        return None
    density = cv2.GaussianBlur(-np.log10(np.maximum(rgb, 1) / np.float32(255)), (0, 0), 2)
    changes = np.sqrt(np.square(cv2.Sobel(density, -1, 1, 0)) + np.square(cv2.Sobel(density, -1, 0, 1))).sum(axis=2)
    # Dust, pen and folds have sharper edges than tissue.
    changes = np.minimum(changes, np.quantile(changes, 0.98))
    if not changes.std():
        return None
    wanted = (outlines - outlines.mean())[inner]
    found = cv2.matchTemplate(changes - changes.mean(), wanted, cv2.TM_CCORR)
    return found / (wanted.size * changes.std() * wanted.std())


@dataclass(frozen=True)
class ObjectMeasures:
    """Widths and areas of objects by class, and gaps between objects, in pixels of the finest level.

    Attributes
    ----------
    widths, areas : list of numpy.ndarray
        [n] of each class.
    gaps : numpy.ndarray
        [n].
    """

    widths: list[np.ndarray]
    areas: list[np.ndarray]
    gaps: np.ndarray


def _measure_objects(
    row: dict[str, Any], slide: Slide, small: np.ndarray, labelling: tuple[list[dict[str, Any]], int | None, str]
) -> ObjectMeasures:
    """Measure objects in windows at the finest resolution at which windows hold most of them whole."""
    downsample = 1.0
    while True:
        view = ResampledSlide(slide, downsample)
        labels = open_labels(row["mask"], view, *labelling)
        numbered = _numbers(row, view, labels)
        parts = []
        for x, y, width, height in _windows(view, small):
            indices = labels.read(x, y, width, height)
            numbers = connected(indices) if numbered is None else numbered.read(x, y, width, height)
            whole = (width, height) == (view.width, view.height)
            parts.append(measure_objects(indices, numbers, len(labelling[0]), whole))
        cut, seen = (sum(values) for values in zip(*(part[1:] for part in parts), strict=True))
        if cut <= MOST_CUT * seen or max(view.width, view.height) <= WINDOW:
            measured = [part[0] for part in parts]
            return ObjectMeasures(
                [np.concatenate([each.widths[c] for each in measured]) * downsample for c in range(len(labelling[0]))],
                [
                    np.concatenate([each.areas[c] for each in measured]) * downsample**2
                    for c in range(len(labelling[0]))
                ],
                np.concatenate([each.gaps for each in measured]) * downsample,
            )
        downsample *= 2


def _numbers(row: dict[str, Any], view: ResampledSlide, labels: LabelMap) -> LabelMap | None:
    """Return the numbers of objects as databases take them; None where they are what is connected."""
    if row["instances"]:
        return open_instances(row["instances"], view)
    return labels.objects() if isinstance(labels, AnnotatedLabels) else None


def _windows(view: ResampledSlide, small: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield x, y, width and height of the windows of a view that are measured.

    They are spread evenly over those with objects in `small`, class indices of the whole image.
    """
    height, width = small.shape
    found = []
    for y in range(0, view.height, WINDOW):
        for x in range(0, view.width, WINDOW):
            right, below = min(x + WINDOW, view.width), min(y + WINDOW, view.height)
            part = small[
                y * height // view.height : -(-below * height // view.height),
                x * width // view.width : -(-right * width // view.width),
            ]
            found.append(((x, y, right - x, below - y), bool(((part > 0) & (part != IGNORE)).any())))
    chosen = [window for window, has_objects in found if has_objects] or [window for window, _ in found]
    for number in np.unique(np.linspace(0, len(chosen) - 1, WINDOWS).round().astype(int)):
        yield chosen[number]


def measure_objects(
    indices: np.ndarray, numbers: np.ndarray, n_classes: int, whole: bool
) -> tuple[ObjectMeasures, int, int]:
    """Measure numbered objects.

    Parameters
    ----------
    indices
        Class indices uint8 [H, W].
    numbers
        Number of the object of each pixel, 0 for none, int [H, W].
    n_classes
        Number of classes.
    whole
        Whether this is the whole image; in a window, objects at its rim are not measured.

    Returns
    -------
    measures : ObjectMeasures
        In pixels.
    cut, seen : int
        Pixels of objects that the rim cuts, and of all objects.
    """
    numbers = np.where(indices == IGNORE, 0, numbers)
    found, numbers = np.unique(numbers, return_inverse=True)
    numbers = numbers.reshape(indices.shape) + (found[0] != 0)
    count = int(numbers.max())
    if not count:
        return ObjectMeasures([np.empty(0)] * n_classes, [np.empty(0)] * n_classes, np.empty(0)), 0, 0
    each = np.arange(1, count + 1)
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    rim = np.unique(np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]]))
    at_rim = np.isin(each, rim)
    used = each if whole else each[~at_rim]
    of_class = ndimage.maximum(np.where(indices == IGNORE, 0, indices), numbers, each)
    # Where all is one object, nothing limits its depth.
    widths = np.minimum(2 * ndimage.maximum(_depth(numbers), numbers, each) - 1, max(numbers.shape))
    of_used = [used[of_class[used - 1] == index] - 1 for index in range(n_classes)]
    return (
        ObjectMeasures(
            [widths[chosen].astype(float) for chosen in of_used],
            [areas[chosen].astype(float) for chosen in of_used],
            _gaps(numbers, count),
        ),
        int(areas[at_rim].sum()),
        int(areas.sum()),
    )


def _depth(numbers: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel to the nearest one that is not of its object, float [H, W]."""
    inner = numbers > 0
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        touching = (numbers[one] != numbers[other]) & (numbers[one] > 0) & (numbers[other] > 0)
        inner[one] &= ~touching
    return cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _gaps(numbers: np.ndarray, count: int) -> np.ndarray:
    """Return the pixels between each object and the next, of those that have one in sight [n]."""
    distance, (rows, columns) = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
    nearest = numbers[rows, columns]
    gaps = np.full(count + 1, np.inf)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        between = nearest[one] != nearest[other]
        # From the middle of one object's pixel to the middle of the other's it is a pixel more.
        gap = (distance[one] + distance[other])[between]
        for side in (one, other):
            np.minimum.at(gaps, nearest[side][between], gap)
    return gaps[np.isfinite(gaps)]
