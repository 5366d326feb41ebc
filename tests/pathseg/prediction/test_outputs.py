import gzip
import json

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from shapely.geometry import shape
from skimage.measure import label, regionprops_table
from skimage.segmentation import relabel_sequential

from conftest import pixels_inside
from pathseg.labels.geojson import read_annotations
from pathseg.labels.pieces import number_pieces
from pathseg.labels.separation import reach_of, separate
from pathseg.prediction.answers import Answer, AnswerRows, AnswerWriter
from pathseg.prediction.bands import Band
from pathseg.prediction.outputs import SlideOutputs
from pathseg.scores.objects import connected

NAMES, COLORS = ["stroma", "gland", "nerve"], ["#999999", "#0072b2", "#d55e00"]


SHRINK = 1
REACH = reach_of(SHRINK)


def write(
    tmp_path,
    classes,
    probabilities=None,
    tissue=None,
    downsample=2.0,
    min_area=0,
    height=64,
    mpp=0.25,
    insides=None,
    split_um=None,
    objects="annotation",
    told_apart=(),
    threads=2,
):
    """Write a prediction as an answer, in bands of a height, and make outputs of it, cut as high."""
    probabilities = np.full((3, *classes.shape), 204, np.uint8) if probabilities is None else probabilities
    tissue = np.ones(classes.shape, bool) if tissue is None else tissue
    names = ["classes", "confidence", "about", *(["insides"] if insides is not None else [])]
    paths = {name: tmp_path / f"{name}.answer" for name in names}
    with AnswerWriter(paths, classes.shape[::-1], mpp, 3) as writer:
        for y in range(0, len(classes), height):
            rows = slice(y, y + height)
            inside = None if insides is None else insides[rows]
            writer.add(Band(y, classes[rows], probabilities[:, rows], tissue[rows], inside))
    paths["about"].write_text(json.dumps(about(classes.shape, downsample, mpp)))
    answer = Answer(paths)
    settings = {"min_area_um2": min_area, "split_um": split_um, "objects": objects}
    outputs = {name: tmp_path / name for name in ("annotations", *(["objects"] if insides is not None else []))}
    pieces = number_pieces(answer.tissue()) if told_apart else None
    with SlideOutputs(outputs, answer.about, COLORS, settings, "s", list(told_apart), pieces, threads) as written:
        for rows in answer.rows():
            for top in range(0, len(rows.classes), height):
                part = slice(top, top + height)
                maps = (rows.classes, rows.confidence)
                inside = None if insides is None else rows.insides[part]
                written.add(AnswerRows(rows.y + top, *(each[part] for each in maps), inside))
    features = json.loads(gzip.decompress((tmp_path / "annotations").read_bytes()))["features"]
    return written, features


def about(shape, downsample, mpp):
    """Return what is known of a slide whose model's pixels are so many times as large as its own."""
    width, height = (round(side * downsample) for side in shape[::-1])
    return {
        "width": width,
        "height": height,
        "mpp": mpp,
        "model_width": shape[1],
        "model_height": shape[0],
        "model_mpp": mpp and mpp * width / shape[1],
        "names": NAMES,
        "shrink": SHRINK,
    }


def test_sums_by_hand(tmp_path):
    classes = np.array([[0, 1], [1, 0]], np.uint8)
    probabilities = np.array([[[204, 51], [51, 255]], [[51, 204], [102, 0]], [[0, 0], [102, 0]]], np.uint8)
    tissue = np.array([[True, True], [True, False]])
    outputs, _ = write(tmp_path, classes, probabilities, tissue)
    stroma, gland, nerve = outputs.class_rows()
    assert (stroma["pixels"], gland["pixels"], nerve["pixels"]) == (1, 2, 0)
    assert gland["area_mm2"] == pytest.approx(2 * 0.5**2 / 1e6, abs=1e-6)
    assert (stroma["mean_probability"], gland["mean_probability"]) == (0.8, 0.6)
    assert gland["share_of_tissue"] == pytest.approx(2 / 3, abs=1e-6)
    assert (gland["regions"], nerve["regions"], stroma["regions"]) == (2, 0, None)


