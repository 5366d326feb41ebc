"""Make of an answer what people and programs read of a slide: class map, outlines, overlay, areas; no network."""

import json
import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from pathseg.colors import colors_of
from pathseg.files import atomic_path
from pathseg.images.overlay import draw_overlay
from pathseg.images.pyramids import TIFF_TILE, PyramidWriter, painted
from pathseg.labels.geojson import AnnotationWriter
from pathseg.labels.object_maps import ObjectMap
from pathseg.labels.objects import ObjectFinder
from pathseg.labels.outlines import LabelledBand, RegionFinder, Regions, split_along_grid
from pathseg.labels.pieces import number_pieces
from pathseg.labels.separation import reach_of
from pathseg.prediction.answers import Answer, AnswerRows, thumbnail_places
from pathseg.prediction.objects import ObjectTable, measured
from pathseg.prediction.summaries import areas_text

log = logging.getLogger("pathseg")

# Pixels whose outlines are followed at a time.
OUTLINE_PIXELS = 2**23
# Threads that do so, each in a band of its own: more are not faster, and each takes memory.
MOST_LOOKERS = 4
# Pixels that are counted at a time: OpenCV returns their numbers as float32, which holds no larger ones.
COUNTED_PIXELS = 2**24


def write_outputs(
    answer: Answer,
    key: str,
    classes: list[dict[str, Any]],
    settings: dict[str, Any],
    objects: list[str] | None,
    outputs: dict[str, str],
    threads: int,
) -> dict[str, Any]:
    """Write all outputs of a slide, which appear when all are complete.

    Parameters
    ----------
    answer
        What the networks have said.
    key
        That no other slide and no other experiment has, from which the annotations' identifiers are made.
    classes
        The configuration's classes, which say their colours.
    settings
        `min_area_um2`, `objects` and `split_um` of the configuration's `prediction`.
    objects
        Classes whose objects are told apart.
    outputs
        Where to write `classes`, `annotations`, `overlay`, `summary` and, if they are there, `objects` and
        `object_map`.
    threads
        How many may work.

    Returns
    -------
    dict
        The summary.
    """
    started = time.monotonic()
    about, names = answer.about, answer.about["names"]
    colors = colors_of(names, classes)
    with ExitStack() as stack:
        # The last to be entered is the first to be renamed: the summary appears when all the rest is there.
        keys = ["summary", *(key for key in outputs if key != "summary")]
        paths = {key: stack.enter_context(atomic_path(outputs[key])) for key in keys}
        told_apart = [names.index(name) for name in objects or []]
        pieces = number_pieces(answer.tissue()) if told_apart else None
        with SlideOutputs(paths, about, colors, settings, key, told_apart, pieces, threads) as written:
            for rows in answer.rows():
                written.add(rows)
        painted(answer.paths["classes"], paths["classes"], colors)
        small = written.thumbnail()
        small_mpp = about["mpp"] and about["mpp"] * about["width"] / small.shape[1]
        overlay = draw_overlay(answer.picture(), small, names, colors, about["slide"], small_mpp)
        overlay.savefig(paths["overlay"], dpi="figure")
        summary = written.summary(time.monotonic() - started)
        paths["summary"].write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("%s: %s", about["slide"], areas_text(summary))
    return summary


