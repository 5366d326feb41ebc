"""Write annotations that QuPath opens: GeoJSON, one feature at a time, compressed."""

import gzip
import json
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import shapely
from shapely.geometry.base import BaseGeometry

from pathseg.colors import rgb_of

_NAMESPACE = uuid.UUID("8a2f5c1e-6a39-4f0e-9d0b-3f1f2b6f7d11")


class AnnotationWriter:
    """Write annotations as a stream, whose features never are in memory together.

    Parameters
    ----------
    path
        File to write (`.geojson.gz`); the caller renames it when it is complete.
    names, colors
        Names of the model's classes and their colours as #rrggbb.
    key
        What the identifiers of the annotations are made from: the same key gives the same identifiers.
    """

    def __init__(self, path: Path, names: list[str], colors: list[str], key: str) -> None:
        # Neither name nor time in the header, so that the same annotations give the same bytes.
        self._raw = open(path, "wb")  # noqa: SIM115
        self._file = gzip.GzipFile("", "wb", compresslevel=4, fileobj=self._raw, mtime=0)
        self._names, self._colors, self._key = names, [rgb_of(color) for color in colors], key
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
        properties = {
            "objectType": "annotation",
            "classification": {"name": self._names[class_index], "color": self._colors[class_index]},
            "measurements": measurements,
        }
        identifier = uuid.uuid5(_NAMESPACE, f"{self._key}/{self.count}")
        # The geometry is JSON already; reading it to write it again would take most of the time.
        self._write(
            f'{"," if self.count else ""}\n{{"type": "Feature", "id": "{identifier}", '
            f'"geometry": {shapely.to_geojson(geometry)}, "properties": {json.dumps(properties)}}}'
        )
        self.count += 1

    def _write(self, text: str) -> None:
        self._file.write(text.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write("\n]}\n")
        self._file.close()
        self._raw.close()
