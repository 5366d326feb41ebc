"""Outlines of classes as polygons along pixel edges, found band by band, so that a slide need not be in memory.

The outline runs between pixels, not through them, so that areas are exact and a polygon burnt into pixels gives the
class map back. GDAL follows the outlines (`rasterio.features.shapes`); what is here joins them over bands.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Self

import cv2
import numpy as np
import shapely
from rasterio import features
from shapely.geometry import Polygon


@dataclass(frozen=True)
class Regions:
    """Connected regions of classes, the same number in each array.

    Attributes
    ----------
    class_indices : numpy.ndarray
        int64 [n], class of each.
    polygons : numpy.ndarray
        object [n], `shapely.Polygon` in pixels of the class map.
    pixels : numpy.ndarray
        int64 [n], areas.
    probability_sums : numpy.ndarray
        float64 [n], sums over a region's pixels of the probability (0..1) of its class.
    """

    class_indices: np.ndarray
    polygons: np.ndarray
    pixels: np.ndarray
    probability_sums: np.ndarray

    def __len__(self) -> int:
        return len(self.polygons)

    def at_least(self, pixels: float) -> Self:
        """Return those that have so many pixels or more."""
        large = self.pixels >= pixels
        return type(self)(*(values[large] for values in vars(self).values()))


@dataclass
class _Part:
    """What is known of a region that may go on in the next band.

    Attributes
    ----------
    polygons : list of shapely.Polygon
        One for each band that it has been seen in, or more.
    part_of : _Part, optional
        What it has been merged into.
    """

    polygons: list[Polygon] = field(default_factory=list)
    pixels: int = 0
    probability_sum: float = 0.0
    part_of: "_Part | None" = None

    def root(self) -> "_Part":
        """Return the region that this one has become a part of, or itself."""
        return self if self.part_of is None else self.part_of.root()

    def merge(self, other: "_Part") -> None:
        """Take in another part of the same region."""
        into, part = self.root(), other.root()
        if into is part:
            return
        if len(part.polygons) > len(into.polygons):
            into, part = part, into
        into.polygons += part.polygons
        into.pixels += part.pixels
        into.probability_sum += part.probability_sum
        part.part_of, part.polygons = into, []

    def joined(self) -> Polygon:
        """Return the whole region as one polygon, without the corners that were only those of bands."""
        if len(self.polygons) == 1:
            return self.polygons[0]
        return shapely.union_all(self.polygons).simplify(0)


class RegionFinder:
    """Find the connected regions (by edges, not corners) of a class map that comes in bands.

    Parameters
    ----------
    n_classes
        Number of classes; class 0 is the background and has no regions.
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        # By class: the regions that reach the last row of the band before, by label, and the labels of that row.
        self._open: dict[int, dict[int, _Part]] = {c: {} for c in range(1, n_classes)}
        self._last_labels: dict[int, np.ndarray] = {}

    def add(self, y: int, classes: np.ndarray, confidence: np.ndarray) -> Iterator[Regions]:
        """Take the next band and yield, class by class, the regions that end in it.

        Parameters
        ----------
        y
            Its first row.
        classes
            uint8 [h, W], class indices.
        confidence
            uint8 [h, W], probability of that class times 255.
        """
        for class_index in range(1, self.n_classes):
            mask = classes == class_index
            columns = np.flatnonzero(mask.any(axis=0))
            first, last = np.zeros((2, classes.shape[1]), np.int32)
            if len(columns):
                # Only where the class is: a slide is wide, and its tissue often is not.
                used = slice(int(columns[0]), int(columns[-1]) + 1)
                found = _LabelledBand(mask[:, used], confidence[:, used])
                first[used], last[used] = found.labels[0], found.labels[-1]
                found.trace(used.start, y)
                whole = ~found.touching()
                yield found.regions(class_index, whole)
                parts = found.parts(~whole)
            else:
                parts = {}
            yield _joined(class_index, self._continue(class_index, first, last, parts))

    def finish(self) -> Iterator[Regions]:
        """Yield, class by class, the regions that reach the last row."""
        for class_index, open_ones in self._open.items():
            yield _joined(class_index, list({id(part): part for part in open_ones.values()}.values()))
            open_ones.clear()

    def _continue(self, class_index: int, first: np.ndarray, last: np.ndarray, found: dict[int, _Part]) -> list[_Part]:
        """Merge a band's parts with those that reached the end of the band before, and return those that end here.

        `first` and `last` are the labels of the band's first and last row.
        """
        before = self._open[class_index]
        above = self._last_labels.get(class_index, np.zeros_like(first))
        touching = (above > 0) & (first > 0)
        for old, new in np.unique(np.column_stack([above[touching], first[touching]]), axis=0).tolist():
            before[old].merge(found[new])
        roots = {id(root): root for root in (part.root() for part in [*before.values(), *found.values()])}
        self._open[class_index] = {label: found[label].root() for label in np.unique(last[last > 0]).tolist()}
        self._last_labels[class_index] = last
        still_open = {id(part) for part in self._open[class_index].values()}
        return [root for key, root in roots.items() if key not in still_open]


