"""Outlines of classes as polygons along pixel edges, found band by band, so that a slide need not be in memory.

The outline runs between pixels, not through them, so that areas are exact and a polygon burnt into pixels gives the
class map back. `pathseg.labels.tracing` follows the outlines; what is here joins them over bands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Self

import cv2
import numpy as np
import shapely
from shapely.geometry import Polygon

from pathseg.labels.tracing import CACHED_PIXELS, trace


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
class Part:
    """What is known of a region that may go on in the next band.

    Attributes
    ----------
    polygons : list of shapely.Polygon
        One for each band that it has been seen in, or more.
    sums : numpy.ndarray
        What adds up over its pixels, see `LabelledBand.sums`.
    part_of : Part, optional
        What it has been merged into.
    """

    polygons: list[Polygon]
    sums: np.ndarray
    part_of: "Part | None" = None

    def root(self) -> "Part":
        """Return the region that this one has become a part of, or itself."""
        return self if self.part_of is None else self.part_of.root()

    def merge(self, other: "Part") -> None:
        """Take in another part of the same region."""
        into, part = self.root(), other.root()
        if into is part:
            return
        if len(part.polygons) > len(into.polygons):
            into, part = part, into
        into.polygons += part.polygons
        into.sums = into.sums + part.sums
        part.part_of, part.polygons = into, []


class OpenParts:
    """The regions that reach the last row of the band before, by their labels in that band."""

    def __init__(self) -> None:
        self._open: dict[int, Part] = {}
        self._last = np.empty(0, np.int32)

    def go_on(self, before: np.ndarray, last: np.ndarray, found: dict[int, Part]) -> list[Part]:
        """Merge a band's parts with those that reached the end of the band before, and return those that end here.

        Parameters
        ----------
        before
            Labels of this band where its regions go on from the band before: in that band's last row, or in this one's
            first, int [W].
        last
            Labels of this band's last row, int [W].
        found
            This band's parts that touch its first or its last row, by label.
        """
        if len(self._last):
            both = (self._last > 0) & (before > 0)
            for old, new in np.unique(np.column_stack([self._last[both], before[both]]), axis=0).tolist():
                if new in found:
                    self._open[old].merge(found[new])
        roots = {id(root): root for root in (part.root() for part in [*self._open.values(), *found.values()])}
        self._open = {label: found[label].root() for label in np.unique(last[last > 0]).tolist()}
        self._last = last
        still_open = {id(part) for part in self._open.values()}
        return [root for key, root in roots.items() if key not in still_open]

    def finish(self) -> list[Part]:
        """Return what is left."""
        left = {id(part): part for part in self._open.values()}
        self._open = {}
        return list(left.values())


class RegionFinder:
    """Find the connected regions (by edges, not corners) of a class map that comes in bands.

    Parameters
    ----------
    class_indices
        Classes whose regions are found.
    """

    def __init__(self, class_indices: Iterable[int]) -> None:
        self._open = {index: OpenParts() for index in class_indices}

    def look(self, y: int, classes: np.ndarray, confidence: np.ndarray) -> "list[LabelledBand | None]":
        """Find the regions of a band by itself; several threads may do so.

        Parameters
        ----------
        y
            Its first row.
        classes
            uint8 [h, W], class indices.
        confidence
            uint8 [h, W], probability of that class times 255.

        Returns
        -------
        list
            The labelled regions of each class, or None if it is nowhere.
        """
        return [_labelled(classes == index, confidence, y) for index in self._open]

    def add(self, bands: "list[LabelledBand | None]", width: int) -> Iterator[Regions]:
        """Take the next band, as `look` has returned it, and yield, class by class, the regions that end in it."""
        for (class_index, open_parts), band in zip(self._open.items(), bands, strict=True):
            first, last = np.zeros((2, width), np.int32)
            parts: dict[int, Part] = {}
            if band:
                first[band.columns], last[band.columns] = band.first, band.last
                whole = ~band.touching()
                yield _regions(class_index, band.polygons(whole), band.sums(whole))
                parts = band.parts(~whole)
            yield _joined(class_index, open_parts.go_on(first, last, parts))

    def finish(self) -> Iterator[Regions]:
        """Yield, class by class, the regions that reach the last row."""
        for class_index, open_parts in self._open.items():
            yield _joined(class_index, open_parts.finish())


class LabelledBand:
    """The labelled regions of one band.

    Parameters
    ----------
    labels
        int32 [h, W], from 1, 0 for none; each is there, and connected.
    confidence
        uint8 [h, W], probability of a pixel's class times 255.
    x, y
        The band's first pixel.
    """

    def __init__(self, labels: np.ndarray, confidence: np.ndarray, x: int, y: int) -> None:
        # Not all labels: while others are looked for, several bands wait.
        self.columns = slice(x, x + labels.shape[1])
        self.first, self.last = labels[0].copy(), labels[-1].copy()
        self._polygons = trace(labels, x, y)
        pixels = np.append(0, shapely.area(self._polygons))
        self._sums = np.column_stack([pixels, summed(labels, confidence, len(pixels)) / 255])

    def touching(self) -> np.ndarray:
        """Say which labels reach the first or the last row: bool [n + 1]; the background counts as one."""
        touches = np.zeros(len(self._polygons) + 1, bool)
        touches[self.first] = touches[self.last] = touches[0] = True
        return touches

    def polygons(self, chosen: np.ndarray) -> np.ndarray:
        """Return the outlines of chosen labels (bool [n + 1]), without the background."""
        return self._polygons[chosen[1:]]

    def sums(self, chosen: np.ndarray) -> np.ndarray:
        """Return pixels and summed probability (0..1) of chosen labels (bool [n + 1]): float64 [n, 2]."""
        return self._sums[chosen]

    def parts(self, chosen: np.ndarray) -> dict[int, Part]:
        """Return the chosen labels (bool [n + 1]), but for the background, as parts of regions."""
        labels = np.flatnonzero(chosen[1:]) + 1
        return {label: Part([self._polygons[label - 1]], self._sums[label]) for label in labels.tolist()}


def summed(labels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the sums of values [h, W] over the pixels of each label, and 0 for the background: float64 [count]."""
    sums = np.zeros(count)
    rows = max(1, CACHED_PIXELS // labels.shape[1])
    for y in range(0, len(labels), rows):
        here, of_here = labels[y : y + rows], values[y : y + rows]
        inside = here > 0
        sums += np.bincount(here[inside], weights=of_here[inside], minlength=count)
    return sums


def _labelled(mask: np.ndarray, confidence: np.ndarray, y: int) -> LabelledBand | None:
    """Return the labelled regions of a class, only where it is: a slide is wide, and its tissue often is not."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return None
    used = slice(int(columns[0]), int(columns[-1]) + 1)
    _, labels = cv2.connectedComponents(mask[:, used].view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return LabelledBand(labels, confidence[:, used], used.start, y)


def _regions(class_index: int, polygons: np.ndarray, sums: np.ndarray) -> Regions:
    return Regions(np.full(len(polygons), class_index), polygons, sums[:, 0].astype(np.int64), sums[:, 1])


def _joined(class_index: int, parts: list[Part]) -> Regions:
    return _regions(class_index, *joined(parts, 2))


def joined(parts: list[Part], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the outlines of complete regions, object [n], and their sums, float64 [n, count]."""
    polygons = np.empty(len(parts), object)
    pieces = np.array([len(part.polygons) for part in parts], int)
    # Many at once: while each is joined by itself, another thread takes the interpreter each time.
    for n_pieces in np.unique(pieces).tolist():
        chosen = np.flatnonzero(pieces == n_pieces)
        same = np.array([parts[index].polygons for index in chosen], object)
        # Joined, without the corners that were only those of bands.
        polygons[chosen] = same[:, 0] if n_pieces == 1 else shapely.simplify(shapely.union_all(same, axis=1), 0)
    return polygons, np.array([part.sums for part in parts]).reshape(len(parts), count)


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
