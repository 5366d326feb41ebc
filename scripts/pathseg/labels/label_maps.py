"""What is known of an image, at any resolution: class indices from a mask image or from annotations."""

from typing import Any, Protocol

import cv2
import numpy as np
import shapely
from scipy import sparse

from pathseg.errors import ImageError
from pathseg.images.masks import read_labels
from pathseg.images.resampling import ResampledSlide, resample_labels
from pathseg.labels.drawing import PolygonDrawing
from pathseg.labels.geojson import Annotation, is_annotation_file, read_annotations
from pathseg.labels.regions import has_regions, within_regions
from pathseg.labels.values import IGNORE, class_counts, to_class_indices

# QuPath's name for what is to be left out.
IGNORE_CLASS = "Ignore*"

# Share of the pixels of objects on which numbers and mask may differ: borders that were drawn twice do by some.
LARGEST_CONTRADICTION = 0.05

# An object may have been torn in two; more parts under the only number of an image are no object, but a mask.
SEVERAL_PARTS = 3

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


def check_instances(path: str, mask: str, numbers: np.ndarray, indices: np.ndarray) -> None:
    """Stop if numbered objects are not where the mask has them.

    Classes none of whose pixels have a number, where others have, are no objects (stroma beside glands).

    Parameters
    ----------
    path, mask
        Files of the numbers and of the mask, for the message.
    numbers
        Number of the object of each pixel, 0 for none, int [H, W].
    indices
        Class indices [H, W]; what is ignored is not looked at.

    Raises
    ------
    ImageError
        If more than `LARGEST_CONTRADICTION` of the pixels that are of an object in one are of none in the other, or
        all have one number that lie in several places.
    """
    n_classes = int(indices.max(initial=0, where=indices != IGNORE)) + 1
    has_number = numbers > 0
    of_class = class_counts(indices, n_classes)[1:]
    numbered = class_counts(indices[has_number], n_classes)
    outside, numbered = numbered[0], numbered[1:]
    missing = (of_class - numbered)[(numbered > 0) if numbered.any() else slice(None)].sum()
    total = outside + missing + numbered.sum()
    if missing + outside > LARGEST_CONTRADICTION * total:
        raise ImageError(
            f"{path}: does not fit its mask {mask}: {missing:,} pixels of objects of the mask have no number and "
            f"{outside:,} numbered ones are background, of {total:,} together; number the objects of this mask, or "
            "leave the column `instances` empty"
        )
    if has_number.any() and (numbers[has_number] == numbers.max()).all():
        areas = cv2.connectedComponentsWithStats(has_number.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
        parts = int((areas >= LARGEST_CONTRADICTION * areas.max()).sum())
        if parts >= SEVERAL_PARTS:
            raise ImageError(
                f"{path}: gives {parts} separate parts one number, {numbers.max()}, as a mask does; give each object a "
                "number of its own, or leave the column `instances` empty, and each connected part is one"
            )


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

    If there are regions (`Region*`) among them, all inside of these is known, and nothing outside.

    Parameters
    ----------
    path
        GeoJSON file.
    view
        The image at the wanted resolution.
    names
        Names of the classes; annotations of the class `Ignore*` are left out of training and scores.
    outside
        "ignore" or "background"; with regions nothing is known outside of them.
    """

    def __init__(self, path: str, view: ResampledSlide, names: list[str], outside: str) -> None:
        self.view = view
        annotations = sorted(read_annotations(path), key=lambda annotation: -annotation.polygon.area)
        slide = shapely.box(0, 0, view.slide.width, view.slide.height)
        for annotation in annotations:
            if not annotation.polygon.intersects(slide):
                raise ImageError(
                    f"{path}: an annotation ({annotation.name}) at {annotation.polygon.bounds} lies outside of "
                    f"{view.slide.path} ({view.slide.width} x {view.slide.height} pixels); is it of another slide?"
                )
        self._outside = IGNORE if outside == "ignore" or has_regions(annotations) else 0
        annotations = within_regions(annotations, names[0])
        self._polygons = [annotation.polygon for annotation in annotations]
        self._values = [_class_of(path, annotation, names) for annotation in annotations]
        self._scale = view.width / view.slide.width, view.height / view.slide.height
        self._drawing = PolygonDrawing(self._polygons, self._values, self._scale)

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width], `IGNORE` beyond the image."""
        result = np.full((height, width), self._outside, np.uint8)
        self._drawing.draw(result, x, y)
        result[: max(-y, 0)] = result[max(self.view.height - y, 0) :] = IGNORE
        result[:, : max(-x, 0)] = result[:, max(self.view.width - x, 0) :] = IGNORE
        return result

    def objects(self) -> "AnnotatedObjects":
        """Return the numbers of the objects: annotations of one class that touch are one."""
        return AnnotatedObjects(self._polygons, self._values, self._scale)


class AnnotatedObjects:
    """Numbers of annotated objects, the same wherever they are read; 0 in the background and what is ignored.

    Parameters
    ----------
    polygons
        In pixels of the finest level, the large ones first.
    values
        Class index of each; those of one class that touch are one object, though others may cut it.
    scale
        Pixels of the view per pixel of the finest level, in x and y.
    """

    def __init__(self, polygons: list[shapely.Polygon], values: list[int], scale: tuple[float, float]) -> None:
        classes = np.array(values, int)
        one, other = shapely.STRtree(polygons).query(np.array(polygons, object), predicate="intersects")
        same = classes[one] == classes[other]
        touching = sparse.coo_array((np.ones(same.sum(), bool), (one[same], other[same])), (len(classes), len(classes)))
        numbers = sparse.csgraph.connected_components(touching, directed=False)[1] + 1
        self._drawing = PolygonDrawing(polygons, np.where(np.isin(classes, (0, IGNORE)), 0, numbers).tolist(), scale)

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return int32 [height, width]."""
        result = np.zeros((height, width), np.int32)
        self._drawing.draw(result, x, y)
        return result


def known_class(name: str | None, names: list[str]) -> str | None:
    """Return the class that an annotation's is: a derived one, "tumour: positive", may be what it is derived from."""
    while name and name not in names:
        name = name.rpartition(": ")[0]
    return name or None


def _class_of(path: str, annotation: Annotation, names: list[str]) -> int:
    if annotation.name == IGNORE_CLASS:
        return IGNORE
    name = known_class(annotation.name, names)
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