@pytest.mark.parametrize("downsample", [1.0, 2.0, 3.7])
def test_annotations_burnt_back_give_the_class_map(tmp_path, rng, downsample):
    classes = (rng.random((20, 30)) * 3).astype(np.uint8).repeat(8, 0).repeat(8, 1)[:150, :230]
    _, features = write(tmp_path, classes, downsample=downsample)
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    width, height = round(230 * downsample), round(150 * downsample)
    burnt = np.zeros_like(classes)
    for annotation in read_annotations(tmp_path / "a.geojson"):
        scale = (230 / width, 150 / height)
        burnt[pixels_inside(annotation.polygon, (0, 0, 230, 150), scale)] = NAMES.index(annotation.name)
    assert (burnt == classes).mean() > 0.999
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "classes.answer"), classes)


def test_small_regions_are_left_out_of_the_annotations_alone(tmp_path):
    classes = np.zeros((50, 50), np.uint8)
    classes[10:20, 10:20] = 1
    classes[30:32, 30:32] = 1
    outputs, features = write(tmp_path, classes, min_area=10)
    assert [shape(feature["geometry"]).area for feature in features] == [400]
    assert features[0]["properties"]["measurements"] == {"Mean probability": 0.8, "Area µm²": 25.0}
    assert outputs.class_rows()[1]["pixels"] == 104


def test_a_giant_region_is_split_and_counted_once(tmp_path):
    classes = np.ones((50, 70), np.uint8)
    outputs, features = write(tmp_path, classes, split_um=10, objects="detection")
    assert outputs.class_rows()[1]["regions"] == 1
    # 10 µm are 20 pixels of the class map, and 40 of the slide.
    assert len(features) == 3 * 4
    assert max(shape(feature["geometry"]).length for feature in features) == 160
    assert {feature["properties"]["objectType"] for feature in features} == {"detection"}
    assert sum(feature["properties"]["measurements"]["Area µm²"] for feature in features) == 50 * 70 / 4
    assert len({feature["id"] for feature in features}) == 12


@pytest.mark.parametrize("height", [16, 37, 5000])
def test_the_thumbnail_does_not_depend_on_the_bands(tmp_path, rng, height):
    classes = rng.integers(0, 2, (40, 4100), dtype=np.uint8)
    outputs, _ = write(tmp_path, classes, height=height)
    np.testing.assert_array_equal(outputs.thumbnail(), classes[1::3, 1::3])


def test_without_a_pixel_size_no_region_is_left_out_and_that_is_said(tmp_path, caplog):
    classes = np.zeros((8, 8), np.uint8)
    classes[3, 3] = 1
    _, features = write(tmp_path, classes, min_area=50, mpp=None)
    assert len(features) == 1
    assert "s: its pixel size is not known, so that regions below min_area_um2 are kept" in caplog.text


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_any_number_of_threads_finds_the_same_in_the_same_order(tmp_path, rng, threads):
    classes = np.digitize(cv2.blur(rng.random((300, 90)).astype(np.float32), (5, 5)), [0.45, 0.55]).astype(np.uint8)
    found = [write(tmp_path, classes, height=7, split_um=6, threads=count)[1] for count in (2, threads)]
    assert found[0] == found[1]
    assert sum(box["geometry"]["type"] == "Polygon" for box in found[0]) > 200


def test_an_error_in_a_thread_is_raised_and_nothing_hangs(tmp_path, monkeypatch):
    def look(self, y, classes, confidence):
        if y >= 70:
            raise MemoryError(f"row {y}")
        return [None, None]

    monkeypatch.setattr("pathseg.prediction.outputs.RegionFinder.look", look)
    with pytest.raises(MemoryError, match="row 70"):
        write(tmp_path, np.ones((300, 90), np.uint8), height=7)


def test_an_error_leaves_the_caller_its_error(tmp_path):
    settings = {"min_area_um2": 0, "split_um": None, "objects": "annotation"}
    paths = {"annotations": tmp_path / "annotations"}
    with pytest.raises(KeyError), SlideOutputs(paths, about((10, 10), 1, None), COLORS, settings, "s", []):
        raise KeyError


def drawn_objects():
    """Return a class map whose class 1 has objects told apart, and what is inside of them."""
    noise = cv2.GaussianBlur(np.random.default_rng(2).random((180, 140)).astype(np.float32), (0, 0), 3)
    classes = np.digitize(noise, np.quantile(noise, [0.3, 0.9])).astype(np.uint8)
    levels = np.digitize(noise, np.quantile(noise, [0.6, 0.75]))
    return classes, np.array([127, 128, 230], np.uint8)[levels]


