"""Objects of a class as outlines, and what is measured of them, band by band, so that a slide need not be in memory.

What the measures are: area, of the pixels; perimeter, of the outline through the middles of pixel edges, which cuts
the corners of stairs; axes and eccentricity, of the ellipse that has the pixels' second moments, and solidity, the
share of the convex hull of that outline which the object fills, as scikit-image has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely

from pathseg.labels.outlines import LabelledBand, OpenParts, Part, Regions, joined
from pathseg.labels.separation import NumberedRows, Separator

# What a corner takes off a perimeter that runs through the middles of the pixel edges beside it.
CORNER = 1 - 0.5**0.5
# What is summed over an object's pixels: the pixels, their probability, five moments, and those surely inside.
SUMS = 8


@dataclass(frozen=True)
class Objects(Regions):
    """Objects told apart: regions, and what their shapes are measured by.

    Attributes
    ----------
    moments : numpy.ndarray
        float64 [n, 5], sums over the middles of an object's pixels of x, y, x², xy and y².
    """

    moments: np.ndarray


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

    def add(self, classes: np.ndarray, insides: np.ndarray, confidence: np.ndarray) -> Objects:
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

    def finish(self) -> Iterator[Objects]:
        """Yield the objects that are left."""
        yield self._ending(self._separator.finish())
        yield self._objects(*joined(self._open.finish(), SUMS))

    def _ending(self, rows: NumberedRows) -> Objects:
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

    def _objects(self, polygons: np.ndarray, sums: np.ndarray) -> Objects:
        """Make objects of those that are surely some."""
        kept = sums[:, 7] > 0
        polygons, sums = polygons[kept], sums[kept]
        classes = np.full(len(polygons), self._class_index)
        return Objects(classes, polygons, sums[:, 0].astype(np.int64), sums[:, 1], sums[:, 2:7])


class _ObjectBand(LabelledBand):
    """A band of numbered objects; (x, y) is its first pixel."""

    def __init__(self, numbers: np.ndarray, confidence: np.ndarray, sure: np.ndarray, x: int, y: int) -> None:
        # Without those that have no pixel in these rows.
        there = np.bincount(numbers.ravel()) > 0
        there[0] = True
        self._numbers = np.flatnonzero(there)
        labels = (np.cumsum(there) - 1).astype(np.int32)[numbers]
        super().__init__(labels, len(self._numbers), confidence)
        rows, columns = np.nonzero(self.mask)
        down, across = rows + (y + 0.5), columns + (x + 0.5)
        moments = [
            np.bincount(self.inside, weights=values, minlength=self.count)
            for values in (across, down, across * across, across * down, down * down)
        ]
        surely = np.bincount(self.inside, weights=sure[self.mask], minlength=self.count)
        self._sums = np.column_stack([self._sums, *moments, surely])
        self.trace(x, y)

    def parts(self, chosen: np.ndarray) -> dict[int, Part]:
        """Return the chosen labels (bool [count]), but for the background, as parts by the number that was given."""
        return {int(self._numbers[label]): part for label, part in super().parts(chosen).items()}


def measure(objects: Objects) -> pd.DataFrame:
    """Measure objects.

    Returns
    -------
    pandas.DataFrame
        A row for each: `x` and `y` of its middle, `area`, `perimeter`, `eccentricity`, `solidity`, `major_axis`,
        `minor_axis` and `mean_probability`; lengths in pixels of the class map, from its upper left corner.
    """
    count = objects.pixels.astype(float)
    x, y, xx, xy, yy = objects.moments.T / count
    xx, xy, yy = xx - x**2, xy - x * y, yy - y**2
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
