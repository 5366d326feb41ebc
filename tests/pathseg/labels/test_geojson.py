import gzip
import json
import uuid

import numpy as np
import shapely
from shapely.geometry import shape

from pathseg.labels.geojson import AnnotationWriter


def test_annotations_are_as_qupath_reads_them(tmp_path):
    polygons = [shapely.box(0, 0, 4, 4) - shapely.box(1, 1, 2, 2), shapely.box(10, 0, 12, 5)]
    with AnnotationWriter(
        tmp_path / "a.geojson.gz", ["stroma", "gland"], ["#999999", "#0072b2"], (1, 1), "slide"
    ) as writer:
        writer.append(np.array([1]), np.array(polygons[:1]), {"Area µm²": np.array([15.0])})
        writer.append(np.array([1]), np.array(polygons[1:]), {"Area µm²": np.array([15.0])})
    with gzip.open(tmp_path / "a.geojson.gz", "rt", encoding="utf-8") as file:
        collection = json.load(file)
    assert collection["type"] == "FeatureCollection"
    for feature, polygon in zip(collection["features"], polygons, strict=True):
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert shape(feature["geometry"]).equals(polygon)
        assert feature["properties"] == {
            "objectType": "annotation",
            "classification": {"name": "gland", "color": [0, 114, 178]},
            "measurements": {"Area µm²": 15.0},
        }
    assert len({feature["id"] for feature in collection["features"]}) == 2


def test_corners_are_rounded_to_hundredths_of_the_finest_pixels(tmp_path):
    first, second = (
        shapely.box(1, 1, 3, 3),
        shapely.box(2, 0, 700, 9) - shapely.box(5, 5, 6, 6) - shapely.box(8, 1, 9, 2),
    )
    with AnnotationWriter(tmp_path / "a.gz", ["x", "y"], ["#000000", "#ffffff"], (2.0003, 3.99968), "slide") as writer:
        for polygon in (first, second):
            writer.append(np.array([1]), np.array([polygon]), {})
    found = [
        shape(each["geometry"]) for each in json.loads(gzip.decompress((tmp_path / "a.gz").read_bytes()))["features"]
    ]
    # 2.0003 and 6.0009 by 3.99968 and 11.99904.
    assert found[0].bounds == (2, 4, 6, 12)
    scaled = shapely.transform(second, lambda points: np.round(points * (2.0003, 3.99968), 2))
    assert found[1].equals_exact(scaled)
    assert len(found[1].interiors) == 2


def test_polygons_that_another_thread_works_on_are_written(tmp_path):
    polygons = np.array([shapely.box(0, 0, 4, 4)])
    # As shapely leaves an array while it works on it.
    polygons.flags.writeable = False
    with AnnotationWriter(tmp_path / "a", ["x", "y"], ["#000000", "#ffffff"], (1, 1), "slide") as writer:
        writer.append(np.array([1]), polygons, {})
    assert len(json.loads(gzip.decompress((tmp_path / "a").read_bytes()))["features"]) == 1


def test_the_same_annotations_give_the_same_file(tmp_path):
    for name in ("a", "b"):
        with AnnotationWriter(tmp_path / name, ["x", "y"], ["#000000", "#ffffff"], (1, 1), "slide") as writer:
            writer.append(np.array([1]), np.array([shapely.box(0, 0, 1, 1)]), {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_annotations_the_file_is_valid(tmp_path):
    with AnnotationWriter(tmp_path / "a", ["x", "y"], ["#000000", "#ffffff"], (1, 1), "slide"):
        pass
    assert json.loads(gzip.decompress((tmp_path / "a").read_bytes()))["features"] == []
