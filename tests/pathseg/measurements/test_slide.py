"""Areas and numbers of a slide against shapes whose areas are known, and against counts of the test's own."""

import logging
import math

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image, ImageDraw
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import Polygon

from pathseg.errors import ImageError
from pathseg.images.pyramids import PyramidWriter
from pathseg.labels.geojson import Annotation
from pathseg.measurements.margins import Margin, with_margin
from pathseg.measurements.slide import WHOLE_SLIDE, SlideSums, regions_of, sums_of_map

NAMES = ["glass", "tumour", "stroma"]
MPP = 2.0
MM2 = MPP**2 / 1e6
# Finest pixels per pixel of the map, which differ by axis as they do where a side is no multiple.
SCALE = 0.25, 0.2503


def in_finest(polygon):
    """Return a polygon of the map in the slide's finest pixels."""
    return shapely.transform(polygon, lambda points: points / SCALE)


def summed(tmp_path, classes, **options):
    """Return the sums of a map that has been written as slides' maps are, by region, band and class."""
    path = tmp_path / "classes.tif"
    with PyramidWriter(path, classes.shape[1], classes.shape[0], MPP, ["#000000", "#ff0000", "#00ff00"]) as writer:
        for top in range(0, len(classes), 300):
            writer.append(classes[top : top + 300])
    sums = SlideSums(NAMES, SCALE, MM2, **({"regions": {}, "margin": None} | options))
    sums_of_map(path, sums)
    return sums.table().set_index(["region", "band", "class"])


