import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import pixels_inside
from pathseg.labels import drawing
from pathseg.labels.drawing import PolygonDrawing


def blob(rng, side=60):
    """A polygon, often with a hole."""
    shapes = [shapely.Point(*rng.uniform(0, side, 2)).buffer(rng.uniform(2, side / 2.4)) for _ in range(4)]
    return max(shapely.get_parts(shapely.union_all(shapes[:3]) - shapes[3]), key=shapely.area)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_a_pixel_is_inside_if_its_centre_is(seed):
    rng = np.random.default_rng(seed)
    polygon, scale = blob(rng), rng.uniform(0.3, 1.5, 2)
    x, y = rng.integers(-5, 20, 2)
    inside = pixels_inside(polygon, (x, y, 40, 30), tuple(scale))
    rows, columns = np.mgrid[y : y + 30, x : x + 40] + 0.5
    np.testing.assert_array_equal(inside, shapely.contains_xy(polygon, columns / scale[0], rows / scale[1]))


def test_pixel_edges_are_exact():
    polygon = shapely.box(1, 2, 3, 5) - shapely.box(2, 3, 3, 4)
    assert pixels_inside(polygon, (0, 0, 6, 6), (1, 1)).sum() == polygon.area


@pytest.mark.parametrize("large", [0, 800, 10**9])
def test_later_polygons_cover_earlier_ones_wherever_the_cut_is(monkeypatch, rng, large):
    """Small ones are drawn together, large ones one by one; there may be both."""
    monkeypatch.setattr(drawing, "LARGE_PIXELS", large)
    monkeypatch.setattr(drawing, "PIXELS_AT_A_TIME", 500)
    polygons = [shapely.affinity.translate(blob(rng, 30), *rng.uniform(-10, 100, 2)) for _ in range(25)]
    polygons += [shapely.box(*rng.integers(0, 60, 2), *rng.integers(60, 120, 2)) for _ in range(5)]
    expected = np.zeros((60, 70), np.uint8)
    for value, polygon in enumerate(polygons, start=1):
        expected[pixels_inside(polygon, (0, 0, 70, 60), (0.5, 0.5))] = value
    drawn = PolygonDrawing(polygons, list(range(1, 31)), (0.5, 0.5))
    whole = np.zeros((60, 70), np.uint8)
    drawn.draw(whole, 0, 0)
    np.testing.assert_array_equal(whole, expected)
    for _ in range(10):
        x, y = rng.integers(0, 50, 2)
        part = np.zeros((9, 17), np.uint8)
        drawn.draw(part, x, y)
        np.testing.assert_array_equal(part, whole[y : y + 9, x : x + 17])


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 8])
def test_regions_with_whole_coordinates_stay_where_they_are(factor):
    """Halved, every second of their edges runs through centres of pixels."""
    places = []
    for start in range(100, 148):
        box = shapely.box(start, start, start + 7 * factor + 97, start + 7 * factor + 97)
        inside = pixels_inside(box, (0, 0, 400, 400), (1 / factor, 1 / factor))
        rows, columns = np.nonzero(inside)
        centre = (2 * start + 7 * factor + 97) / 2 / factor
        places.append((columns.mean() + 0.5 - centre, rows.mean() + 0.5 - centre))
    assert np.abs(np.mean(places, axis=0)).max() < 0.02


def test_many_small_polygons_on_a_wide_slide_take_seconds():
    """Each was drawn over the whole width: these would have taken an hour."""
    rng = np.random.default_rng(0)
    side = 80_000
    places, radii = rng.uniform(0, side, (50_000, 2)), rng.uniform(8, 25, 50_000)
    nuclei = list(shapely.buffer(shapely.points(places), radii, quad_segs=4))
    started, area = time.process_time(), 0
    drawn = PolygonDrawing(nuclei, [1] * len(nuclei), (0.5, 0.5))
    for y in range(0, side // 2, 1000):
        strip = np.zeros((1000, side // 2), np.uint8)
        drawn.draw(strip, 0, y)
        area += int(strip.sum(dtype=np.int64))
    assert time.process_time() - started < 30
    assert area == pytest.approx(shapely.area(nuclei).sum() / 4, rel=0.03)  # some overlap
