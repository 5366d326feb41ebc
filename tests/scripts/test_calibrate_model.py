import numpy as np
import pandas as pd
import pytest
import torch
from calibrate_model import confidences, reliability, sample_images, table_of
from summarize_scores import read_calibrations

from conftest import CLASSES, small_unet, write_image
from pathseg.network.calibration import Calibration
from pathseg.prediction.inference import Predictor
from pathseg.scores.calibration import expected_calibration_error

SETTINGS = {"tile": 32, "tissue": "none", "tissue_holes_um2": 4e6}
LABELS = {"classes": CLASSES, "ignore_value": 7, "outside": "ignore"}


def sample_of(rng, patients=6, size=4000):
    """Pixels of a network that is twice as sure as it may be, and takes the second class too often."""
    logit = rng.normal(-1, 2, patients * size)
    truth = (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(int)
    bent = 2 * logit + 1.5
    columns = {0: -np.logaddexp(0, bent), 1: -np.logaddexp(0, -bent), "truth": truth, "weight": 1.0}
    return pd.DataFrame(columns | {"patient": np.repeat(list("ABCDEFGH")[:patients], size)})


def test_calibrated_it_is_right_as_often_as_it_is_sure(rng):
    fitted, counts = reliability(sample_of(rng), Calibration(1.0, (0.0, 0.0)))
    assert fitted.temperature == pytest.approx(2, rel=0.05)
    errors = {name: expected_calibration_error(of) for name, of in counts.items()}
    assert errors["before"] > 0.1
    assert errors["after"] < 0.01
    assert errors["unseen"] < 0.02
    assert {of.sum() for of in counts.values()} == {24_000}


def test_of_one_patient_nothing_is_unseen(rng):
    fitted, counts = reliability(sample_of(rng, 1), Calibration(1.0, (-0.75, 0.75)))
    assert set(counts) == {"before", "after"}
    # There is nobody to agree with: class weights are undone, and the temperature is found.
    assert np.array(fitted.bias) * fitted.temperature == pytest.approx([-0.75, 0.75])


def test_confidences_by_hand():
    logits = np.log([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    counts = confidences(logits, np.array([0, 0, 0]), np.array([1.0, 3.0, 2.0]))
    assert (counts[204, 1], counts[153, 0], counts[128, 1]) == (1, 3, 2)
    assert counts.sum() == 6


def test_tables_of_folds_add_up(tmp_path, rng):
    counts = {"before": rng.integers(0, 9, (256, 2)), "after": rng.integers(0, 9, (256, 2))}
    for name in "ab":
        table_of(counts).to_csv(tmp_path / name, sep="\t", index=False)
    together = read_calibrations([tmp_path / "a", tmp_path / "b"])
    assert list(together) == ["before", "after"]
    for name, of in counts.items():
        np.testing.assert_array_equal(together[name], 2 * of)


def test_known_pixels_of_images_are_drawn(tmp_path, tissue_field, monkeypatch):
    """All of them if they are few; each with the probability that the network gives it."""
    image, epithelium = tissue_field
    mask = epithelium.astype(np.uint8) * 255
    mask[:, :100] = 7
    row = {
        "image": str(write_image(tmp_path / "i.png", image)),
        "mask": str(write_image(tmp_path / "m.png", mask)),
        "patient": "P",
        "mpp": 1.0,
    }
    predictor = Predictor([small_unet()], torch.device("cpu"), torch.float32)
    model = {"mpp": 1.0, "resize": None}
    sample = sample_images([row, row], predictor, model, SETTINGS, LABELS)
    known = (mask != 7).sum()
    assert len(sample) == sample["weight"].sum() == 2 * known
    assert sample["truth"].sum() == 2 * (mask == 255).sum()
    np.testing.assert_allclose(np.exp(sample[[0, 1]]).sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr("calibrate_model.SAMPLED", 4000)
    few = sample_images([row, row], predictor, model, SETTINGS, LABELS)
    assert len(few) == 2000
    assert few["weight"].sum() == pytest.approx(2 * known)
    assert few["truth"].mean() == pytest.approx(sample["truth"].mean(), abs=0.05)
