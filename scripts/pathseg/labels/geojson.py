"""Annotations as QuPath exports and imports them: GeoJSON, read from people and written as a stream."""

import gzip
import json
import logging
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import shapely
from shapely.geometry import Polygon

from pathseg.colors import rgb_of
from pathseg.errors import ImageError

log = logging.getLogger("pathseg")

ENDINGS = (".geojson", ".json", ".geojson.gz", ".json.gz")

# Of pixels; no slide is so large, and numbers beyond it lose their fractions.
LARGEST_COORDINATE = 2**31


@dataclass(frozen=True)
class Annotation:
    """A polygon (with holes) in pixels of the slide's finest level, and the name of its class (None: without).

    QuPath's derived classes have names such as "Tumor: Positive". `title` is the name that a person gave to this one.
    """

    name: str | None
    polygon: Polygon
    title: str | None = None


def is_annotation_file(path: str | Path) -> bool:
    """Say whether a file name is that of a GeoJSON file."""
    return str(path).lower().endswith(ENDINGS)


def read_annotations(path: str | Path) -> list[Annotation]:
    """Read the polygons of a GeoJSON file, compressed or not; multipolygons give one annotation for each part.

    Raises
    ------
    ImageError
        If it is not GeoJSON, or a polygon crosses itself or reaches beyond any slide; the message names the feature.
    """
    path = Path(path)
    content = load_geojson(path)
    features = content.get("features") if isinstance(content, dict) else content
    if isinstance(content, dict) and content.get("type") == "Feature":
        features = [content]
    if not isinstance(features, list):
        raise ImageError(f"{path}: is not GeoJSON with features; export it from QuPath as a feature collection")
    annotations: list[Annotation] = []
    left_out = 0
    for number, feature in enumerate(features, start=1):
        try:
            geometry = shapely.geometry.shape(feature["geometry"])
            properties = feature.get("properties") or {}
            name, title = _class_name(properties.get("classification")), properties.get("name")
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
            raise ImageError(f"{path}: feature {number} is not a GeoJSON feature with a geometry ({error})") from error
        parts = _polygons(path, number, name, geometry)
        annotations += [Annotation(name, part, title if isinstance(title, str) else None) for part in parts]
        left_out += not parts
    if left_out:
        log.warning("%s: left out %d of %d features, which are points, lines or empty", path, left_out, len(features))
    return annotations


def _class_name(classification: Any) -> str | None:
    """Return the name of a class as QuPath writes it: `name`, or for derived classes also `names`."""
    if classification is None:
        return None
    if not isinstance(classification, dict):
        raise TypeError(f"its classification {classification!r} has no `name`")
    names = classification.get("names") or [classification.get("name")]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names if name is not None):
        raise TypeError(f"the name of its class, {names!r}, is not text")
    return ": ".join(name for name in names if name) or None


def load_geojson(path: Path) -> Any:
    """Return what a file holds, compressed or not.

    Raises
    ------
    ImageError
        If it cannot be read or is not JSON.
    """
    try:
        content = path.read_bytes()
        return json.loads(gzip.decompress(content) if path.suffix.lower() == ".gz" else content)
    except (OSError, EOFError) as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: is not JSON ({error}); export the annotations again as GeoJSON") from error


def _polygons(path: Path, number: int, name: str | None, geometry: shapely.Geometry) -> list[Polygon]:
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon) and not part.is_empty]
    for part in parts:
        if not np.abs(part.bounds).max() <= LARGEST_COORDINATE:
            raise ImageError(
                f"{path}: feature {number} ({name or 'without class'}) reaches to {max(part.bounds, key=abs):g} "
                "pixels, beyond any slide; remove it, or export the annotations again"
            )
        if not part.is_valid:
            raise ImageError(
                f"{path}: feature {number} ({name or 'without class'}) has an outline that is not simple: "
                f"{shapely.is_valid_reason(part)}; mend it in QuPath and export again"
            )
    return parts


# Batches of annotations that may wait to be written, so that a slow disk does not fill the memory.
BATCHES_WAITING = 4

_NAMESPACE = uuid.UUID("8a2f5c1e-6a39-4f0e-9d0b-3f1f2b6f7d11")


class _EdgeTexts:
    """Places of pixel edges along one direction as text, each made once: corners are many, edges few.

    Parameters
    ----------
    factor
        How many of the slide's finest pixels a pixel has.
    form
        The text, with {} for the place, rounded to hundredths.
    """

    def __init__(self, factor: float, form: str) -> None:
        self._factor, self._form = factor, form
        self._texts = np.empty(0, object)

    def of(self, edges: np.ndarray) -> np.ndarray:
        """Return the texts of edges, int [n] from 0: object [n]."""
        new = np.arange(len(self._texts), edges.max() + 1)
        texts = [self._form.format(place) for place in np.round(new * self._factor, 2).tolist()]
        self._texts = np.append(self._texts, np.array(texts, object))
        return self._texts[edges]


