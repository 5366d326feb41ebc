"""Objects of a class as outlines, and what is measured of them, band by band, so that a slide need not be in memory.

What the measures are: area, of the pixels; perimeter, of the outline through the middles of pixel edges, which cuts
the corners of stairs; axes and eccentricity, of the ellipse that has the pixels' second moments, and solidity, the
share of the convex hull of that outline which the object fills, as scikit-image has them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import shapely
from skimage.measure import label

from pathseg.labels.outlines import LabelledBand, OpenParts, Part, Regions, joined, summed
from pathseg.labels.separation import NumberedRows, Separator

# What a corner takes off a perimeter that runs through the middles of the pixel edges beside it.
CORNER = 1 - 0.5**0.5
# What is summed over an object's pixels: the pixels, their probability, and those surely inside.
SUMS = 3


class ObjectFinder:
    """Find the objects of a class in maps that come in bands, see `pathseg.labels.separation`.

    Parameters
    ----------
    class_index
        The class.
    reach
        How far objects grow from their insides, in pixels.
    """

    def __init__(self, class_index: int, reach: int) -> None:
        self._class_index = class_index
        self._separator = Separator(reach)
        self._open = OpenParts()
        # Of the rows that are held, the probability of the class and what is surely inside.
        self._confidence: list[np.ndarray] = []
        self._sure: list[np.ndarray] = []

    def add(self, classes: np.ndarray, insides: np.ndarray, confidence: np.ndarray) -> Regions:
        """Take the next band and return the objects that are known to end by now.

        Parameters
        ----------
        classes
            uint8 [h, W], class indices.
        insides
            uint8 [h, W], 1 inside of objects, 2 surely so, 0 elsewhere.
        confidence
            uint8 [h, W], probability of the class of each pixel times 255.
        """
        self._confidence.append(confidence)
        self._sure.append(insides > 1)
        return self._ending(self._separator.add(classes == self._class_index, insides > 0))

    def finish(self) -> Iterator[Regions]:
        """Yield the objects that are left."""
        yield self._ending(self._separator.finish())
        yield self._objects(*joined(self._open.finish(), SUMS))

    def _ending(self, rows: NumberedRows) -> Regions:
        """Return the objects that end before the last of these rows."""
        height = len(rows.numbers)
        if not height:
            return self._objects(*joined([], SUMS))
        held, sure = np.concatenate(self._confidence), np.concatenate(self._sure)
        self._confidence, self._sure = [held[height:]], [sure[height:]]
        columns = np.flatnonzero(rows.numbers.any(axis=0))
        parts: dict[int, Part] = {}
        polygons, sums = joined([], SUMS)
        if len(columns):
            used = slice(int(columns[0]), int(columns[-1]) + 1)
            band = _ObjectBand(rows.numbers[:, used], held[:height, used], sure[:height, used], used.start, rows.y)
            touching = band.touching()
            polygons, sums = band.polygons(~touching), band.sums(~touching)
            parts = band.parts(touching)
        ended, their_sums = joined(self._open.go_on(rows.before, rows.numbers[-1], parts), SUMS)
        return self._objects(np.concatenate([polygons, ended]), np.concatenate([sums, their_sums]))

    def _objects(self, polygons: np.ndarray, sums: np.ndarray) -> Regions:
        """Make objects of those that are surely some."""
        kept = sums[:, 2] > 0
        polygons, sums = polygons[kept], sums[kept]
        classes = np.full(len(polygons), self._class_index)
        return Regions(classes, polygons, sums[:, 0].astype(np.int64), sums[:, 1])


class _ObjectBand(LabelledBand):
    """A band of numbered objects, see `LabelledBand`; `sure` is bool [h, W]."""

    def __init__(self, numbers: np.ndarray, confidence: np.ndarray, sure: np.ndarray, x: int, y: int) -> None:
        # Of an object that goes on above or below, these rows may hold several pieces.
        labels = label(numbers, background=0, connectivity=1).astype(np.int32)
        super().__init__(labels, confidence, x, y)
        self._sums = np.column_stack([self._sums, summed(labels, sure, len(self._sums))])
        inside = labels > 0
        self._numbers = np.zeros(len(self._sums), np.int64)
        self._numbers[labels[inside]] = numbers[inside]

    def parts(self, chosen: np.ndarray) -> dict[int, Part]:
        """Return the chosen labels (bool [n + 1]), but for the background, as parts by the number that was given."""
        found: dict[int, Part] = {}
        for piece, part in super().parts(chosen).items():
            found.setdefault(int(self._numbers[piece]), part).merge(part)
        return found


def measure(objects: Regions) -> pd.DataFrame:
    """Measure objects.

    Returns
    -------
    pandas.DataFrame
        A row for each: `x` and `y` of its middle, `area`, `perimeter`, `eccentricity`, `solidity`, `major_axis`,
        `minor_axis` and `mean_probability`; lengths in pixels of the class map, from its upper left corner.
    """
    count = objects.pixels.astype(float)
    x, y, xx, xy, yy = _moments(objects.polygons)
    middle, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    # Rounding may leave less than nothing.
    large, small = middle + apart, np.clip(middle - apart, 0, None)
    with np.errstate(invalid="ignore"):
        eccentricity = np.where(large > 0, np.sqrt(1 - small / large), 0)
    rings = shapely.get_num_interior_rings(objects.polygons) + 1
    corners = shapely.get_num_coordinates(objects.polygons) - rings
    filled = count - 0.5 + 0.5 * (rings - 1)
    return pd.DataFrame(
        {
            "x": x,
            "y": y,
            "area": count,
            "perimeter": shapely.length(objects.polygons) - CORNER * corners,
            "eccentricity": eccentricity,
            "solidity": np.minimum(filled / _hull_areas(objects.polygons), 1),
            "major_axis": 4 * np.sqrt(large),
            "minor_axis": 4 * np.sqrt(small),
            "mean_probability": objects.probability_sums / count,
        }
    )


def _moments(polygons: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the middles x and y of the pixels inside of outlines [n], and their central moments x², xy and y².

    By Green's theorem, from the corners: of them there are far fewer than pixels.
    """
    rings, of_polygon = shapely.get_rings(polygons, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    # From a corner of each polygon: far from the origin, small differences would be lost.
    origins = shapely.bounds(polygons).reshape(-1, 4)[:, :2]
    points -= origins[of_polygon[of_ring]]
    edge = of_ring[1:] == of_ring[:-1]
    (x0, y0), (x1, y1), of_edge = points[:-1][edge].T, points[1:][edge].T, of_ring[1:][edge]
    cross = x0 * y1 - x1 * y0
    # Of area, x, y, x², xy and y², so many times that all are whole numbers.
    terms = np.stack(
        [
            cross,
            cross * (x0 + x1),
            cross * (y0 + y1),
            cross * (x0 * x0 + x0 * x1 + x1 * x1),
            cross * (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0),
            cross * (y0 * y0 + y0 * y1 + y1 * y1),
        ]
    )
    of_rings = np.array([np.bincount(of_edge, term, len(rings)) for term in terms])
    # The first ring of a polygon is around it, the others are holes, whichever way they run.
    first = np.diff(of_polygon, prepend=-1) > 0
    of_rings *= np.sign(of_rings[0]) * np.where(first, 1, -1)
    twice, x, y, xx, xy, yy = (np.bincount(of_polygon, term, len(polygons)).astype(float) for term in of_rings)
    area = twice / 2
    # Of the middles of pixels: without the moment of each pixel itself, 1/12. One division, so that 0 is 0.
    xx, xy, yy = (
        numerator / (36 * area**2)
        for numerator in (3 * area * (xx - area) - x**2, 1.5 * area * xy - x * y, 3 * area * (yy - area) - y**2)
    )
    return x / (6 * area) + origins[:, 0], y / (6 * area) + origins[:, 1], xx, xy, yy


def _hull_areas(polygons: np.ndarray) -> np.ndarray:
    """Return the areas of the convex hulls of the middles of pixel edges along outlines [n]."""
    points, of_polygon = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    edge = of_polygon[1:] == of_polygon[:-1]
    starts, ends, of_edge = points[:-1][edge], points[1:][edge], of_polygon[1:][edge]
    half = np.sign(ends - starts) / 2
    # Of each edge the first and the last middle: what lies between them is on a line with them.
    middles = np.stack([starts + half, ends - half], axis=1).reshape(-1, 2)
    lines = shapely.linestrings(middles, indices=np.repeat(of_edge, 2))
    return shapely.area(shapely.convex_hull(lines))
