"""What is summed up of a slide: areas of classes and numbers of objects, by region and band.

Areas and numbers add up over slides; shares, densities and ratios follow from their sums (`study.py`).
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
import tifffile
from shapely.geometry import Polygon

from pathseg.errors import ImageError
from pathseg.images.pyramids import strips_of
from pathseg.labels.drawing import PolygonDrawing
from pathseg.labels.geojson import Annotation
from pathseg.measurements.margins import Margin

log = logging.getLogger("pathseg")

# What is measured of a slide beside its regions.
WHOLE_SLIDE = "whole slide"
# Side of the squares that a class map is gone through in, in pixels.
SIDE = 2048
# A region that loses more than this share at the slide's rim is spoken of.
LOST = 0.001


def regions_of(annotations: list[Annotation], path: Path, width: int, height: int) -> dict[str, list[Polygon]]:
    """Return the polygons of each region, by its name: its own, or else that of its class, or else its number.

    Parameters
    ----------
    annotations
        As QuPath exports them; those of one name are one region.
    path
        Of their file, for messages.
    width, height
        Of the slide, in finest pixels.

    Raises
    ------
    ImageError
        If there are none, one lies outside of the slide, or has the name that stands for all of it.
    """
    if not annotations:
        raise ImageError(f"{path}: holds no region; draw regions as areas in QuPath, and export them as GeoJSON")
    slide = shapely.box(0, 0, width, height)
    regions: dict[str, list[Polygon]] = {}
    for number, annotation in enumerate(annotations, start=1):
        name = (annotation.title or annotation.name or f"region {number}").strip()
        if name.casefold() == WHOLE_SLIDE:
            raise ImageError(f"{path}: a region has the name {name!r}, which stands for the slide; rename it")
        inside = shapely.area(annotation.polygon & slide)
        if not inside:
            raise ImageError(
                f"{path}: region {name!r} lies outside of the slide, which has {width:,} x {height:,} pixels; is it "
                "another slide's?"
            )
        if inside < (1 - LOST) * annotation.polygon.area:
            log.warning(
                "%s: %.1f %% of region %r lie outside of the slide, and are not measured",
                path,
                100 * (1 - inside / annotation.polygon.area),
                name,
            )
        regions.setdefault(name, []).append(annotation.polygon)
    _speak_of_overlaps(regions, path)
    return regions


def _speak_of_overlaps(regions: dict[str, list[Polygon]], path: Path) -> None:
    areas = {name: shapely.union_all(polygons) for name, polygons in regions.items()}
    names = list(areas)
    for first, second in shapely.STRtree(list(areas.values())).query(list(areas.values()), predicate="intersects").T:
        shared = shapely.area(areas[names[first]] & areas[names[second]]) if first < second else 0
        if shared > LOST * min(areas[names[first]].area, areas[names[second]].area):
            log.warning(
                "%s: regions %r and %r overlap; each is measured by itself, what they share twice",
                path,
                names[first],
                names[second],
            )


class SlideSums:
    """Sums of a slide's class map, which is gone through once.

    Parameters
    ----------
    names
        Of the classes.
    scale
        Pixels of the class map per finest pixel, in x and y.
    mm2
        Area of a pixel of the class map.
    regions
        By name, polygons in finest pixels.
    margin
        Bands to tell apart, if any.
    objects
        Columns `x`, `y` (pixels of the class map) and `class` (name); None where none are told apart.
    told_apart
        Names of the classes that have objects.
    """

    def __init__(
        self,
        names: list[str],
        scale: tuple[float, float],
        mm2: float,
        regions: dict[str, list[Polygon]],
        margin: Margin | None,
        objects: pd.DataFrame | None = None,
        told_apart: list[str] | None = None,
    ) -> None:
        self._told_apart = told_apart or []
        self._names, self._mm2, self._margin = names, mm2, margin
        self._drawings = {
            name: PolygonDrawing(polygons, [1] * len(polygons), scale) for name, polygons in regions.items()
        }
        self._bounds = {
            name: shapely.union_all(polygons).bounds * np.tile(scale, 2) for name, polygons in regions.items()
        }
        self._band_names = ["", *(margin.names if margin else [])]
        shape = (len(regions) + 1, len(self._band_names), len(names))
        self._pixels, self._counts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._of_class, self._places = np.empty(0, np.int64), np.empty((0, 2), np.int64)
        # Which objects are in each region, and in which band of the whole slide each is.
        self._within: list[list[np.ndarray]] = [[] for _ in regions]
        if objects is not None:
            self._of_class = np.array([names.index(name) for name in objects["class"]], np.int64)
            self._places = np.floor(objects[["x", "y"]].to_numpy(float)).astype(np.int64)
        self._of_band = np.zeros(len(self._places), np.int64)

    def add(self, strip: np.ndarray, top: int) -> None:
        """Count the next rows of the class map, uint8 [h, W]."""
        columns, rows = self._places.T
        of_strip = (rows >= top) & (rows < top + len(strip))
        for left in range(0, strip.shape[1], SIDE):
            part = strip[:, left : left + SIDE]
            objects = np.flatnonzero(of_strip & (columns >= left) & (columns < left + SIDE))
            bands = self._margin.bands(left, top, part.shape[1], len(part)) if self._margin else None
            for number, mask in self._masks(left, top, part.shape[1], len(part)):
                self._count(number, part, bands, mask, objects, left, top)

    def _masks(self, left: int, top: int, width: int, height: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield the number of each region that has pixels here, 0 for the slide, and which these are."""
        yield 0, None
        for number, (name, drawing) in enumerate(self._drawings.items(), start=1):
            x0, y0, x1, y1 = self._bounds[name]
            if x0 < left + width and x1 > left and y0 < top + height and y1 > top:
                mask = np.zeros((height, width), np.uint8)
                drawing.draw(mask, left, top)
                yield number, mask.astype(bool)

    def _count(
        self,
        number: int,
        classes: np.ndarray,
        bands: np.ndarray | None,
        mask: np.ndarray | None,
        objects: np.ndarray,
        left: int,
        top: int,
    ) -> None:
        shape = self._pixels.shape[1:]
        keys = classes.astype(np.int32)
        if bands is not None:
            keys += bands.astype(np.int32) * shape[1]
        chosen = keys.ravel() if mask is None else keys[mask]
        self._pixels[number] += np.bincount(chosen, minlength=shape[0] * shape[1]).reshape(shape)
        columns, rows = (self._places[objects] - (left, top)).T
        if mask is not None:
            within = mask[rows, columns]
            objects, rows, columns = objects[within], rows[within], columns[within]
        of_band = bands[rows, columns] if bands is not None else np.zeros(len(objects), np.int64)
        np.add.at(self._counts[number], (of_band, self._of_class[objects]), 1)
        if number:
            self._within[number - 1].append(objects)
        else:
            self._of_band[objects] = of_band

    def places(self) -> pd.DataFrame:
        """Return where objects are: `regions` (names of all they are in, joined by "; ") and, with margins, `band`."""
        names = np.full(len(self._places), "", object)
        for name, parts in zip(self._drawings, self._within, strict=True):
            for objects in parts:
                names[objects] = [f"{before}; {name}" if before else name for before in names[objects]]
        table = pd.DataFrame({"regions": names})
        if self._margin:
            table["band"] = np.array(self._band_names, object)[self._of_band]
        return table

    def table(self) -> pd.DataFrame:
        """Return a row for each region, band and class.

        Returns
        -------
        pandas.DataFrame
            `region`, `band` ("" for all of the region), `class`, `area_mm2`, `objects` (missing for classes that
            are not told apart).
        """
        pixels, counts = self._pixels.copy(), self._counts.copy()
        # The first is what is in no band, until it is all.
        pixels[:, 0], counts[:, 0] = pixels.sum(axis=1), counts.sum(axis=1)
        rows = [
            (region, band, name, pixels[place] * self._mm2, counts[place] if name in self._told_apart else np.nan)
            for place, (region, band, name) in zip(np.ndindex(pixels.shape), self._labels(), strict=True)
        ]
        return pd.DataFrame(rows, columns=["region", "band", "class", "area_mm2", "objects"])

    def _labels(self) -> Iterator[tuple[str, str, str]]:
        for region in (WHOLE_SLIDE, *self._drawings):
            for band in self._band_names:
                for name in self._names:
                    yield region, band, name


def sums_of_map(path: str | Path, sums: SlideSums) -> None:
    """Go through the class map of a slide, `classes.tif`."""
    with tifffile.TiffFile(path) as tiff:
        for top, strip in strips_of(tiff.pages.first, SIDE):
            sums.add(strip, top)
