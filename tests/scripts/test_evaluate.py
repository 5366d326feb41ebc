import json
import shutil

import cv2
import evaluate
import numpy as np
import pytest
import torch
from evaluate import Scoring, add_shapes, count_image

from conftest import CLASSES, small_unet, write_image
from pathseg.errors import ImageError
from pathseg.files import file_digest
from pathseg.labels import tissue
from pathseg.labels.label_maps import check_instances
from pathseg.labels.values import IGNORE
from pathseg.prediction import comparing
from pathseg.prediction.inference import Predictor
from pathseg.scores.counts import Counts, PatientCounts, one_or_both
from pathseg.scores.objects import OBJECT_COUNTS
from pathseg.scores.tables import score_table


@pytest.fixture
def row(tmp_path, tissue_field):
    """A row of the split table: an image of 256 x 192 pixels, with its mask."""
    image, epithelium = tissue_field
    paths = {
        "image": str(write_image(tmp_path / "i.png", image)),
        "mask": str(write_image(tmp_path / "m.png", epithelium.astype(np.uint8) * 255)),
    }
    return {"sample": "s", "patient": "p", "instances": None, "mpp": 0.5} | paths


SETTINGS = {"tile": None, "tissue": "none", "tissue_holes_um2": 4e6}


def count(row, mpp=1.0, tta=False, networks=1, **settings):
    """Count an image with random networks that work at so many µm per pixel."""
    predictor = Predictor([small_unet(seed) for seed in range(networks)], torch.device("cpu"), torch.float32, tta)
    scoring = Scoring(CLASSES, None, "ignore", 3.0)
    return count_image(row, predictor, {"mpp": mpp, "resize": None}, SETTINGS | settings, scoring)[0]


def test_a_copy_of_a_training_image_is_not_scored(row, tmp_path):
    copy = tmp_path / "of another patient.png"
    shutil.copy(row["image"], copy)
    evaluate.refuse_copies([row], [{"training_images": ["0" * 64]}, {"training_images": []}])
    with pytest.raises(ImageError, match="another patient.png: sample 's' of patient 'p' is a copy of an image that"):
        evaluate.refuse_copies([row | {"image": str(copy)}], [{"training_images": [file_digest(row["image"])]}])


def test_a_copy_of_a_validation_image_is_no_test(row, tmp_path):
    """The epoch was chosen with it, and probabilities were fitted to it."""
    copy = row | {"sample": "t", "patient": "q", "image": str(tmp_path / "copy.png")}
    shutil.copy(row["image"], copy["image"])
    with pytest.raises(ImageError, match=r"copy\.png: sample 't' of patient 'q' is a copy of the image of sample 's'"):
        evaluate.refuse_copies([row, copy], [{"training_images": []}])


@pytest.mark.parametrize("mpp", [0.3, 0.5, 1.0, 1.7])
def test_each_pixel_of_the_mask_counts_once(row, mpp):
    """Whatever the resolution of the model is, so that coarse and fine models can be compared."""
    counts = count(row, mpp)
    assert counts.confusion.sum() == counts.confidence.sum() == 256 * 192
    assert (counts.histogram.sum(axis=(1, 2)) == 256 * 192).all()
    assert counts.objects[1, 0] > 0
    assert not counts.objects[0].any()


def test_flips_and_the_mean_of_models_are_scored(row):
    """As `prediction.tta` and several models deliver them."""
    plain, turned, mean = (count(row).histogram, count(row, tta=True).histogram, count(row, networks=2).histogram)
    assert (plain != turned).any()
    assert (plain != mean).any()


def test_what_the_search_for_tissue_takes_is_scored_as_delivered(row, tmp_path, monkeypatch):
    """The left half of the image is glass, and of the second class by hand."""
    monkeypatch.setattr(tissue, "LARGEST_PLAIN_PIXELS", 0)  # an image of this size is not searched
    image = cv2.imread(row["image"])
    image[:, :128] = 240
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:, :200] = 255
    row = row | {
        "image": str(write_image(tmp_path / "g.png", image)),
        "mask": str(write_image(tmp_path / "h.png", mask)),
    }
    everywhere, found = count(row), count(row, tissue="auto")
    assert everywhere.unseen.sum() == 0
    # The margin around the tissue is 16 µm, 32 of these pixels, and the search blurs at 4 µm.
    assert 72 * 192 < found.unseen[1] <= 96 * 192
    assert found.unseen[0] == 0
    # What is not looked at is background with certainty, but for the pixels between the middles at its edge.
    assert found.confidence[255, 0] > 0.97 * found.unseen[1]
    assert found.confusion[1, 0] > 0.99 * found.unseen[1]


@pytest.mark.parametrize(("largest", "pixels"), [(2**26, 256 * 192), (256 * 192 - 1, 128 * 96)])
def test_annotations_have_the_images_pixels_unless_these_are_too_many(row, tmp_path, monkeypatch, largest, pixels):
    ring = [[0, 0], [256, 0], [256, 192], [0, 192], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "epithelium"}},
    }
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    monkeypatch.setattr(comparing, "LARGEST_WHOLE", largest)
    assert count(row | {"mask": str(tmp_path / "a.geojson")}).confusion.sum() == pixels


