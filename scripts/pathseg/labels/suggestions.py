"""Suggested regions for QuPath: each a rectangle that is still to do, with a model's annotations in it to correct."""

import json
import uuid
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import mapping

from pathseg.colors import rgb_of
from pathseg.files import atomic_path
from pathseg.labels.geojson import Annotation
from pathseg.labels.regions import REGION_CLASS, TO_DO, cut_to

_NAMESPACE = uuid.UUID("5b0f3c1d-0d53-4b53-9a51-6c0f6ab0f2a4")
# QuPath's own colour of the class.
REGION_COLOR = "#0000b4"


def write_suggestions(
    path: str | Path, boxes: dict[str, shapely.Polygon], predicted: list[Annotation], colors: dict[str, str], key: str
) -> None:
    """Write regions to annotate, and what is predicted in them, as QuPath imports it.

    Parameters
    ----------
    path
        GeoJSON file.
    boxes
        The regions by what they are called after "to do", in the slide's finest pixels.
    predicted
        Annotations of the slide; what of them lies in a region is written.
    colors
        Of the classes, by name, as #rrggbb.
    key
        What identifiers are made from: the same key and place give the same.
    """
    features = []
    for name, box in boxes.items():
        # Locked, so that a click into it does not move it; what is in it is free to be changed.
        about = {"name": f"{TO_DO} {name}", "isLocked": True}
        features.append(_feature(box, REGION_CLASS, REGION_COLOR, key, about))
        features += [
            _feature(part.polygon, str(part.name), colors[str(part.name)], key, {}) for part in cut_to(predicted, [box])
        ]
    with atomic_path(path) as temporary:
        lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
        temporary.write_text(f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n', encoding="utf-8")


def _feature(polygon: shapely.Polygon, name: str, color: str, key: str, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{key}/{name}/{polygon.wkt}")),
        "geometry": mapping(polygon),
        "properties": {
            "objectType": "annotation",
            **about,
            "classification": {"name": name, "color": rgb_of(color)},
        },
    }