class _LabelledBand:
    """The connected regions of one class in one band, by label from 1.

    Parameters
    ----------
    mask
        bool [h, w], where the class is.
    confidence
        uint8 [h, w], its probability times 255.
    """

    def __init__(self, mask: np.ndarray, confidence: np.ndarray) -> None:
        self.mask = mask
        self.count, self.labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        inside = self.labels[mask]
        self._pixels = np.bincount(inside, minlength=self.count)
        self._sums = np.bincount(inside, weights=confidence[mask], minlength=self.count) / 255
        self._polygons = np.empty(self.count, object)

    def trace(self, x: int, y: int) -> None:
        """Follow the outlines of all regions; (x, y) is the band's first pixel."""
        numbers, corners_of_ring, rings_of_shape, of_label = array("d"), array("q"), array("q"), array("q")
        # Numbers at once: what is kept as tuples costs more time to keep than to find.
        for shape, label in features.shapes(self.labels, mask=self.mask, connectivity=4):
            for ring in shape["coordinates"]:
                numbers.extend(chain.from_iterable(ring))
                corners_of_ring.append(len(ring))
            rings_of_shape.append(len(shape["coordinates"]))
            of_label.append(int(label))
        corners = np.frombuffer(numbers).reshape(-1, 2) + (x, y)
        rings = shapely.linearrings(corners, indices=np.repeat(np.arange(len(corners_of_ring)), corners_of_ring))
        shapes = shapely.polygons(rings, indices=np.repeat(np.arange(len(rings_of_shape)), rings_of_shape))
        self._polygons[np.frombuffer(of_label, np.int64)] = shapes

    def touching(self) -> np.ndarray:
        """Say which labels reach the first or the last row: bool [count]; the background counts as one."""
        touches = np.zeros(self.count, bool)
        touches[self.labels[0]] = touches[self.labels[-1]] = touches[0] = True
        return touches

    def regions(self, class_index: int, chosen: np.ndarray) -> Regions:
        """Return the chosen labels (bool [count]) as regions."""
        classes = np.full(int(chosen.sum()), class_index)
        return Regions(classes, self._polygons[chosen], self._pixels[chosen], self._sums[chosen])

    def parts(self, chosen: np.ndarray) -> dict[int, _Part]:
        """Return the chosen labels (bool [count]) but the background as parts of regions."""
        return {
            label: _Part([self._polygons[label]], int(self._pixels[label]), float(self._sums[label]))
            for label in np.flatnonzero(chosen).tolist()
            if label
        }


def _joined(class_index: int, parts: list[_Part]) -> Regions:
    polygons = np.empty(len(parts), object)
    polygons[:] = [part.joined() for part in parts]
    return Regions(
        np.full(len(parts), class_index),
        polygons,
        np.array([part.pixels for part in parts], np.int64),
        np.array([part.probability_sum for part in parts], np.float64),
    )


def split_along_grid(regions: Regions, step: float) -> Regions:
    """Cut regions that are longer than `step` pixels along a grid of that step; the pieces have their region's mean.

    The grid starts at the first pixel and runs between pixels, so that nothing is lost and areas add up.
    """
    step = max(1, round(step))
    left, bottom, right, top = shapely.bounds(regions.polygons).T if len(regions) else np.zeros((4, 0))
    long = np.maximum(right - left, top - bottom) > step
    if not long.any():
        return regions
    pieces = [_pieces(polygon, step) if cut else [polygon] for polygon, cut in zip(regions.polygons, long, strict=True)]
    of_region = np.repeat(np.arange(len(regions)), [len(each) for each in pieces])
    polygons = np.empty(len(of_region), object)
    polygons[:] = list(chain.from_iterable(pieces))
    pixels = np.rint(shapely.area(polygons)).astype(np.int64)
    sums = (regions.probability_sums / regions.pixels)[of_region] * pixels
    return Regions(regions.class_indices[of_region], polygons, pixels, sums)


def _pieces(polygon: Polygon, step: int) -> list[Polygon]:
    """Return a polygon cut at the lines of a grid: each time in two, so that no part is looked at by all cells."""
    left, bottom, right, top = polygon.bounds
    across = right - left >= top - bottom
    low, high = (left, right) if across else (bottom, top)
    first, last = int(low // step) + 1, int(-(-high // step)) - 1
    if first > last or high - low <= step:
        return [polygon]
    line = (first + last) // 2 * step
    halves = (
        (shapely.box(left, bottom, line, top), shapely.box(line, bottom, right, top))
        if across
        else (shapely.box(left, bottom, right, line), shapely.box(left, line, right, top))
    )
    parts = chain.from_iterable(shapely.get_parts(shapely.intersection(polygon, half)) for half in halves)
    return [piece for part in parts if isinstance(part, Polygon) for piece in _pieces(part, step)]


def to_full_resolution(geometries: np.ndarray, factor_x: float, factor_y: float) -> np.ndarray:
    """Scale coordinates by (factor_x, factor_y) to a slide's finest pixels, rounded to hundredths."""
    return shapely.transform(geometries, lambda points: np.round(points * (factor_x, factor_y), 2))