def test_distances_are_in_um(row):
    """A true square of 10 pixels, found 4 pixels too narrow."""
    truth, predicted = np.zeros((2, 20, 30), np.uint8)
    truth[5:15, 5:15], predicted[5:15, 5:11] = 1, 1
    for mpp in (0.5, 2.0):
        counts = Counts.zeros(2)
        add_shapes(counts, truth, predicted, None, mpp, boundary_um=1.0)
        found = dict(zip(OBJECT_COUNTS, counts.objects[1], strict=True))
        assert found["true_hausdorff"] / found["true_near_area"] == pytest.approx(4 * mpp)
    counts = Counts.zeros(2)
    add_shapes(counts, truth, predicted, None, None, boundary_um=1.0)
    assert counts.objects[1, :3].tolist() == [1, 1, 1]
    assert not counts.boundary.any()


def test_touching_objects_are_two_if_they_are_numbered(row, tmp_path):
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, 5:25] = 1
    numbers = np.where(truth, np.where(np.arange(30) < 15, 1, 2), 0)
    for given, expected in ((None, 1), (numbers, 2)):
        counts = Counts.zeros(2)
        add_shapes(counts, truth, truth, given, 1.0, 1.0)
        assert counts.objects[1, 0] == expected
    assert one_or_both({"instances", "components"}) == "both"
    assert one_or_both({"instances"}) == "instances"


def test_what_is_ignored_is_neither_wrong_nor_an_object():
    truth, predicted = np.full((20, 30), IGNORE, np.uint8), np.ones((20, 30), np.uint8)
    truth[:, :10] = 0
    predicted[:, :10] = 0
    counts = Counts.zeros(2)
    add_shapes(counts, truth, predicted, None, 1.0, 1.0)
    assert not counts.objects.any()
    assert not counts.boundary.any()


def test_numbers_that_do_not_fit_the_mask_are_refused(row, tmp_path):
    mask = cv2.imread(row["mask"], cv2.IMREAD_UNCHANGED)
    numbers = cv2.connectedComponents(mask)[1].astype(np.uint16)
    row["instances"] = str(write_image(tmp_path / "n.png", numbers))
    assert count(row).objects[1, 0] == numbers.max()
    write_image(tmp_path / "n.png", np.roll(numbers, 9, axis=1))
    with pytest.raises(ImageError, match=r"n\.png: does not fit its mask"):
        count(row)


def test_classes_without_numbers_are_connected_parts():
    """Glands are numbered, the stroma around them is none of objects."""
    truth = np.ones((20, 30), np.uint8)
    truth[:, :4] = 0
    truth[5:15, 10:20] = 2
    numbers = np.where(truth == 2, 7, 0)
    check_instances("n.png", "m.png", numbers, truth)
    counts = Counts.zeros(3)
    add_shapes(counts, truth, truth, numbers, 1.0, 1.0)
    assert counts.objects[:, 0].tolist() == [0, 1, 1]


def test_what_is_too_large_for_objects_is_counted(row, monkeypatch):
    monkeypatch.setattr(comparing, "LARGEST_WHOLE", 1000)
    counts = count(row)
    assert counts.too_large == 1
    assert not counts.objects.any()
    patients = PatientCounts(["test"], ["P"], [counts + counts], "components")
    table = score_table(patients, ["stroma", "epithelium"])
    assert set(table.loc[table["score"] == "pq", "images_too_large"]) == {2}
    assert set(table.loc[table["score"] == "dice", "images_too_large"]) == {0}


def test_objects_per_mm2(row):
    """Three true objects, two predicted ones, on 256 x 192 pixels of 0.5 µm less what is ignored."""
    truth, predicted = np.zeros((2, 192, 256), np.uint8)
    truth[:, 200:] = IGNORE
    truth[10:20, 10:20] = truth[10:20, 40:50] = truth[50:60, 50:60] = 1
    predicted[10:20, 10:50] = predicted[100:110, 100:110] = 1
    counts = Counts.zeros(2)
    add_shapes(counts, truth, predicted, None, 0.5, 1.0)
    mm2 = 192 * 200 * 0.25e-6
    patients = PatientCounts(["test"] * 5, list("ABCDE"), [counts, *[counts + counts] * 4], "components")
    table = score_table(patients, ["stroma", "epithelium"])
    rows = table[(table["class"] == "epithelium") & (table["over"] == "pooled")].set_index("score")
    assert rows.loc["object_density_true", "value"] == pytest.approx(3 / mm2)
    assert rows.loc["object_density", "value"] == pytest.approx(2 / mm2)
    assert rows.loc["object_count_ratio", "value"] == pytest.approx(2 / 3)
    without = Counts.zeros(2)
    add_shapes(without, truth, predicted, None, None, 1.0)
    table = score_table(PatientCounts(["test"] * 2, ["A", "B"], [counts, without], "components"), ["s", "e"])
    assert table.loc[table["score"] == "object_density", "value"].isna().sum() == 1
