import numpy as np
import pytest
import torch
from evaluate import Scoring, add_shapes, count_image, known_part

from conftest import CLASSES, small_unet, write_image
from pathseg.images.views import ArrayView
from pathseg.labels.label_maps import LabelImage
from pathseg.labels.values import IGNORE
from pathseg.prediction.inference import Predictor
from pathseg.scores.counts import Counts, one_or_both
from pathseg.scores.objects import OBJECT_COUNTS


@pytest.fixture
def row(tmp_path, tissue_field):
    """A row of the split table: an image of 256 x 192 pixels, with its mask."""
    image, epithelium = tissue_field
    paths = {
        "image": str(write_image(tmp_path / "i.png", image)),
        "mask": str(write_image(tmp_path / "m.png", epithelium.astype(np.uint8) * 255)),
    }
    return {"sample": "s", "patient": "p", "instances": None, "mpp": 0.5} | paths


def count(row, mpp=1.0):
    """Count an image with a random network that works at so many µm per pixel."""
    predictor = Predictor([small_unet()], torch.device("cpu"), torch.float32)
    scoring = Scoring(CLASSES, None, "ignore", 3.0)
    return count_image(row, predictor, {"mpp": mpp, "resize": None}, scoring)


def test_each_pixel_counts_once_at_the_models_resolution(row):
    counts = count(row)
    assert counts.confusion.sum() == counts.confidence.sum() == 128 * 96
    assert (counts.levels.sum(axis=(1, 2)) == 128 * 96).all()
    assert counts.objects[1, 0] > 0
    assert not counts.objects[0].any()


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
    assert not counts.outlines.any()


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
    assert not counts.outlines.any()


def test_only_where_something_is_known_is_predicted():
    labels = np.full((300, 200), IGNORE, np.uint8)
    labels[130, 70] = 1
    known = known_part(LabelImage(labels), ArrayView(np.zeros((300, 200, 3), np.uint8)))
    assert known.sum() == 1
