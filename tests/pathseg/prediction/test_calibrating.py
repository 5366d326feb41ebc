"""Probabilities that were bent on purpose are bent back."""

import numpy as np
import pytest

from pathseg.network.calibration import Calibration
from pathseg.prediction.calibrating import LARGEST_SHIFT, fit_calibration, match_areas, without_weights

ONES = Calibration(1.0, (0.0, 0.0, 0.0))


@pytest.fixture
def honest(rng):
    """Logits [n, 3] of a model that is right as often as it says, and the true classes."""
    logits = rng.normal(0, 2, (40_000, 3)) + [1.0, 0.0, -1.5]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (rng.random((len(logits), 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return logits, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_and_biases_are_found(honest, temperature):
    logits, truth = honest
    bias = np.array([0.7, -0.9, 0.2])
    bent = (logits - bias) * temperature
    fitted = fit_calibration(bent, truth, np.ones(len(truth)), ONES)
    assert fitted.temperature == pytest.approx(temperature, rel=0.03)
    np.testing.assert_allclose(fitted.bias, bias, atol=0.06)
    mended = fitted.of_logits(bent)
    shares = np.exp(mended) / np.exp(mended).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares.mean(axis=0), np.bincount(truth) / len(truth), atol=1e-3)


def test_a_pixel_that_stands_for_many_counts_as_many(honest):
    logits, truth = honest
    weights = np.where(truth == 1, 4.0, 1.0)
    repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
    one = fit_calibration(logits, truth, weights, ONES)
    other = fit_calibration(logits[repeated], truth[repeated], np.ones(len(repeated)), ONES)
    np.testing.assert_allclose([one.temperature, *one.bias], [other.temperature, *other.bias], atol=1e-3)


def test_class_weights_are_undone(honest):
    """A network that has learned with weights w says w·p, up to a factor; weights of the sample do the same here."""
    logits, _ = honest
    weights = np.array([0.2, 1.0, 1.8])
    assert without_weights([1, 1, 1]) == ONES
    undone = without_weights(weights.tolist())
    assert sum(undone.bias) == pytest.approx(0)
    bent = logits + np.log(weights)
    shares = np.exp(undone.of_logits(bent))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True), expected, atol=1e-6)


def test_a_class_that_no_validation_patient_has_keeps_its_bias(honest):
    """Its weight in the loss is undone, but its probability does not go to 0."""
    logits, truth = honest
    start = without_weights([0.5, 1.0, 1.5])
    there = truth < 2
    fitted = fit_calibration(logits[there] - [0, 0, 4], truth[there], np.ones(there.sum()), start)
    assert np.isfinite(fitted.bias).all()
    assert abs(fitted.bias[2] - start.bias[2]) < 3


def areas(calibration, logits):
    """Return how many pixels each class gets."""
    return np.bincount(calibration.of_logits(logits).argmax(axis=1), minlength=logits.shape[1])


def test_as_many_pixels_are_counted_as_there_are(honest):
    """Probabilities are right from the start, and yet the rarest class gets too few pixels."""
    logits, truth = honest
    weights, true = np.ones(len(truth)), np.bincount(truth)
    assert areas(ONES, logits)[2] < 0.9 * true[2]
    matched = match_areas(ONES, logits, truth, weights)
    np.testing.assert_allclose(areas(matched, logits), true, rtol=0.01)
    assert np.abs(matched.bias).max() < LARGEST_SHIFT
    assert matched.temperature == 1


def test_areas_bend_probabilities_by_no_more_than_the_limit(rng):
    """A network that knows nothing would have to call a rare class likely everywhere."""
    logits, truth = rng.normal(0, 0.1, (5000, 2)) + [2, 0], (rng.random(5000) < 0.12).astype(int)
    matched = match_areas(Calibration(1.0, (0.0, 0.0)), logits, truth, np.ones(5000))
    assert matched.bias[1] - matched.bias[0] == pytest.approx(LARGEST_SHIFT)


def test_a_class_that_is_not_there_is_not_shifted(honest):
    logits, truth = honest
    there = truth < 2
    matched = match_areas(ONES, logits[there], truth[there], np.ones(there.sum()))
    assert matched.bias[2] == pytest.approx(matched.bias[0])
