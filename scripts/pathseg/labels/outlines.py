"""Outlines of classes as polygons along pixel edges, found band by band, so that a slide need not be in memory.

The outline runs between pixels, not through them, so that areas are exact and a polygon burnt into pixels gives the
class map back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

# Directions of edges: right, down, left, up. The object is on the right of an edge.
_STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


@dataclass
class Component:
    """A connected region of one class.

    Attributes
    ----------
    class_index : int
        Its class.
    polygons : list of shapely.Polygon
        Its parts, in pixels of the class map; one after `joined`.
    pixels : int
        Its area.
    probability_sum : float
        Sum over its pixels of the probability (0..1) of its class.
    part_of : Component, optional
        What it has been merged into.
    """

    class_index: int
    polygons: list[Polygon] = field(default_factory=list)
    pixels: int = 0
    probability_sum: float = 0.0
    part_of: "Component | None" = None

    def joined(self) -> Polygon:
        """Return the whole region as one polygon, whose parts in neighbouring bands are merged."""
        joined = self.polygons[0] if len(self.polygons) == 1 else shapely.coverage_union_all(self.polygons)
        if not joined.is_valid:
            # The outlines of two bands may make one that touches itself in a corner; slower, this makes a hole of it.
            joined = shapely.union_all(self.polygons)
        return joined.simplify(0)

    def root(self) -> "Component":
        """Return the region that this one has become a part of, or itself."""
        return self if self.part_of is None else self.part_of.root()

    def merge(self, other: "Component") -> None:
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


class ComponentFinder:
    """Find the connected regions (by edges, not corners) of a class map that comes in bands.

    Parameters
    ----------
    n_classes
        Number of classes; class 0 is the background and has no regions.
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self._open: dict[int, dict[int, Component]] = {c: {} for c in range(1, n_classes)}
        self._last_labels: dict[int, np.ndarray] = {}

    def add(self, y: int, classes: np.ndarray, probabilities: np.ndarray) -> Iterator[Component]:
        """Take the next band and yield the regions that end in it.

        Parameters
        ----------
        y
            Its first row.
        classes
            uint8 [h, W], class indices.
        probabilities
            uint8 [C, h, W], probability times 255.
        """
        for class_index in range(1, self.n_classes):
            columns = np.flatnonzero((classes == class_index).any(axis=0))
            first, last = np.zeros((2, classes.shape[1]), np.int32)
            found: dict[int, Component] = {}
            if len(columns):
                # Only where the class is: a slide is wide, and its tissue often is not.
                used = slice(int(columns[0]), int(columns[-1]) + 1)
                mask = (classes[:, used] == class_index).astype(np.uint8)
                count, labels = cv2.connectedComponents(mask, connectivity=4)
                first[used], last[used] = labels[0], labels[-1]
                found = _components_of(class_index, count, labels, (used.start, y), probabilities[class_index][:, used])
            yield from self._continue(class_index, first, last, found)

    def finish(self) -> Iterator[Component]:
        """Yield the regions that reach the last row."""
        for open_ones in self._open.values():
            yield from {id(component): component for component in open_ones.values()}.values()
            open_ones.clear()

    def _continue(
        self, class_index: int, first: np.ndarray, last: np.ndarray, found: dict[int, Component]
    ) -> Iterator[Component]:
        """Merge a band's regions with those that reached the end of the band before, and yield those that end here.

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
        still_open = {id(component) for component in self._open[class_index].values()}
        yield from (root for key, root in roots.items() if key not in still_open)


def _components_of(
    class_index: int, count: int, labels: np.ndarray, corner: tuple[int, int], probability: np.ndarray
) -> dict[int, Component]:
    pixels = np.bincount(labels.ravel(), minlength=count)
    sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=count) / 255
    components = {
        label: Component(class_index, [], int(pixels[label]), float(sums[label])) for label in range(1, count)
    }
    shells: dict[int, list[np.ndarray]] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for label, ring in trace_rings(labels):
        (shells if _signed_area(ring) > 0 else holes).setdefault(label, []).append(ring + corner)
    for label, component in components.items():
        component.polygons.append(Polygon(shells[label][0], holes.get(label, [])))
    return components


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    inner = x[:-1] @ y[1:] - x[1:] @ y[:-1]
    return float(inner + x[-1] * y[0] - x[0] * y[-1]) / 2


def trace_rings(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Follow the edges between pixels of different labels.

    Parameters
    ----------
    labels
        int32 [H, W]; 0 is outside. Regions are connected by edges.

    Yields
    ------
    label : int
        Label of a region.
    ring : numpy.ndarray
        int [n, 2], corners (x, y) of one of its rings; clockwise on the screen if it is an outer one.
    """
    padded = np.pad(labels, 1)
    inside = padded[1:-1, 1:-1]
    across = labels.shape[1] + 1
    starts, directions, owners = [], [], []
    # The neighbour beyond the edge, the edge's start relative to the pixel's corner, for each direction.
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    for direction, (neighbour, (dx, dy)) in enumerate(zip(neighbours, corners, strict=True)):
        rows, columns = np.nonzero((inside > 0) & (inside != neighbour))
        starts.append((rows + dy) * across + columns + dx)
        directions.append(np.full(len(rows), direction))
        owners.append(inside[rows, columns])
    edges = np.concatenate(starts), np.concatenate(directions), np.concatenate(owners)
    yield from _walk(*edges, _following_edges(*edges, across), labels.shape)


def _following_edges(start: np.ndarray, direction: np.ndarray, owner: np.ndarray, across: int) -> np.ndarray:
    """Return for each edge the one that goes on from its end around the same region: int [n].

    At a corner where a region touches itself, the turn to the left keeps to the pixel outside the region: what it
    encloses there becomes a hole that touches the outline in a point, which is valid; an outline through the same
    corner twice would not be.
    """
    count = len(start)
    n_corners = int(start.max()) + 2 * across + 2 if count else 0
    step = _STEPS[:, 0] + _STEPS[:, 1] * across
    end = start + step[direction]
    by_start = np.full((4, n_corners), -1, np.int64)
    by_start[direction, start] = np.arange(count)
    following = np.full(count, -1, np.int64)
    for turn in (3, 0, 1):  # left, straight on, right
        candidate = by_start[(direction + turn) % 4, end]
        fits = (following < 0) & (candidate >= 0) & (owner[candidate] == owner)
        following[fits] = candidate[fits]
    return following


def _walk(
    start: np.ndarray, direction: np.ndarray, owner: np.ndarray, following: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the closed walks over edges: the corners where the direction changes, and all on the first and last line.

    There the next band's outlines go on, whose corners must be the same points for the two to be joined.
    """
    across = shape[1] + 1
    line = start // across
    is_corner = (line == 0) | (line == shape[0])
    turns = direction[following] != direction
    is_corner[following[turns]] = True
    next_of, corner_of = following.tolist(), is_corner.tolist()
    seen = bytearray(len(next_of))
    for first in np.flatnonzero(is_corner).tolist():
        if seen[first]:
            continue
        ring = []
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            if corner_of[edge]:
                ring.append(edge)
            edge = next_of[edge]
        corners = start[ring]
        yield int(owner[first]), np.column_stack([corners % across, corners // across])


def to_full_resolution(geometry: BaseGeometry, factor_x: float, factor_y: float) -> BaseGeometry:
    """Scale coordinates by (factor_x, factor_y) to a slide's finest pixels, rounded to hundredths."""
    return shapely.transform(geometry, lambda points: np.round(points * (factor_x, factor_y), 2))