def told_apart_whole(classes, index, insides):
    """Return the objects of a class in the whole map, numbered without gaps."""
    levels = (insides >= 128).astype(np.uint8) + (insides >= 230)
    return relabel_sequential(separate(classes == index, levels, REACH))[0]


@pytest.mark.parametrize("height", [7, 64, 200])
def test_objects_told_apart_are_those_of_the_whole_map_whatever_the_bands(tmp_path, height):
    classes, insides = drawn_objects()
    outputs, features = write(tmp_path, classes, height=height, insides=insides, told_apart=(1,), mpp=0.25)
    wanted = told_apart_whole(classes, 1, insides)
    table = pd.read_csv(tmp_path / "objects", sep="\t", compression="gzip")
    assert len(table) == wanted.max() > 2 * connected(classes == 1).max()
    of_objects = [f for f in features if f["properties"]["classification"]["name"] == "gland"]
    assert [f["properties"]["measurements"]["Object"] for f in of_objects] == table["object"].tolist()
    # Each area and place is that of one object of the map; a pixel of it has 0.5 µm.
    own = regionprops_table(wanted, properties=("area", "centroid"))
    places = np.stack([own["centroid-1"] + 0.5, own["centroid-0"] + 0.5, own["area"] / 2]).T / 2
    found = table[["x_um", "y_um", "area_um2"]].to_numpy()
    np.testing.assert_allclose(found[np.lexsort(found.T)], places[np.lexsort(places.T.round(2))], atol=0.011)
    rows = outputs.class_rows()
    assert rows[1]["objects"] == rows[1]["regions"] == len(table)
    assert "objects" not in rows[2]
    assert rows[2]["regions"] == len(features) - len(of_objects) == label(classes == 2, connectivity=1).max()


def test_small_objects_are_left_out_of_table_and_outlines_alike(tmp_path):
    classes, insides = drawn_objects()
    _, features = write(tmp_path, classes, insides=insides, told_apart=(1, 2), min_area=5)
    table = pd.read_csv(tmp_path / "objects", sep="\t", compression="gzip")
    assert table["area_um2"].min() >= 5
    assert len(features) == len(table)
    assert set(table["class"]) == {"gland", "nerve"}
    wanted = [told_apart_whole(classes, index, insides) for index in (1, 2)]
    assert len(table) == sum((np.bincount(numbers.ravel())[1:] >= 20).sum() for numbers in wanted)


def test_objects_of_a_slide_without_a_pixel_size_are_measured_in_its_pixels(tmp_path):
    classes, insides = drawn_objects()
    _, features = write(tmp_path, classes, insides=insides, told_apart=(1,), mpp=None)
    table = pd.read_csv(tmp_path / "objects", sep="\t", compression="gzip")
    assert table["area_px2"].sum() == 4 * (told_apart_whole(classes, 1, insides) > 0).sum()
    assert table["x_px"].max() < 280
    assert "Area px²" in features[-1]["properties"]["measurements"] or len(features) > len(table)


@pytest.mark.parametrize("times", [1, 40])
def test_objects_know_their_piece_of_tissue(tmp_path, times):
    """The larger one is the first; a slide of more than 2048 pixels is looked at in steps."""
    classes, insides = (np.tile(each, (1, times)) for each in drawn_objects())
    tissue = np.ones(classes.shape, bool)
    cut = classes.shape[1] // 3
    tissue[:, cut : cut + 12] = False
    classes[~tissue], insides[~tissue] = 0, 0
    write(tmp_path, classes, tissue=tissue, insides=insides, told_apart=(1, 2), mpp=0.25)
    table = pd.read_csv(tmp_path / "objects", sep="\t", compression="gzip")
    assert table["piece"].tolist() == np.where(table["x_um"] * 2 < cut + 6, 2, 1).tolist()
    assert set(table["piece"]) == {1, 2}


def test_no_object_at_all_is_a_table_without_rows(tmp_path):
    classes = np.zeros((40, 40), np.uint8)
    outputs, features = write(tmp_path, classes, insides=classes, told_apart=(1,))
    assert features == []
    table = pd.read_csv(tmp_path / "objects", sep="\t", compression="gzip")
    assert len(table) == 0
    assert table.columns[:4].tolist() == ["object", "class", "piece", "x_um"]
    assert outputs.class_rows()[1]["objects"] == 0
