"""Bands along the border of a class, such as the invasive margin of a tumour."""

import math
from itertools import pairwise

import cv2
import numpy as np
from shapely.geometry import Polygon

from pathseg.labels.drawing import PolygonDrawing


class Margin:
    """Bands of given widths on both sides of the border of a class.

    Parameters
    ----------
    polygons
        Of the class, in the slide's finest pixels, without those that are too small to have a margin.
    scale
        Pixels of the class map per finest pixel, in x and y.
    widths_um
        How far from the border each band ends, in µm, ascending; each begins where the one before it ends.
    mpp
        µm per pixel of the class map.
    size
        Width and height of the class map, beyond which nothing is known.

    Attributes
    ----------
    names : list of str
        Of the bands, inside first, nearest first.
    """

    def __init__(
        self,
        polygons: list[Polygon],
        scale: tuple[float, float],
        widths_um: list[float],
        mpp: float,
        size: tuple[int, int],
    ) -> None:
        bands = [f"{begin:g}-{end:g} µm" for begin, end in pairwise([0, *widths_um])]
        self.names = [f"{side} {band}" for side in ("inside", "outside") for band in bands]
        self._edges = np.array(widths_um) / mpp
        self._halo = math.ceil(self._edges[-1]) + 1
        self._size = size
        self._drawing = PolygonDrawing(polygons, [1] * len(polygons), scale) if polygons else None

    def bands(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return the band of each pixel of a rectangle of the class map: uint8 [height, width], 0 for none, 1 ... n.

        The distance of a pixel is that of its centre from the nearest border between pixels; the slide's rim is none.
        """
        found = np.zeros((height, width), np.uint8)
        if self._drawing is None:
            return found
        left, top = max(0, x - self._halo), max(0, y - self._halo)
        right, bottom = min(self._size[0], x + width + self._halo), min(self._size[1], y + height + self._halo)
        inside = np.zeros((bottom - top, right - left), np.uint8)
        self._drawing.draw(inside, left, top)
        core = np.s_[y - top : y - top + height, x - left : x - left + width]
        for first, side in ((1, inside), (1 + len(self._edges), 1 - inside)):
            if side[core].any() and not side.all():
                distance = cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[core] - 0.5
                band = np.searchsorted(self._edges, distance, side="right")
                near = (distance > 0) & (band < len(self._edges))
                found[near] = first + band[near]
        return found


def with_margin(polygons: list[Polygon], pixels: float) -> list[Polygon]:
    """Return the polygons of so many pixels or more, largest first, and without holes that are smaller."""
    large = [
        Polygon(polygon.exterior, [hole for hole in polygon.interiors if Polygon(hole).area >= pixels])
        for polygon in polygons
        if polygon.area >= pixels
    ]
    return sorted(large, key=lambda polygon: polygon.area, reverse=True)
