import numpy as np
import pytest
import shapely
from rasterio import features
from skimage.measure import label

from pathseg.labels.tracing import trace


def by_gdal(labels):
    """Return the outline of each label, as GDAL follows it."""
    shapes = {int(value): shape for shape, value in features.shapes(labels, mask=labels > 0, connectivity=4)}
    return [shapely.geometry.shape(shapes[number]) for number in sorted(shapes)]


@pytest.mark.parametrize("cached", [1, 30, 2**19])
@pytest.mark.parametrize("n_values", [2, 3, 5])
def test_outlines_are_those_of_gdal(monkeypatch, n_values, cached):
    monkeypatch.setattr("pathseg.labels.tracing.CACHED_PIXELS", cached)
    rng = np.random.default_rng(n_values)
    for _ in range(300):
        values = rng.integers(0, n_values, rng.integers(1, 15, 2))
        # With and without a background: where it is none, all labels have neighbours.
        labels = label(values, background=int(rng.integers(-1, 1)), connectivity=1).astype(np.int32)
        found, expected = trace(labels), by_gdal(labels)
        assert len(found) == len(expected) == labels.max()
        assert shapely.is_valid(found).all()
        assert shapely.equals_exact(shapely.normalize(found), shapely.normalize(expected)).all()


def test_outlines_in_a_wide_map_are_those_of_gdal():
    labels = label(np.random.default_rng(1).random((3, 70_000)) > 0.4, connectivity=1).astype(np.int32)
    found, expected = trace(labels), by_gdal(labels)
    assert shapely.equals_exact(shapely.normalize(found), shapely.normalize(expected)).all()


def test_a_region_that_meets_itself_has_a_hole_there():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.int32)
    (polygon,) = trace(labels, 10, 20)
    assert polygon.is_valid
    assert polygon.bounds == (10, 20, 13, 23)
    (hole,) = polygon.interiors
    assert hole.bounds == (11, 21, 12, 22)


def test_nothing_has_no_outline():
    assert trace(np.zeros((3, 4), np.int32)).tolist() == []
