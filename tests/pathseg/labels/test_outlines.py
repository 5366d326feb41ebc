import cv2
import numpy as np
import pytest
import shapely

from pathseg.labels.outlines import ComponentFinder, to_full_resolution


def components_of(classes, band_height, n_classes=3):
    finder = ComponentFinder(n_classes)
    probabilities = np.full((n_classes, *classes.shape), 51, np.uint8)
    found = []
    for y in range(0, len(classes), band_height):
        rows = slice(y, y + band_height)
        found += finder.add(y, classes[rows], probabilities[:, rows])
    return [*found, *finder.finish()]


@pytest.mark.parametrize("smooth", [0, 3])
@pytest.mark.parametrize("seed", range(12))
def test_outlines_give_the_class_map_back(smooth, seed):
    rng = np.random.default_rng(seed)
    height, width, band = rng.integers(1, 60, 3)
    noise = rng.random((height, width)).astype(np.float32)
    classes = np.digitize(cv2.blur(noise, (smooth, smooth)) if smooth else noise, [0.45, 0.55]).astype(np.uint8)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    burnt = np.zeros_like(classes)
    components = components_of(classes, int(band))
    for component in components:
        polygon = component.joined()
        assert polygon.is_valid
        assert polygon.geom_type == "Polygon"
        assert polygon.area == component.pixels
        assert component.probability_sum == pytest.approx(component.pixels * 0.2)
        inside = shapely.contains_xy(polygon, x, y)
        assert not burnt[inside].any()
        burnt[inside] = component.class_index
    np.testing.assert_array_equal(burnt, classes)
    counts = [cv2.connectedComponents((classes == c).astype(np.uint8), connectivity=4)[0] - 1 for c in (1, 2)]
    assert len(components) == sum(counts)


def test_a_ring_across_bands_keeps_its_hole():
    classes = np.zeros((40, 40), np.uint8)
    classes[5:35, 5:35] = 1
    classes[15:25, 15:25] = 0
    (component,) = components_of(classes, 7)
    polygon = component.joined()
    assert len(polygon.interiors) == 1
    assert len(polygon.exterior.coords) == 5


def test_diagonal_neighbours_are_two_regions_and_make_a_valid_hole():
    classes = np.ones((4, 4), np.uint8)
    classes[1, 1] = classes[2, 2] = 0
    (component,) = components_of(classes, 4)
    assert component.joined().is_valid
    assert component.joined().area == 14
    assert len(components_of(1 - classes, 4)) == 2


def test_regions_come_as_soon_as_they_end():
    finder = ComponentFinder(2)
    classes = np.zeros((10, 10), np.uint8)
    classes[2:4, 2:4] = 1
    probabilities = np.zeros((2, 10, 10), np.uint8)
    assert len(list(finder.add(0, classes, probabilities))) == 1
    assert not list(finder.finish())


def test_scaling_keeps_corners_together():
    square = shapely.box(1, 1, 3, 3)
    assert to_full_resolution(square, 2.0003, 1.9998).bounds == (2, 2, 6, 6)