def disc(shape, row, column, radius):
    """Return which pixels have their middle in a disc."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return np.hypot(y - row, x - column) < radius


def test_areas_of_drawn_regions_are_those_of_their_shapes(tmp_path):
    """Larger than the squares that the map is gone through in, so that regions are cut by them."""
    shape = (2500, 4300)
    classes = np.zeros(shape, np.uint8)
    classes[:, 2000:] = 2
    classes[disc(shape, 1200, 2000, 700)] = 1
    ring = Polygon([(1000, 200), (3000, 200), (3000, 2200), (1000, 2200)], [[(1500, 900), (1900, 900), (1900, 1700)]])
    corner = Polygon([(4000, 2200), (4600, 2200), (4600, 2700), (4000, 2700)])
    table = summed(tmp_path, classes, regions={"ring": [in_finest(ring)], "two": [in_finest(corner), in_finest(ring)]})
    areas = table["area_mm2"]
    for number, name in enumerate(NAMES):
        assert areas[WHOLE_SLIDE, "", name] == pytest.approx((classes == number).sum() * MM2, rel=1e-12)
    assert areas["ring"].sum() == pytest.approx(ring.area * MM2, rel=1e-3)
    # What lies beyond the slide is not measured: 300 x 300 pixels of the corner are on it, all stroma.
    assert (areas["two"] - areas["ring"]).tolist() == pytest.approx([0, 0, 90_000 * MM2], abs=700 * MM2)
    picture = Image.new("1", shape[::-1])
    ImageDraw.Draw(picture).polygon(list(ring.exterior.coords), fill=1)
    ImageDraw.Draw(picture).polygon(list(ring.interiors[0].coords), fill=0)
    for number, name in enumerate(NAMES):
        expected = (np.asarray(picture) & (classes == number)).sum() * MM2
        assert areas["ring", "", name] == pytest.approx(expected, rel=5e-3)
    assert table["objects"].isna().all()


def test_margins_of_a_disc_are_rings(tmp_path):
    radius, shape = 500, (2300, 2400)
    classes = np.full(shape, 2, np.uint8)
    inside = disc(shape, 1150, 1200, radius)
    classes[inside] = 1
    outline = in_finest(shapely.Point(1200, 1150).buffer(radius, 256))
    margin = Margin([outline], SCALE, [100, 400], MPP, shape[::-1])
    areas = summed(tmp_path, classes, margin=margin)["area_mm2"][WHOLE_SLIDE]
    assert margin.names == ["inside 0-100 µm", "inside 100-400 µm", "outside 0-100 µm", "outside 100-400 µm"]
    edges = {"inside": (500, 450, 300), "outside": (500, 550, 700)}
    for side, class_ in (("inside", "tumour"), ("outside", "stroma")):
        for begin, end, band in zip(edges[side], edges[side][1:], ("0-100", "100-400"), strict=False):
            area = math.pi * abs(begin**2 - end**2) * MM2
            # The border runs along pixels: half of one more or less.
            half_a_pixel = math.pi * (begin + end) * 0.5 * MM2
            assert areas[f"{side} {band} µm", class_] == pytest.approx(area, abs=half_a_pixel)
            assert areas[f"{side} {band} µm"].sum() == pytest.approx(area, abs=half_a_pixel)


def test_margins_are_those_of_the_whole_map_and_the_rim_is_no_border():
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.normal(size=(300, 420)), 18)
    inside = noise > 0
    polygons = outlines_of(inside)
    margin = Margin(polygons, (1.0, 1.0), [7, 21], 1.0, (420, 300))
    found = np.zeros(inside.shape, np.uint8)
    for y in range(0, 300, 90):
        for x in range(0, 420, 110):
            height, width = min(90, 300 - y), min(110, 420 - x)
            found[y : y + height, x : x + width] = margin.bands(x, y, width, height)
    expected = np.zeros(inside.shape, np.uint8)
    for first, side in ((1, inside), (3, ~inside)):
        distance = ndimage.distance_transform_edt(side) - 0.5
        expected[side & (distance < 21)] = first + 1
        expected[side & (distance < 7)] = first
    # OpenCV's distances are single precision, and some lie just at an edge.
    assert (found != expected).mean() < 1e-3
    assert set(np.unique(expected)) == {0, 1, 2, 3, 4}


def outlines_of(mask):
    """Return the polygons of a mask along pixel edges."""
    return [shapely.geometry.shape(found) for found, value in shapes(mask.astype(np.uint8)) if value == 1]


def test_what_is_small_has_no_margin():
    island, lake = shapely.box(0, 0, 5, 5), [(30, 30), (35, 30), (35, 35), (30, 35)]
    large = Polygon([(10, 10), (100, 10), (100, 100), (10, 100)], [lake, [(40, 40), (80, 40), (80, 80), (40, 80)]])
    (kept,) = with_margin([island, large], 100)
    assert kept.area == 90 * 90 - 40 * 40
    assert [polygon.area for polygon in with_margin([island, large], 0)] == [large.area, 25]


def test_nothing_of_the_class_has_no_margin():
    assert not Margin([], SCALE, [10], 1.0, (50, 50)).bands(0, 0, 50, 50).any()


def test_objects_are_counted_where_their_middle_is(tmp_path):
    rng = np.random.default_rng(4)
    shape = (2200, 2300)
    objects = pd.DataFrame({"x": rng.uniform(0, 2300, 5000), "y": rng.uniform(0, 2200, 5000)})
    objects["class"] = rng.choice(["tumour", "stroma"], 5000)
    region = shapely.box(300, 100, 2200, 2150)
    margin = Margin([in_finest(shapely.box(1000, 0, 2300, 2200))], SCALE, [200], MPP, shape[::-1])
    table = summed(
        tmp_path,
        np.ones(shape, np.uint8),
        regions={"all of it": [in_finest(region)]},
        margin=margin,
        objects=objects,
        told_apart=["tumour", "stroma"],
    )["objects"]
    tumour = objects[objects["class"] == "tumour"]
    assert table[WHOLE_SLIDE, "", "tumour"] == len(tumour)
    within = (tumour["x"].between(300, 2200)) & (tumour["y"].between(100, 2150))
    assert table["all of it", "", "tumour"] == pytest.approx(within.sum(), abs=3)
    near = within & tumour["x"].between(900, 1000)
    assert table["all of it", "outside 0-200 µm", "tumour"] == pytest.approx(near.sum(), abs=3)
    assert np.isnan(table[WHOLE_SLIDE, "", "glass"])


def annotation(polygon, name="Region*", title=None):
    """Return a region as QuPath exports it."""
    return Annotation(name, polygon, title)


def test_regions_are_called_by_their_own_name_or_that_of_their_class():
    boxes = [shapely.box(number * 10, 0, number * 10 + 9, 9) for number in range(4)]
    found = regions_of(
        [
            annotation(boxes[0], "Tumour bed", "left"),
            annotation(boxes[1], "Tumour bed"),
            annotation(boxes[2], "Tumour bed"),
            annotation(boxes[3], None),
        ],
        "a.geojson",
        100,
        100,
    )
    assert {name: len(polygons) for name, polygons in found.items()} == {"left": 1, "Tumour bed": 2, "region 4": 1}


def test_what_is_odd_about_regions_is_said_and_nothing_lost(caplog):
    regions = [annotation(shapely.box(0, 0, 60, 60), title="a"), annotation(shapely.box(40, 40, 140, 90), title="b")]
    with caplog.at_level(logging.WARNING, "pathseg"):
        assert set(regions_of(regions, "a.geojson", 100, 100)) == {"a", "b"}
    assert "40.0 % of region 'b' lie outside of the slide" in caplog.text
    assert "regions 'a' and 'b' overlap" in caplog.text


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([], "holds no region"),
        ([annotation(shapely.box(200, 0, 300, 90), title="far")], "'far' lies outside of the slide"),
        ([annotation(shapely.box(0, 0, 9, 9), title="Whole slide")], "stands for the slide; rename it"),
    ],
)
def test_regions_that_cannot_be_measured(regions, words):
    with pytest.raises(ImageError, match=words):
        regions_of(regions, "a.geojson", 100, 100)
