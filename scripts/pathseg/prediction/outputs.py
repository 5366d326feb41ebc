"""Write a slide's prediction as it comes, band by band, and sum up what the summary says."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from pathseg.images.pyramids import PyramidWriter
from pathseg.images.resampling import ResampledSlide
from pathseg.labels.geojson import AnnotationWriter
from pathseg.labels.objects import ObjectFinder, Objects
from pathseg.labels.outlines import RegionFinder, Regions, split_along_grid, to_full_resolution
from pathseg.prediction.inference import Band
from pathseg.prediction.objects import ObjectTable, insides_of, measured

log = logging.getLogger("pathseg")

# Pixels whose outlines are followed at a time.
OUTLINE_PIXELS = 2**23
THUMBNAIL_SIDE = 2048


class SlideOutputs:
    """Class map, outlines and, if asked for, probabilities of a slide, and its totals.

    Parameters
    ----------
    paths
        Where to write `classes`, `annotations` and, if they are there, `probability` and `objects`.
    view
        The slide at the model's resolution.
    mpp
        µm per pixel of the slide's finest level, or None if it is unknown.
    names, colors
        Of the classes.
    min_area_um2
        Smaller regions are left out of the annotations.
    key
        Experiment and slide, from which the annotations' identifiers are made.
    objects
        What regions are to QuPath: "annotation" or "detection".
    split_um
        Longer regions are cut along a grid of this step in µm, but for objects told apart; None for none.
    told_apart
        Classes whose objects are told apart, and how far these grow from their insides, in pixels of the view.

    Attributes
    ----------
    pixels : numpy.ndarray
        int64 [C], pixels of each class where tissue was looked for.
    probability : numpy.ndarray
        float64 [C], sum of the probability (0..1) of each class over the pixels that got it.
    regions : numpy.ndarray
        int64 [C], annotations of each class, before any is split.
    seconds : dict
        Time spent on outlines and waiting for the files to be written.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        view: ResampledSlide,
        mpp: float | None,
        names: list[str],
        colors: list[str],
        min_area_um2: float,
        key: str,
        objects: str = "annotation",
        split_um: float | None = None,
        told_apart: dict[int, int] | None = None,
    ) -> None:
        self.view = view
        self._mpp = mpp
        self.view_mpp = mpp * view.slide.width / view.width if mpp else None
        self.pixel_um2 = mpp**2 * view.slide.width * view.slide.height / (view.width * view.height) if mpp else None
        self.pixels = np.zeros(len(names), np.int64)
        self.probability = np.zeros(len(names))
        self.regions = np.zeros(len(names), np.int64)
        self.seconds = {"outlines": 0.0, "writing": 0.0}
        self._min_pixels = min_area_um2 / self.pixel_um2 if self.pixel_um2 else 0
        self._split = split_um / self.view_mpp if split_um and self.view_mpp else None
        if min_area_um2 and not self.pixel_um2:
            log.warning("%s: its pixel size is not known, so that regions below min_area_um2 are kept", key)
        if split_um and not self.view_mpp:
            log.warning("%s: its pixel size is not known, so that no region is split along split_um", key)
        self._factors = view.slide.width / view.width, view.slide.height / view.height
        self._names = names
        self.told_apart = told_apart or {}
        self._finder = RegionFinder(index for index in range(1, len(names)) if index not in self.told_apart)
        self._object_finders = [ObjectFinder(index, reach) for index, reach in self.told_apart.items()]
        self._next_object = 1
        self._thumbnail: list[np.ndarray] = []
        self._step = max(1, -(-max(view.width, view.height) // THUMBNAIL_SIDE))
        # The pixel in the middle of each step, so that the thumbnail lies on the slide.
        self._middle = [min(self._step // 2, side - 1) for side in (view.height, view.width)]
        self._stack = ExitStack()
        size = (view.width, view.height, self.view_mpp)
        self._annotations = self._stack.enter_context(
            AnnotationWriter(paths["annotations"], names, colors, key, objects)
        )
        self._classes = self._stack.enter_context(PyramidWriter(paths["classes"], *size, colors))
        self._table = self._stack.enter_context(ObjectTable(paths["objects"])) if "objects" in paths else None
        self._probability: PyramidWriter | None = None
        if "probability" in paths:
            writer = PyramidWriter(paths["probability"], *size, planes=len(names))
            self._probability = self._stack.enter_context(writer)

    def add(self, band: Band) -> None:
        """Take the next band."""
        started = time.monotonic()
        self._classes.append(band.classes)
        if self._probability:
            self._probability.append(band.probabilities)
        # A copy: a view would keep the whole band in memory.
        top, left = (self._middle[0] - band.y) % self._step, self._middle[1]
        self._thumbnail.append(band.classes[top :: self._step, left :: self._step].copy())
        self.seconds["writing"] += time.monotonic() - started
        started = time.monotonic()
        self._count(band)
        height = len(band.classes)
        used = int(np.count_nonzero(band.classes.any(axis=0)))
        rows = max(64, OUTLINE_PIXELS // max(used, 1))
        confidence = np.take_along_axis(band.probabilities, band.classes[None], axis=0)[0]
        insides = insides_of(band) if self.told_apart else np.empty((height, 0), bool)
        for top in range(0, height, rows):
            part = np.s_[top : top + rows]
            for regions in self._finder.add(band.y + top, band.classes[part], confidence[part]):
                self._annotate(regions)
            for finder in self._object_finders:
                self._deliver(finder.add(band.classes[part], insides[part], confidence[part]))
        self.seconds["outlines"] += time.monotonic() - started

    def _count(self, band: Band) -> None:
        looked_at = int(band.tissue.sum())
        for index in range(1, len(self.pixels)):
            chosen = band.classes == index
            self.pixels[index] += (count := int(chosen.sum()))
            looked_at -= count
            self.probability[index] += np.sum(band.probabilities[index], where=chosen, dtype=np.int64) / 255
        self.pixels[0] += looked_at
        background = band.tissue & (band.classes == 0)
        self.probability[0] += np.sum(band.probabilities[0], where=background, dtype=np.int64) / 255

    def _annotate(self, regions: Regions) -> None:
        regions = regions.at_least(self._min_pixels)
        self.regions += np.bincount(regions.class_indices, minlength=len(self.regions))
        if self._split:
            regions = split_along_grid(regions, self._split)
        measurements = {"Mean probability": np.round(regions.probability_sums / regions.pixels, 4)}
        if self.pixel_um2:
            measurements["Area µm²"] = np.round(regions.pixels * self.pixel_um2, 2)
        polygons = to_full_resolution(regions.polygons, *self._factors)
        self._annotations.append(regions.class_indices, polygons, measurements)

    def _deliver(self, objects: Objects) -> None:
        objects = objects.at_least(self._min_pixels)
        self.regions += np.bincount(objects.class_indices, minlength=len(self.regions))
        scale = self._factors if self._mpp is None else (self._mpp * self._factors[0], self._mpp * self._factors[1])
        table, measurements = measured(objects, self._next_object, scale, "px" if self._mpp is None else "um")
        self._next_object += len(objects)
        self._annotations.append(
            objects.class_indices, to_full_resolution(objects.polygons, *self._factors), measurements
        )
        if self._table:
            table.insert(1, "class", np.array(self._names, object)[objects.class_indices])
            self._table.append(table)

    def thumbnail(self) -> np.ndarray:
        """Return the class map with every n-th pixel, at most `THUMBNAIL_SIDE` a side: uint8 [h, w]."""
        return np.concatenate(self._thumbnail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close the files."""
        started = time.monotonic()
        if kind is None:
            for regions in self._finder.finish():
                self._annotate(regions)
            for finder in self._object_finders:
                for objects in finder.finish():
                    self._deliver(objects)
        self._stack.__exit__(kind, error, trace)
        self.seconds["writing"] += time.monotonic() - started


def class_rows(outputs: SlideOutputs, names: list[str]) -> list[dict[str, Any]]:
    """Return for each class its pixels, area, share of the tissue, mean probability and number of regions.

    Of classes whose objects are told apart, these are the regions, and there are so many `objects_per_mm2` of tissue.
    """
    tissue = max(int(outputs.pixels.sum()), 1)
    rows = []
    for index, name in enumerate(names):
        pixels = int(outputs.pixels[index])
        rows.append(
            {
                "name": name,
                "pixels": pixels,
                "area_mm2": round(pixels * outputs.pixel_um2 / 1e6, 6) if outputs.pixel_um2 else None,
                "share_of_tissue": round(pixels / tissue, 6),
                "mean_probability": round(float(outputs.probability[index]) / pixels, 4) if pixels else None,
                "regions": int(outputs.regions[index]) if index else None,
            }
        )
        if index in outputs.told_apart:
            area_mm2 = tissue * outputs.pixel_um2 / 1e6 if outputs.pixel_um2 else None
            rows[-1]["objects"] = int(outputs.regions[index])
            rows[-1]["objects_per_mm2"] = round(int(outputs.regions[index]) / area_mm2, 3) if area_mm2 else None
    return rows
