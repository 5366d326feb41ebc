"""Probabilities that were bent on purpose are bent back."""

import numpy as np
import pytest

from pathseg.network.calibration import Calibration
from pathseg.prediction.calibrating import (
    LARGEST_SHIFT,
    calibrate,
    fit_calibration,
    fit_temperature,
    left_out,
    match_areas,
    without_weights,
)

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


def test_each_patient_is_left_out_once():
    patients = np.array(list("AABBBCDEFG"))
    groups = list(left_out(patients))
    assert len(groups) == 5
    np.testing.assert_array_equal(np.sum(groups, axis=0), 1)
    for out in groups:
        assert not set(patients[out]) & set(patients[~out])
    assert not list(left_out(np.array(list("AAA"))))


def patients_with(rng, shifts, size=5000):
    """Pixels of patients to each of whom another shift of the second class would do justice; twice too sure."""
    logit = rng.normal(-0.5, 2, (len(shifts), size))
    truth = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
    bent = 2 * (logit - np.array(shifts)[:, None]).ravel()
    logits = np.stack([-bent / 2, bent / 2], axis=1)
    return logits, truth.ravel().astype(int), np.ones(bent.size), np.repeat(np.arange(len(shifts)), size)


def error(calibration, logits, truth):
    """Return the cross-entropy."""
    scores = calibration.of_logits(logits)
    return (np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(truth)), truth]).mean()


@pytest.mark.parametrize("n_patients", [3, 8])
def test_a_shift_on_which_patients_agree_is_made(rng, n_patients):
    sample = patients_with(rng, rng.normal(1, 0.05, n_patients))
    fitted = calibrate(*sample, Calibration(1.0, (0.0, 0.0)))
    assert fitted.temperature == pytest.approx(2, rel=0.05)
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(1, abs=0.25)
    assert sum(fitted.bias) == pytest.approx(0)


def test_a_shift_that_suits_some_patients_alone_is_not_made(rng):
    """Fitted to these it would be large, and wrong for others: on average, nothing is to be shifted."""
    shifts = np.array([1.5, -0.6, 0.8])
    sample = patients_with(rng, shifts)
    fitted = calibrate(*sample, Calibration(1.0, (0.0, 0.0)))
    assert np.abs(fitted.bias).max() < 0.05
    others = patients_with(rng, rng.normal(0, 1, 40), 1000)[:2]
    assert error(fitted, *others) < error(fit_calibration(*sample[:3], Calibration(1.0, (0.0, 0.0))), *others)


def test_class_weights_are_undone_before_the_temperature(rng):
    """The start is a shift of the network's own logits, whatever they are divided by then."""
    logits, truth, weights, patients = patients_with(rng, [0.0, 0.0, 0.0])
    start = without_weights([1.0, 4.0])
    bent = logits - np.array(start.bias)
    fitted = calibrate(bent, truth, weights, patients, start)
    assert fitted.temperature == pytest.approx(2, rel=0.05)
    np.testing.assert_array_equal(fitted.of_logits(bent).argmax(axis=1)[:5], logits.argmax(axis=1)[:5])
    assert error(fitted, bent, truth) == pytest.approx(error(Calibration(2.0, (0.0, 0.0)), logits, truth), abs=0.003)
    assert fit_temperature(logits, truth, weights) == pytest.approx(2, rel=0.05)


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
