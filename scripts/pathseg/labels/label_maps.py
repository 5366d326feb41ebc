"""What is known of an image, at any resolution: class indices from a mask image or from annotations."""

from typing import Any, Protocol

import numpy as np
import shapely

from pathseg.errors import ImageError
from pathseg.images.masks import read_labels
from pathseg.images.resampling import ResampledSlide, resample_labels
from pathseg.labels.drawing import PolygonDrawing
from pathseg.labels.geojson import Annotation, is_annotation_file, read_annotations
from pathseg.labels.values import IGNORE, class_counts, to_class_indices

# QuPath's name for what is to be left out.
IGNORE_CLASS = "Ignore*"

# Rows of a label map that are looked at together when all of it is counted.
STRIP = 1024


class LabelMap(Protocol):
    """Class indices at the resolution of a view."""

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width], `IGNORE` beyond the image; all in pixels of the view."""


def open_labels(
    path: str, view: ResampledSlide, classes: list[dict[str, Any]], ignore_value: int | None, outside: str
) -> LabelMap:
    """Open the mask of an image: a label image of the same size, or annotations as GeoJSON.

    Parameters
    ----------
    path
        Mask file.
    view
        The image at the wanted resolution.
    classes, ignore_value
        As in the configuration.
    outside
        What is outside of all annotations: "ignore", or "background" for the first class.

    Raises
    ------
    ImageError
        If the mask does not fit the image or the classes.
    """
    if is_annotation_file(path):
        return AnnotatedLabels(path, view, [class_["name"] for class_ in classes], outside)
    labels = read_labels(path)
    _check_size(path, labels, view)
    indices = to_class_indices(labels, classes, ignore_value, path)
    return LabelImage(resample_labels(indices, view.width, view.height))


def open_instances(path: str, view: ResampledSlide) -> "LabelImage":
    """Open an image that numbers the objects of an image, 0 for none: int32 values, 0 beyond the image.

    Raises
    ------
    ImageError
        If it does not fit the image.
    """
    numbers = read_labels(path)
    _check_size(path, numbers, view)
    # First whether a pixel is of any object, then of which: three objects that share a pixel leave no hole.
    covered = resample_labels((numbers > 0).view(np.uint8), view.width, view.height)
    objects = resample_labels(numbers.astype(np.int32), view.width, view.height, without=0)
    return LabelImage(objects * covered, beyond=0)


def _check_size(path: str, labels: np.ndarray, view: ResampledSlide) -> None:
    if labels.shape != (view.slide.height, view.slide.width):
        raise ImageError(
            f"{path}: has {labels.shape[1]} x {labels.shape[0]} pixels, but its image {view.slide.path} has "
            f"{view.slide.width} x {view.slide.height}; a mask must match its image"
        )


class LabelImage:
    """Class indices, or numbers of objects, in memory.

    Parameters
    ----------
    indices
        Whole numbers [H, W].
    beyond
        Value of what lies beyond the image.
    """

    def __init__(self, indices: np.ndarray, beyond: int = IGNORE) -> None:
        self.indices, self._beyond = indices, beyond

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return [height, width]."""
        result = np.full((height, width), self._beyond, self.indices.dtype)
        x0, y0 = max(x, 0), max(y, 0)
        inside = self.indices[y0 : max(y + height, 0), x0 : max(x + width, 0)]
        result[y0 - y : y0 - y + inside.shape[0], x0 - x : x0 - x + inside.shape[1]] = inside
        return result


class AnnotatedLabels:
    """Class indices from annotations; where they overlap, the smaller one counts.

    Parameters
    ----------
    path
        GeoJSON file.
    view
        The image at the wanted resolution.
    names
        Names of the classes; annotations of the class `Ignore*` are left out of training and scores.
    outside
        "ignore" or "background".
    """

    def __init__(self, path: str, view: ResampledSlide, names: list[str], outside: str) -> None:
        self.view = view
        self._outside = IGNORE if outside == "ignore" else 0
        annotations = sorted(read_annotations(path), key=lambda annotation: -annotation.polygon.area)
        slide = shapely.box(0, 0, view.slide.width, view.slide.height)
        for annotation in annotations:
            if not annotation.polygon.intersects(slide):
                raise ImageError(
                    f"{path}: an annotation ({annotation.name}) at {annotation.polygon.bounds} lies outside of "
                    f"{view.slide.path} ({view.slide.width} x {view.slide.height} pixels); is it of another slide?"
                )
        self._drawing = PolygonDrawing(
            [annotation.polygon for annotation in annotations],
            [_class_of(path, annotation, names) for annotation in annotations],
            (view.width / view.slide.width, view.height / view.slide.height),
        )

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width], `IGNORE` beyond the image."""
        result = np.full((height, width), self._outside, np.uint8)
        self._drawing.draw(result, x, y)
        result[: max(-y, 0)] = result[max(self.view.height - y, 0) :] = IGNORE
        result[:, : max(-x, 0)] = result[:, max(self.view.width - x, 0) :] = IGNORE
        return result


def _class_of(path: str, annotation: Annotation, names: list[str]) -> int:
    if annotation.name == IGNORE_CLASS:
        return IGNORE
    # A derived class, "tumour: positive", is of the class that it is derived from, if it has no number of its own.
    name = annotation.name
    while name and name not in names:
        name = name.rpartition(": ")[0]
    if not name:
        kind = f"of class {annotation.name!r}" if annotation.name else "without class"
        raise ImageError(
            f"{path}: has an annotation {kind} at {annotation.polygon.bounds}; the configuration has "
            f"{', '.join(names)} (and {IGNORE_CLASS} is left out). Set its class in QuPath, or add the class"
        )
    return names.index(name)


def count_labels(labels: LabelMap, width: int, height: int, n_classes: int) -> np.ndarray:
    """Count the pixels of each class of a whole label map, strip by strip: int64 [C]."""
    counts = np.zeros(n_classes, np.int64)
    for y in range(0, height, STRIP):
        counts += class_counts(labels.read(0, y, width, min(STRIP, height - y)), n_classes)
    return counts
