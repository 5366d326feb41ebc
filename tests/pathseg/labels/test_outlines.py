import cv2
import numpy as np
import pytest
import shapely

from pathseg.labels.outlines import RegionFinder, Regions, split_along_grid


def regions_of(classes, band_height, n_classes=3):
    """Return class, polygon, pixels and sum of probabilities of each region of a map that comes in bands."""
    finder = RegionFinder(range(1, n_classes))
    found = []
    for y in range(0, len(classes), band_height):
        rows = classes[y : y + band_height]
        found += finder.add(finder.look(y, rows, np.full(rows.shape, 51, np.uint8)), rows.shape[1])
    found += finder.finish()
    return [region for regions in found for region in zip(*vars(regions).values(), strict=True)]


@pytest.mark.parametrize("smooth", [0, 3])
@pytest.mark.parametrize("seed", range(12))
def test_outlines_give_the_class_map_back(monkeypatch, smooth, seed):
    # Sums of several strips.
    monkeypatch.setattr("pathseg.labels.outlines.CACHED_PIXELS", 200)
    rng = np.random.default_rng(seed)
    height, width, band = rng.integers(1, 60, 3)
    noise = rng.random((height, width)).astype(np.float32)
    classes = np.digitize(cv2.blur(noise, (smooth, smooth)) if smooth else noise, [0.45, 0.55]).astype(np.uint8)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    burnt = np.zeros_like(classes)
    regions = regions_of(classes, int(band))
    for class_index, polygon, pixels, probability_sum in regions:
        assert polygon.is_valid
        assert polygon.geom_type == "Polygon"
        assert polygon.area == pixels
        assert probability_sum == pytest.approx(pixels * 0.2)
        # No corner that is none: the outline is as short as it can be.
        assert len(shapely.get_coordinates(polygon)) == len(shapely.get_coordinates(polygon.simplify(0)))
        inside = shapely.contains_xy(polygon, x, y)
        assert not burnt[inside].any()
        burnt[inside] = class_index
    np.testing.assert_array_equal(burnt, classes)
    counts = [cv2.connectedComponents((classes == c).astype(np.uint8), connectivity=4)[0] - 1 for c in (1, 2)]
    assert len(regions) == sum(counts)


def test_a_ring_across_bands_keeps_its_hole():
    classes = np.zeros((40, 40), np.uint8)
    classes[5:35, 5:35] = 1
    classes[15:25, 15:25] = 0
    ((_, polygon, _, _),) = regions_of(classes, 7)
    assert len(polygon.interiors) == 1
    assert len(polygon.exterior.coords) == 5


def test_diagonal_neighbours_are_two_regions_and_make_a_valid_hole():
    classes = np.ones((4, 4), np.uint8)
    classes[1, 1] = classes[2, 2] = 0
    ((_, polygon, _, _),) = regions_of(classes, 4)
    assert polygon.is_valid
    assert polygon.area == 14
    assert len(regions_of(1 - classes, 4)) == 2


def test_regions_come_as_soon_as_they_end():
    finder = RegionFinder([1])
    classes = np.zeros((10, 10), np.uint8)
    classes[2:4, 2:4] = 1
    bands = finder.look(0, classes, np.zeros((10, 10), np.uint8))
    assert sum(len(regions) for regions in finder.add(bands, 10)) == 1
    assert not sum(len(regions) for regions in finder.finish())


@pytest.mark.parametrize("step", [1, 7, 16])
def test_long_regions_are_cut_along_a_grid_and_nothing_is_lost(rng, step):
    classes = (cv2.blur(rng.random((60, 90)).astype(np.float32), (9, 9)) > 0.5).astype(np.uint8)
    finder = RegionFinder([1])
    bands = finder.look(0, classes, np.full(classes.shape, 102, np.uint8))
    found = [*finder.add(bands, classes.shape[1]), *finder.finish()]
    regions = Regions(
        *(np.concatenate(values) for values in zip(*(vars(each).values() for each in found), strict=True))
    )
    cut = split_along_grid(regions, step)
    bounds = shapely.bounds(cut.polygons)
    assert (bounds[:, 2:] - bounds[:, :2]).max() <= step
    assert {polygon.geom_type for polygon in cut.polygons} == {"Polygon"}
    assert shapely.is_valid(cut.polygons).all()
    assert shapely.union_all(cut.polygons).equals(shapely.union_all(regions.polygons))
    np.testing.assert_array_equal(shapely.area(cut.polygons), cut.pixels)
    assert cut.pixels.sum() == classes.sum()
    assert cut.probability_sums == pytest.approx(0.4 * cut.pixels)


def test_short_regions_are_left_alone_and_keep_their_mean():
    one, other = shapely.box(3, 0, 9, 6), shapely.box(0, 0, 20, 2)
    regions = Regions(np.array([1, 1]), np.array([one, other]), np.array([36, 40]), np.array([18.0, 30.0]))
    cut = split_along_grid(regions, 8)
    assert cut.polygons[0] is one
    assert sorted(polygon.bounds[0] for polygon in cut.polygons[1:]) == [0, 8, 16]
    assert (cut.probability_sums / cut.pixels).tolist() == [0.5, 0.75, 0.75, 0.75]
