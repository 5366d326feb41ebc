"""Draw polygons into pixels: those whose centre is inside, so that areas and places are kept.

Drawing functions, such as OpenCV's, colour the pixels under the outline too, and would make each region larger by half
a pixel all around.
"""

import numpy as np
import shapely
from shapely.geometry import Polygon

# Polygons of more pixels are drawn row by row; smaller ones many at a time, about so many pixels together.
LARGE_PIXELS = 2**14
PIXELS_AT_A_TIME = 2**22


class PolygonDrawing:
    """Polygons that are ready to be drawn; a later one covers an earlier one.

    A centre may lie on an outline, as every second does if whole coordinates are halved. Such pixels are by turns, like
    the fields of a chessboard, taken to lie a little to the lower right and to the upper left: always the same would
    move regions by a quarter of a pixel.

    Parameters
    ----------
    polygons
        In pixels of the finest level; fast if the large ones come first.
    values
        Value of each, a whole number.
    scale
        Pixels to draw per pixel of the finest level, in x and y.
    """

    def __init__(self, polygons: list[Polygon], values: list[int], scale: tuple[float, float]) -> None:
        self._values = np.array(values)
        # From here on, pixel centres are whole numbers.
        scaled = shapely.transform(np.array(polygons, object), lambda points: points * scale - 0.5)
        self._tree = shapely.STRtree(scaled)
        self._large = shapely.area(scaled) > LARGE_PIXELS
        rings, of_polygon = shapely.get_rings(scaled, return_index=True)
        points, of_ring = shapely.get_coordinates(rings, return_index=True)
        joined = of_ring[1:] == of_ring[:-1]
        self._edges = np.hstack([points[:-1], points[1:]])[joined]
        self._first_edges = np.searchsorted(of_polygon[of_ring[:-1][joined]], np.arange(len(scaled) + 1))

    def draw(self, result: np.ndarray, x: int, y: int) -> None:
        """Draw into the pixels [height, width] whose first is (x, y), of a type that holds the values."""
        height, width = result.shape
        chosen = np.sort(self._tree.query(shapely.box(x, y, x + width - 1, y + height - 1)))
        counts = np.diff(self._first_edges)[chosen]
        polygons, edges = np.repeat(chosen, counts), self._edges[_ranges(self._first_edges[chosen], counts)]
        crossings, ties = _crossings(edges, polygons, y, height, upper_left=False)
        if ties:
            other = result.copy()
            self._fill(other, _crossings(edges, polygons, y, height, upper_left=True)[0], x, y)
        self._fill(result, crossings, x, y)
        if ties:
            odd = np.add.outer(np.arange(y, y + height), np.arange(x, x + width)) % 2 == 1
            result[odd] = other[odd]

    def _fill(self, result: np.ndarray, crossings: np.ndarray, x: int, y: int) -> None:
        """Fill what lies between the first and the second crossing of a row, the third and the fourth ..."""
        polygons, rows, begins = crossings[:, ::2]
        stops = crossings[2, 1::2]
        rows, begins, stops = rows - y, *(np.clip(side - x, 0, result.shape[1]) for side in (begins, stops))
        spans = np.stack([rows, begins, stops, self._values[polygons]])[:, begins < stops]
        large = self._large[polygons[begins < stops]]
        for part in np.split(np.arange(len(large)), np.flatnonzero(np.diff(large)) + 1):
            if len(part):
                (_fill_one_by_one if large[part[0]] else _fill_together)(result, spans[:, part])


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return starts[0] ... starts[0]+counts[0]-1, starts[1] ... in one array."""
    return np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def _crossings(
    edges: np.ndarray, polygons: np.ndarray, y: int, height: int, upper_left: bool
) -> tuple[np.ndarray, bool]:
    """Find where edges cross rows of pixel centres.

    Parameters
    ----------
    edges
        x and y of both ends, [n, 4].
    polygons
        Number of the polygon of each edge [n].
    y, height
        Rows y ... y+height-1.
    upper_left
        Take centres that lie on an edge to be a little up and left of it, not down and right.

    Returns
    -------
    crossings : numpy.ndarray
        int [3, m]: polygon, row, and first column behind the crossing; in this order.
    ties : bool
        Whether a centre may lie on an edge.
    """
    down = (edges[:, 1] <= edges[:, 3])[:, None]
    x0, y0, x1, y1 = np.where(down, edges, edges[:, [2, 3, 0, 1]]).T
    first, stop = (
        np.clip(np.floor(side) + 1 if upper_left else np.ceil(side), y, y + height).astype(int) for side in (y0, y1)
    )
    counts = stop - first
    each = np.repeat(np.arange(len(edges)), counts)
    rows = _ranges(first, counts)
    columns = x0[each] + (rows - y0[each]) * ((x1 - x0)[each] / (y1 - y0)[each])
    behind = np.floor(columns) + 1 if upper_left else np.ceil(columns)
    ties = bool((columns == np.rint(columns)).any() or (edges[:, 1] == np.rint(edges[:, 1])).any())
    crossings = np.stack([polygons[each], rows, behind.astype(int)])
    return crossings[:, np.lexsort(crossings[::-1])], ties


def _fill_one_by_one(result: np.ndarray, spans: np.ndarray) -> None:
    """Fill spans, int [4, n]: row, begin, stop, value."""
    for row, begin, stop, value in spans.T.tolist():
        result[row, begin:stop] = value


def _fill_together(result: np.ndarray, spans: np.ndarray) -> None:
    """Fill many short spans, int [4, n]; of pixels that are filled twice, the later value stays."""
    rows, begins, stops, values = spans
    counts = stops - begins
    ends = np.cumsum(counts)
    for part in np.split(
        np.arange(len(counts)), np.searchsorted(ends, np.arange(PIXELS_AT_A_TIME, ends[-1], PIXELS_AT_A_TIME))
    ):
        places = _ranges(rows[part] * result.shape[1] + begins[part], counts[part])
        result.reshape(-1)[places] = np.repeat(values[part], counts[part])
