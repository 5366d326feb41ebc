"""Outlines of connected regions along pixel edges, of all regions of a map at once.

A corner of an outline lies where four pixels meet. Along a line between two rows of pixels, the sides that regions have
there are so many runs: in reading order, each begins at one corner and ends at the next. So corners are linked to the
ones after them by sorting, not by walking from pixel to pixel, and NumPy does it for all of them.
"""

import cv2
import numpy as np
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

# The four pixels that meet at a point, by how they are numbered here: their row and column, and their opposites.
UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT = range(4)
OPPOSITE = ((UPPER_LEFT, LOWER_RIGHT), (UPPER_RIGHT, LOWER_LEFT))
# Pixels that are looked at at a time: they stay in a processor's cache.
CACHED_PIXELS = 2**19


def trace(labels: np.ndarray, left: int = 0, top: int = 0) -> np.ndarray:
    """Follow the outlines of all regions.

    Parameters
    ----------
    labels
        int32 [h, W], 0 for none. Each from 1 to the highest is there, and its pixels are connected by edges.
    left, top
        Where the upper left corner of the first pixel is.

    Returns
    -------
    numpy.ndarray
        object [n], the `shapely.Polygon` (x, y) of each label, valid, with holes, in whole numbers.
    """
    points, x, y, pixel, label = _corners(labels)
    if not len(x):
        return np.empty(0, object)
    after = _following(x, pixel)
    _keep_points_apart(after, points, pixel, label)
    order, firsts, sizes = _rings(after, label)
    ends = np.cumsum(sizes)
    # Each ring ends where it begins.
    closed = np.insert(order, ends, firsts)
    ring_offsets = np.concatenate([[0], ends + np.arange(1, len(ends) + 1)])
    # A label's first ring is around it, all others are its holes.
    shells = np.flatnonzero(np.diff(label[firsts], prepend=0))
    offsets = ring_offsets, np.append(shells, len(firsts))
    corners = np.column_stack([x[closed] + float(left), y[closed] + float(top)])
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)


def _corners(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the corners of all outlines, from top to bottom and from left to right.

    Returns
    -------
    points, x, y, pixel, label : numpy.ndarray
        int [n]: the point where each corner is, as a number and as coordinates, which of the four pixels that meet
        there it is a corner of, and that pixel's label. An outline turns around one pixel, or around all but one: then
        it is a corner of the pixel that lies opposite.
    """
    lines = len(labels) + 1
    at_a_time = max(1, CACHED_PIXELS // labels.shape[1])
    strips = [_corners_along(labels, top, min(at_a_time, lines - top)) for top in range(0, lines, at_a_time)]
    points, x, y, pixel, label = (np.concatenate(each) for each in zip(*strips, strict=True))
    return points, x, y, pixel, label


def _corners_along(labels: np.ndarray, top: int, count: int) -> tuple[np.ndarray, ...]:
    """Return the corners on some lines between rows, of which the first is above row `top`."""
    around = labels[max(top - 1, 0) : top + count]
    # Around the map there is nothing.
    above, below = int(top == 0), int(top + count > len(labels))
    framed = cv2.copyMakeBorder(around, above, below, 1, 1, cv2.BORDER_CONSTANT, value=0)
    across, along = framed[:, :-1] != framed[:, 1:], framed[:-1] != framed[1:]
    # Only where edges meet at an angle: of all points these are few.
    points = np.flatnonzero((across[:-1] | across[1:]) & (along[:, :-1] | along[:, 1:]))
    columns = across.shape[1]
    y, x = np.divmod(points, columns)
    # A row of points is one shorter than a row of framed pixels.
    upper_left, flat = points + y, framed.ravel()
    four = np.stack([flat[upper_left + row * framed.shape[1] + column] for row in (0, 1) for column in (0, 1)])
    turns = np.empty((len(points), len(four)), bool)
    for pixel, own in enumerate(four):
        beside, over, opposite = (four[pixel ^ other] == own for other in (1, 2, 3))
        turns[:, pixel] = (own > 0) & (beside == over) & ~(beside & opposite)
    which, pixels = np.nonzero(turns)
    return points[which] + top * columns, x[which], y[which] + top, pixels, four[pixels, which]


def _following(x: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Return for each corner the one that follows: around a region clockwise, as on a screen."""
    after = np.empty(len(x), np.int32)
    under, over = np.flatnonzero(pixel >= LOWER_LEFT), np.flatnonzero(pixel < LOWER_LEFT)
    after[under[::2]] = under[1::2]
    after[over[1::2]] = over[::2]
    # From left to right and from top to bottom; sixteen bits are sorted by radix.
    order = np.argsort(x.astype(np.min_scalar_type(int(x.max()))), kind="stable")
    is_right = (pixel[order] & 1).astype(bool)
    right, left = order[is_right], order[~is_right]
    after[right[1::2]] = right[::2]
    after[left[::2]] = left[1::2]
    return after


def _keep_points_apart(after: np.ndarray, points: np.ndarray, pixel: np.ndarray, label: np.ndarray) -> None:
    """Where a region meets itself at a point, let its outline not run through that point twice, in place.

    It meets itself around what is not of it. With both corners' ways exchanged, that becomes a hole, as it must.
    """
    for one, other in OPPOSITE:
        first, second = np.flatnonzero(pixel == one), np.flatnonzero(pixel == other)
        _, of_first, of_second = np.intersect1d(points[first], points[second], True, True)
        first, second = first[of_first], second[of_second]
        same = label[first] == label[second]
        first, second = first[same], second[same]
        after[first], after[second] = after[second], after[first]


def _rings(after: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corners in order, ring by ring, the first corner of each ring, and how many each has.

    Rings are ordered by label, those of a label by their first corner, so that the one around the region is the first.
    """
    numbers = np.arange(len(after), dtype=np.int32)
    starts = np.arange(len(after) + 1, dtype=np.int32)
    links = csr_array((np.ones(len(after)), after.copy(), starts), shape=(len(after),) * 2)
    count, ring = connected_components(links, connection="strong")
    first_of_ring = np.empty(count, np.int32)
    first_of_ring[ring[::-1]] = numbers[::-1]
    firsts = np.sort(first_of_ring)
    firsts = firsts[np.argsort(label[firsts], kind="stable")]
    # Each ring is cut before its first corner and goes on with the next ring: one way that leads through all.
    before = np.empty_like(after)
    before[after] = numbers
    links.indices[before[firsts]] = np.roll(firsts, -1)
    order = breadth_first_order(links, int(firsts[0]), return_predecessors=False)
    return order, firsts, np.bincount(ring)[ring[firsts]]