class SlideOutputs:
    """Outlines and objects of a slide, and its totals, of rows that come from top to bottom.

    Parameters
    ----------
    paths
        Where to write `annotations` and, if they are there, `objects` and `object_map`.
    about
        What is known of the slide, see `pathseg.prediction.answers.Answer`.
    colors
        Of the classes.
    settings
        `min_area_um2`: smaller regions are left out of the annotations. `objects`: what regions are to QuPath,
        "annotation" or "detection". `split_um`: longer regions are cut along a grid of this step, but for objects told
        apart; None for none.
    key
        See `write_outputs`.
    told_apart
        Classes whose objects are told apart, as indices.
    pieces
        Numbers of the pieces of tissue, small, [h, w] (see `thumbnail_places`), if objects are told apart.
    threads
        How many may look for regions, each in a band of its own.

    Attributes
    ----------
    regions : numpy.ndarray
        int64 [C], annotations of each class, before any is split.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        about: dict[str, Any],
        colors: list[str],
        settings: dict[str, Any],
        key: str,
        told_apart: list[int],
        pieces: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        self._about, self._names, self._told_apart = about, about["names"], told_apart
        size, model_size = (about["width"], about["height"]), (about["model_width"], about["model_height"])
        mpp = about["mpp"]
        self._factors = size[0] / model_size[0], size[1] / model_size[1]
        self._pixel_um2 = mpp**2 * size[0] * size[1] / (model_size[0] * model_size[1]) if mpp else None
        # How many pixels have got each class with each probability times 255, int64 [C, 256].
        self._counts = np.zeros((len(self._names), 256), np.int64)
        self.regions = np.zeros(len(self._names), np.int64)
        min_area_um2, split_um = settings["min_area_um2"], settings["split_um"]
        self._min_pixels = min_area_um2 / self._pixel_um2 if self._pixel_um2 else 0
        self._split = split_um / about["model_mpp"] if split_um and mpp else None
        if min_area_um2 and not mpp:
            log.warning("%s: its pixel size is not known, so that regions below min_area_um2 are kept", key)
        if split_um and not mpp:
            log.warning("%s: its pixel size is not known, so that no region is split along split_um", key)
        self._finder = RegionFinder(index for index in range(1, len(self._names)) if index not in told_apart)
        self._object_finders = [ObjectFinder(index, reach_of(about["shrink"])) for index in told_apart]
        self._next_object, self._pieces = 1, pieces
        self._thumbnail: list[np.ndarray] = []
        self._places = thumbnail_places(*model_size)
        self._stack, self._threads = ExitStack(), min(threads, MOST_LOOKERS)
        self._lookers = self._stack.enter_context(ThreadPoolExecutor(self._threads, thread_name_prefix="outlines"))
        # Bands, from top to bottom, and the regions that are found in each.
        self._waiting: deque[tuple[AnswerRows, Future[list[LabelledBand | None]]]] = deque()
        self._annotations = self._stack.enter_context(
            AnnotationWriter(paths["annotations"], self._names, colors, self._factors, key, settings["objects"])
        )
        self._table = self._stack.enter_context(ObjectTable(paths["objects"])) if "objects" in paths else None
        self._map_path = paths.get("object_map")
        self._map = self._stack.enter_context(ObjectMap(self._map_path.parent)) if self._map_path else None

    def add(self, rows: AnswerRows) -> None:
        """Take the next rows."""
        height = len(rows.classes)
        down, across = self._places
        here = down[(down >= rows.y) & (down < rows.y + height)] - rows.y
        self._thumbnail.append(rows.classes[np.ix_(here, across)])
        used = int(np.count_nonzero(rows.classes.any(axis=0)))
        n_parts = min(height, -(-height * max(used, 1) // OUTLINE_PIXELS))
        for part in (slice(height * i // n_parts, height * (i + 1) // n_parts) for i in range(n_parts)):
            insides = None if rows.insides is None else rows.insides[part]
            band = AnswerRows(rows.y + part.start, rows.classes[part], rows.confidence[part], insides)
            found = self._lookers.submit(self._finder.look, band.y, band.classes, band.confidence)
            self._waiting.append((band, found))
            if len(self._waiting) > self._threads:
                self._take_next()

    def _take_next(self) -> None:
        """Deliver what ends in the band that has waited longest, while others look at the next ones."""
        band, found = self._waiting.popleft()
        self._count(band.classes, band.confidence)
        for regions in self._finder.add(found.result(), band.classes.shape[1]):
            self._annotate(regions)
        for finder in self._object_finders:
            assert band.insides is not None
            self._deliver(finder.add(band.classes, band.insides, band.confidence))

    def _count(self, classes: np.ndarray, confidence: np.ndarray) -> None:
        bins = self._counts.shape
        step = max(1, COUNTED_PIXELS // classes.shape[1])
        for y in range(0, len(classes), step):
            maps = [classes[y : y + step], confidence[y : y + step]]
            counts = cv2.calcHist(maps, [0, 1], None, bins, [0, bins[0], 0, bins[1]])
            self._counts += counts.astype(np.int64)

    @property
    def pixels(self) -> np.ndarray:
        """The pixels of each class where tissue was looked for: int64 [C]."""
        return self._counts[:, 1:].sum(axis=1)

    def _annotate(self, regions: Regions) -> None:
        regions = regions.at_least(self._min_pixels)
        self.regions += np.bincount(regions.class_indices, minlength=len(self.regions))
        if self._split:
            regions = split_along_grid(regions, self._split)
        measurements = {"Mean probability": np.round(regions.probability_sums / regions.pixels, 4)}
        if self._pixel_um2:
            measurements["Area µm²"] = np.round(regions.pixels * self._pixel_um2, 2)
        self._annotations.append(regions.class_indices, regions.polygons, measurements)

    def _deliver(self, objects: Regions) -> None:
        objects = objects.at_least(self._min_pixels)
        self.regions += np.bincount(objects.class_indices, minlength=len(self.regions))
        mpp = self._about["mpp"]
        scale = self._factors if mpp is None else (mpp * self._factors[0], mpp * self._factors[1])
        unit = "px" if mpp is None else "um"
        table, measurements = measured(objects, self._next_object, scale, unit)
        self._next_object += len(objects)
        self._annotations.append(objects.class_indices, objects.polygons, measurements)
        if self._map:
            self._map.append(objects.polygons)
        if self._table:
            table.insert(1, "class", np.array(self._names, object)[objects.class_indices])
            x, y = (table[f"{name}_{unit}"] / factor for name, factor in zip("xy", scale, strict=True))
            table.insert(2, "piece", self._pieces_at(x.to_numpy(), y.to_numpy()))
            self._table.append(table)

    def _pieces_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the numbers of the pieces of tissue at places in pixels of the class map, int [n]."""
        assert self._pieces is not None
        # The step is the same in both directions; where there is one place, all is there.
        steps = [places[1] - places[0] if len(places) > 1 else np.inf for places in self._places]
        row, column = (
            np.minimum(np.floor(values / step), size - 1).astype(int)
            for values, step, size in zip((y, x), steps, self._pieces.shape, strict=True)
        )
        return self._pieces[row, column]

    def thumbnail(self) -> np.ndarray:
        """Return the class map, small: uint8 [h, w], see `thumbnail_places`."""
        return np.concatenate(self._thumbnail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close the files."""
        if kind is None:
            while self._waiting:
                self._take_next()
            for regions in self._finder.finish():
                self._annotate(regions)
            for finder in self._object_finders:
                for objects in finder.finish():
                    self._deliver(objects)
            if self._map and self._map_path:
                self._write_map(self._map, self._map_path)
        self._stack.__exit__(kind, error, trace)

    def _write_map(self, waiting: ObjectMap, path: Path) -> None:
        """Write the numbers of the objects of all classes, as in the table."""
        size = self._about["model_width"], self._about["model_height"]
        with PyramidWriter(path, *size, self._about["model_mpp"], dtype=np.uint32) as writer:
            for strip in waiting.strips(*size, TIFF_TILE):
                writer.append(strip)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return what `summary.json` says; `seconds` is what all this took, beside what predicting has taken."""
        about = {key: value for key, value in self._about.items() if key not in ("names", "shrink")}
        seen = int(self.pixels.sum())
        return about | {
            "tissue_share": round(seen / (about["model_width"] * about["model_height"]), 6),
            "tissue_mm2": round(seen * self._pixel_um2 / 1e6, 6) if self._pixel_um2 else None,
            "classes": self.class_rows(),
            "seconds": round(about["seconds"] + seconds, 1),
            "seconds_by_stage": about["seconds_by_stage"] | {"outlines": round(seconds, 2)},
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """Return for each class its pixels, area, share of the tissue, mean probability and number of regions.

        Of classes whose objects are told apart, these are the regions, and there are so many `objects_per_mm2` of
        tissue.
        """
        tissue = max(int(self.pixels.sum()), 1)
        rows = []
        for index, name in enumerate(self._names):
            pixels, regions = int(self.pixels[index]), int(self.regions[index])
            probability = int(self._counts[index] @ np.arange(256)) / 255
            rows.append(
                {
                    "name": name,
                    "pixels": pixels,
                    "area_mm2": round(pixels * self._pixel_um2 / 1e6, 6) if self._pixel_um2 else None,
                    "share_of_tissue": round(pixels / tissue, 6),
                    "mean_probability": round(probability / pixels, 4) if pixels else None,
                    "regions": regions if index else None,
                }
            )
            if index in self._told_apart:
                area_mm2 = tissue * self._pixel_um2 / 1e6 if self._pixel_um2 else None
                rows[-1]["objects"] = regions
                rows[-1]["objects_per_mm2"] = round(regions / area_mm2, 3) if area_mm2 else None
        return rows
