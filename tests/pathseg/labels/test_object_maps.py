"""A map of objects against the numbers that their outlines were taken from."""

import numpy as np
import pytest
import shapely
from rasterio.features import shapes
from scipy import ndimage

from pathseg.labels.object_maps import ObjectMap


@pytest.fixture
def numbers():
    """Objects of any shape that touch, some with holes, numbered by where they end."""
    rng = np.random.default_rng(6)
    seeds = ndimage.gaussian_filter(rng.normal(size=(333, 210)), 4)
    labels, _ = ndimage.label(seeds > 0.02)
    labels[ndimage.gaussian_filter(rng.normal(size=labels.shape), 3) > 0.1] *= 2
    labels = ndimage.label(np.isin(labels, np.unique(labels)[1::2]))[0] + 500 * (labels % 2) * (labels > 0)
    parts = [(shapely.geometry.shape(found), int(value)) for found, value in shapes(labels.astype(np.int32)) if value]
    parts.sort(key=lambda part: part[0].bounds[3])
    return parts


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_the_map_is_what_the_outlines_enclose(numbers, tmp_path, rows):
    outlines = np.array([polygon for polygon, _ in numbers], object)
    with ObjectMap(tmp_path) as waiting:
        for first in range(0, len(outlines), 10):
            waiting.append(outlines[first : first + 10])
        found = np.concatenate(list(waiting.strips(210, 333, rows)))
    y, x = np.mgrid[:333, :210] + 0.5
    expected = np.zeros((333, 210), int)
    for number, outline in enumerate(outlines, start=1):
        expected[shapely.contains_xy(outline, x, y)] = number
    np.testing.assert_array_equal(found, expected)
    assert len(outlines) > 20
    assert not list(tmp_path.iterdir())


def test_no_object_at_all_is_an_empty_map(tmp_path):
    with ObjectMap(tmp_path) as waiting:
        waiting.append(np.empty(0, object))
        strips = list(waiting.strips(30, 50, 20))
    assert [strip.shape for strip in strips] == [(20, 30), (20, 30), (10, 30)]
    assert not np.concatenate(strips).any()
