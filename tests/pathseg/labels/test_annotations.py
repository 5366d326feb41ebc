import gzip
import json

import numpy as np
import pytest
import shapely
from shapely.geometry import mapping

from pathseg.labels.geojson import pixels_inside, read_annotations


def feature(geometry, name="tumour"):
    return {"type": "Feature", "geometry": mapping(geometry), "properties": {"classification": {"name": name}}}


@pytest.mark.parametrize("seed", range(8))
def test_a_pixel_is_inside_if_its_centre_is(seed):
    rng = np.random.default_rng(seed)
    shapes = [shapely.Point(*rng.uniform(0, 60, 2)).buffer(rng.uniform(2, 25)) for _ in range(4)]
    polygon = max(shapely.get_parts(shapely.union_all(shapes[:3]) - shapes[3]), key=shapely.area)
    scale = rng.uniform(0.3, 1.5, 2)
    x, y = rng.integers(-5, 20, 2)
    inside = pixels_inside(polygon, (x, y, 40, 30), tuple(scale))
    rows, columns = np.mgrid[y : y + 30, x : x + 40] + 0.5
    np.testing.assert_array_equal(inside, shapely.contains_xy(polygon, columns / scale[0], rows / scale[1]))


def test_pixel_edges_are_exact():
    polygon = shapely.box(1, 2, 3, 5) - shapely.box(2, 3, 3, 4)
    assert pixels_inside(polygon, (0, 0, 6, 6), (1, 1)).sum() == polygon.area


@pytest.mark.parametrize("wrap", [lambda f: {"type": "FeatureCollection", "features": f}, lambda f: f, lambda f: f[0]])
@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_forms_of_files(tmp_path, name, wrap):
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(5, 5, 9, 9) - shapely.box(6, 6, 7, 7)])
    text = json.dumps(wrap([feature(parts)])).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    annotations = read_annotations(tmp_path / name)
    assert [annotation.polygon.area for annotation in annotations] == [4, 15]
    assert {annotation.name for annotation in annotations} == {"tumour"}
