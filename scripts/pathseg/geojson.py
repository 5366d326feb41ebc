"""Write annotations that QuPath opens: GeoJSON, one feature at a time, compressed."""

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import shapely
from shapely.geometry.base import BaseGeometry


_NAMESPACE = uuid.UUID("8a2f5c1e-6a39-4f0e-9d0b-3f1f2b6f7d11")


class AnnotationWriter:
    """Write annotations as a stream, whose features never are in memory together.

    Parameters
    ----------
    path
        File to write (`.geojson.gz`); the caller renames it when it is complete.
    classes
        The model's classes, with `name` and `color`.
    key
        What the identifiers of the annotations are made from: the same key gives the same identifiers.
    """

    def __init__(self, path: Path, classes: list[dict[str, Any]], key: str) -> None:
        self._file = gzip.GzipFile(path, "wb", compresslevel=4, mtime=0)
        self._classes, self._key = classes, key
        self.count = 0
        self._write('{"type": "FeatureCollection", "features": [')

    def append(self, class_index: int, geometry: BaseGeometry, measurements: dict[str, float]) -> None:
        """Add an annotation.

        Parameters
        ----------
        class_index
            Its class.
        geometry
            Polygon in the slide's finest pixels.
        measurements
            Numbers that QuPath shows beside it.
        """
        class_ = self._classes[class_index]
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{self._key}/{self.count}")),
            "geometry": json.loads(shapely.to_geojson(geometry)),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": class_["name"], "color": rgb_of([class_["color"]])[0].tolist()},
                "measurements": measurements,
            },
        }
        self._write(",\n" if self.count else "\n")
        self._write(json.dumps(feature))
        self.count += 1

    def _write(self, text: str) -> None:
        self._file.write(text.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._write("\n]}\n")
        self._file.close()


def polygons_of(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    """Yield the valid polygons that a geometry consists of."""
    valid = geometry if geometry.is_valid else shapely.make_valid(geometry)
    yield from (part for part in shapely.get_parts(valid) if part.geom_type == "Polygon" and not part.is_empty)
