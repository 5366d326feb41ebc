from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops_table
from skimage.segmentation import relabel_sequential

from pathseg.labels.objects import ObjectFinder, measure
from pathseg.labels.outlines import Regions
from pathseg.labels.separation import separate


def found_in_bands(classes, insides, confidence, reach, heights):
    """Return the objects of class 1 of maps that come in bands, as one."""
    finder, found, y = ObjectFinder(1, reach), [], 0
    for height in heights:
        rows = slice(y, y + height)
        found.append(finder.add(classes[rows], insides[rows], confidence[rows]))
        y += height
    found += finder.finish()
    return Regions(*(np.concatenate(values) for values in zip(*(vars(each).values() for each in found), strict=True)))


def burnt(polygons, shape):
    """Return a map in which each polygon has its number from 1."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    numbers = np.zeros(shape, int)
    for number, polygon in enumerate(polygons, start=1):
        inside = shapely.contains_xy(polygon, x, y)
        assert not numbers[inside].any()
        numbers[inside] = number
    return numbers


def drawn(seed, shape, grain=2):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random(shape).astype(np.float32), (0, 0), grain)
    classes = np.digitize(noise, np.quantile(noise, [0.35, 0.95])).astype(np.uint8)
    insides = np.digitize(noise, np.quantile(noise, [0.7, 0.85])).astype(np.uint8)
    return classes, insides, rng.integers(0, 256, shape, dtype=np.uint8)


@given(st.integers(0, 2**32), st.tuples(st.integers(1, 40), st.integers(1, 30)), st.integers(0, 6), st.data())
@settings(max_examples=60, deadline=None)
def test_outlines_and_sums_are_those_of_the_numbered_map_however_it_is_cut(seed, shape, reach, data):
    classes, insides, confidence = drawn(seed, shape)
    heights = []
    while sum(heights) < shape[0]:
        heights.append(data.draw(st.integers(1, shape[0] - sum(heights))))
    objects = found_in_bands(classes, insides, confidence, reach, heights)
    wanted = relabel_sequential(separate(classes == 1, insides, reach))[0]
    numbers = burnt(objects.polygons, shape)
    pairs = np.unique(np.stack([wanted.ravel(), numbers.ravel()]), axis=1)
    # Each wanted object has one number, and each number is of one object.
    assert len(objects) == wanted.max()
    assert pairs.shape[1] == wanted.max() + (wanted == 0).any()
    assert {polygon.geom_type for polygon in objects.polygons} <= {"Polygon"}
    np.testing.assert_array_equal(np.bincount(numbers.ravel(), minlength=len(objects) + 1)[1:], objects.pixels)
    sums = np.bincount(numbers.ravel(), confidence.ravel() / 255, minlength=len(objects) + 1)[1:]
    np.testing.assert_allclose(objects.probability_sums, sums)


@pytest.mark.parametrize("seed", range(4))
def test_measures_are_those_of_scikit_image(seed):
    classes, insides, confidence = drawn(seed, (150, 160), 4)
    objects = found_in_bands(classes, 2 * insides, confidence, 5, [37, 50, 63])
    numbers = burnt(objects.polygons, classes.shape)
    names = ("area", "centroid", "eccentricity", "solidity", "axis_major_length", "axis_minor_length", "perimeter")
    wanted = pd.DataFrame(regionprops_table(numbers, properties=names))
    got = measure(objects)
    assert len(got) > 20
    for name, column in {
        "area": "area",
        "eccentricity": "eccentricity",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length",
    }.items():
        np.testing.assert_allclose(got[name], wanted[column], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got[["y", "x"]] - 0.5, wanted[["centroid-0", "centroid-1"]], atol=1e-9)
    # It counts the pixels of a hull that it has drawn; both have ways of their own to go around corners.
    large = got["area"] > 60
    assert large.sum() > 15
    assert (got["solidity"] - wanted["solidity"])[large].abs().max() < 0.04
    ratio = (got["perimeter"] / wanted["perimeter"])[large]
    assert ratio.mean() == pytest.approx(1.05, abs=0.03)
    assert ratio.between(0.85, 1.35).all()


def test_a_disc_is_measured_as_a_disc_and_a_square_as_a_square():
    y, x = np.mgrid[0:120, 0:240]
    classes = np.zeros((120, 240), np.uint8)
    classes[np.hypot(x - 60, y - 60) < 50] = 1
    classes[20:100, 140:220] = 1
    objects = found_in_bands(classes, 2 * classes, np.full(classes.shape, 51, np.uint8), 3, [50, 70])
    square, disc = measure(objects).sort_values("x", ascending=False).to_dict("records")
    assert square["area"] == 6400
    assert square["perimeter"] == pytest.approx(4 * 80, rel=0.01)
    assert square["solidity"] == 1
    assert (square["x"], square["y"]) == (180, 60)
    assert disc["area"] == pytest.approx(np.pi * 50**2, rel=0.01)
    assert disc["perimeter"] == pytest.approx(2 * np.pi * 50, rel=0.07)
    assert disc["major_axis"] == pytest.approx(100, rel=0.01)
    assert disc["eccentricity"] < 0.05
    assert disc["solidity"] > 0.97
    assert disc["mean_probability"] == pytest.approx(0.2)


def test_far_from_the_origin_an_object_with_a_hole_measures_the_same():
    classes = np.zeros((40, 60), np.uint8)
    classes[5:35, 10:50] = 1
    classes[12:20, 15:45] = 0
    objects = found_in_bands(classes, 2 * classes, classes, 2, [15, 25])
    far = replace(objects, polygons=shapely.transform(objects.polygons, lambda points: points + (200_003, 99_991)))
    pd.testing.assert_frame_equal(
        measure(far), measure(objects) + ([200_003, 99_991] + [0] * 7), check_exact=False, rtol=1e-12
    )


def test_objects_of_a_pixel_and_of_a_line_have_measures():
    classes = np.zeros((8, 12), np.uint8)
    classes[2, 2] = classes[5, 1:10] = 1
    objects = found_in_bands(classes, 2 * classes, classes, 2, [8])
    one, line = measure(objects).sort_values("area").to_dict("records")
    assert one["eccentricity"] == 0
    assert one["solidity"] == 1
    assert (line["eccentricity"], line["minor_axis"], line["solidity"]) == (1, 0, 1)


def test_nothing_is_measured_of_no_object():
    empty = np.zeros((5, 5), np.uint8)
    assert len(measure(found_in_bands(empty, empty, empty, 2, [5]))) == 0