class AnnotationWriter:
    """Write annotations as a stream in the background, so that features never are in memory together.

    Parameters
    ----------
    path
        File to write (`.geojson.gz`); the caller renames it when it is complete.
    names, colors
        Names of the model's classes and their colours as #rrggbb.
    factors
        How many of the slide's finest pixels, which QuPath counts in, a pixel of the outlines has in x and y.
    key
        What the identifiers of the annotations are made from: the same key gives the same identifiers.
    kind
        What they are to QuPath: "annotation" or "detection".
    """

    def __init__(
        self,
        path: Path,
        names: list[str],
        colors: list[str],
        factors: tuple[float, float],
        key: str,
        kind: str = "annotation",
    ) -> None:
        # Neither name nor time in the header, so that the same annotations give the same bytes.
        self._raw = open(path, "wb")  # noqa: SIM115
        self._file = gzip.GzipFile("", "wb", compresslevel=4, fileobj=self._raw, mtime=0)
        self._classes = [
            json.dumps({"name": name, "color": rgb_of(color)}) for name, color in zip(names, colors, strict=True)
        ]
        # One for all, of which the last twelve digits are the annotation's number: to make each anew takes time.
        self._identifier = str(uuid.uuid5(_NAMESPACE, key))[:-12]
        self._kind = kind
        self._x, self._y = _EdgeTexts(factors[0], ",[{}"), _EdgeTexts(factors[1], ",{}]")
        self.count = 0
        # Text and compression leave the thread that finds the outlines free.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="annotations")
        self._waiting: list[Future[None]] = []
        self._write('{"type": "FeatureCollection", "features": [')

    def append(self, class_indices: np.ndarray, polygons: np.ndarray, measurements: dict[str, np.ndarray]) -> None:
        """Add annotations.

        Parameters
        ----------
        class_indices
            int [n], their classes.
        polygons
            object [n], their outlines along pixel edges, in pixels of the class map.
        measurements
            By name, float [n], the numbers that QuPath shows beside them.
        """
        while len(self._waiting) >= BATCHES_WAITING:
            self._waiting.pop(0).result()
        # An array of its own: shapely locks one while it works on it, and fails where another thread has done so.
        self._waiting.append(self._thread.submit(self._append, class_indices, polygons.copy(), measurements))

    def _append(self, class_indices: np.ndarray, polygons: np.ndarray, measurements: dict[str, np.ndarray]) -> None:
        rows = zip(class_indices.tolist(), self._coordinates(polygons), strict=True)
        names = [json.dumps(name) for name in measurements]
        values = np.column_stack([np.zeros((len(polygons), 0)), *measurements.values()]).tolist()
        lines = []
        for (class_index, coordinates), numbers in zip(rows, values, strict=True):
            measured = ", ".join(f"{name}: {number}" for name, number in zip(names, numbers, strict=True))
            lines.append(
                f'{"," if self.count else ""}\n{{"type": "Feature", "id": "{self._identifier}{self.count:012x}", '
                f'"geometry": {{"type": "Polygon", "coordinates": {coordinates}}}, "properties": '
                f'{{"objectType": "{self._kind}", "classification": {self._classes[class_index]}, '
                f'"measurements": {{{measured}}}}}}}'
            )
            self.count += 1
        self._write("".join(lines))

    def _coordinates(self, polygons: np.ndarray) -> list[str]:
        """Return the rings of polygons as GeoJSON, in the slide's finest pixels."""
        if not len(polygons):
            return []
        _, corners, (rings, shapes) = shapely.to_ragged_array(polygons)
        x, y = np.rint(corners).astype(np.int64).T
        texts = np.empty(2 * len(corners), object)
        texts[::2], texts[1::2] = self._x.of(x), self._y.of(y)
        # Each ring closes the one before it.
        starts = 2 * rings[:-1]
        texts[starts] = ["],[" + text[1:] for text in texts[starts].tolist()]
        pieces, ends = texts.tolist(), (2 * rings[shapes]).tolist()
        return [f"[{''.join(pieces[start:end])[2:]}]]" for start, end in pairwise(ends)]

    def _write(self, text: str) -> None:
        self._file.write(text.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)
        try:
            if kind is None:
                for batch in self._waiting:
                    batch.result()
                self._write("\n]}\n")
                self._file.close()
        finally:
            # After an error, whatever cannot be written any more is of no use.
            with suppress(OSError):
                self._file.close()
            self._raw.close()
