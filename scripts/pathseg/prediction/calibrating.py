"""Fit a calibration, with which a network is right as often as it is sure, on patients that it was not trained on."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, stdtrit

from pathseg.images.resampling import ResampledSlide
from pathseg.labels.label_maps import LabelMap
from pathseg.labels.tissue import choose_tissue
from pathseg.labels.values import IGNORE
from pathseg.network.calibration import Calibration
from pathseg.prediction.comparing import KNOWN_SQUARE, known_part
from pathseg.prediction.inference import Predictor, predict_tiles

# Weight of the penalty on what is fitted: nothing beside the cross-entropy of what the sample holds, but it leaves the
# bias of a class that is not in it as it was.
PENALTY = 1e-5
# The most that areas may shift a logit: beyond it, probabilities would no longer mean what they say (0.5 becomes 0.62).
# And how often all classes are gone through.
LARGEST_SHIFT, SWEEPS = 0.5, 4
# Temperatures beyond this range say that a sample is too small, not that a network is so.
TEMPERATURES = (0.2, 10.0)
# Patients are left out in so many groups at most; fits without some look at so many numbers (pixels times classes).
GROUPS, LEFT_OUT_NUMBERS = 5, 2**18
# How sure it must be that patients whom nobody has seen need a shift of a class in the same direction.
SURE = 0.95


def without_weights(class_weights: Sequence[float]) -> Calibration:
    """Undo class weights: a network that learned with weights w gives w·p instead of p, up to a common factor."""
    bias = -np.log(np.maximum(np.array(class_weights, float), 1e-6))
    return Calibration(1.0, tuple((bias - bias.mean()).tolist()))


def left_out(patients: np.ndarray) -> Iterator[np.ndarray]:
    """Yield which pixels are left out, in up to `GROUPS` groups of patients: bool [n] each; none for one patient."""
    names = list(dict.fromkeys(patients.tolist()))
    if len(names) > 1:
        for group in range(min(GROUPS, len(names))):
            yield np.isin(patients, names[group::GROUPS])


def calibrate(
    logits: np.ndarray, truth: np.ndarray, weights: np.ndarray, patients: np.ndarray, start: Calibration
) -> Calibration:
    """Fit a temperature, and those shifts of classes on which patients agree.

    A few patients differ in what shift would suit them, often more than the mean shift is large; taken from them, it
    makes others worse. So each shift is fitted again without each group of patients (the jackknife of J. W. Tukey,
    1958), and what chance could be is taken off: of a shift s with standard error e, 1 - (t·e / s)² is kept, and
    nothing where that is below 0, with Student's t of `SURE`.

    Parameters
    ----------
    logits, truth, weights
        As for `fit_calibration`.
    patients
        Whose each pixel is [n].
    start
        Shifts that need no data: class weights undone.
    """
    began = np.array(start.bias)

    def shifts(chosen: np.ndarray | slice) -> np.ndarray:
        """Return how far logits of the network, as it was trained, should be shifted beyond the start."""
        part = logits[chosen], truth[chosen], weights[chosen]
        fitted = match_areas(fit_calibration(*part, start), *part)
        return np.array(fitted.bias) * fitted.temperature - began

    step = max(1, logits.size // LEFT_OUT_NUMBERS)
    every = np.arange(len(truth)) % step == 0
    parts = np.array([shifts(every & ~out) for out in left_out(patients)])
    kept = np.zeros(len(began))
    if len(parts):
        squared_error = (len(parts) - 1) * parts.var(axis=0)
        whole = shifts(slice(None))
        chance = stdtrit(len(parts) - 1, (1 + SURE) / 2) ** 2 * squared_error
        kept = whole * np.clip(1 - chance / np.maximum(whole**2, 1e-12), 0, 1)
    bias = began + kept - kept.mean()
    temperature = fit_temperature(logits + bias, truth, weights)
    return Calibration(temperature, tuple((bias / temperature).tolist()))


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Return the temperature of the least cross-entropy; logits [n, C] and the others as for `fit_calibration`."""
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(truth)), truth]
    share = weights / weights.sum()

    def cost(inverse: float) -> float:
        return float(share @ (logsumexp(logits * inverse, axis=1) - own * inverse))

    bounds = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    return float(1 / minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)


def fit_calibration(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray, start: Calibration) -> Calibration:
    """Fit temperature and biases to the least cross-entropy.

    Parameters
    ----------
    logits
        Of the network as it was trained, up to a constant for each pixel, float [n, C].
    truth
        Class indices [n].
    weights
        How many pixels each stands for [n].
    start
        What stays where the pixels say nothing.
    """
    n_classes = logits.shape[1]
    logits = logits.astype(np.float64)
    share = weights / weights.sum()
    frequencies = np.bincount(truth, share, n_classes)
    own = logits[np.arange(len(truth)), truth]
    began = np.array([1 / start.temperature, *start.bias])

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return cross-entropy with penalty, convex in inverse temperature and biases, and its gradient."""
        scores = logits * values[0] + values[1:]
        total = logsumexp(scores, axis=1)
        probabilities = np.exp(scores - total[:, None])
        away = values - began
        loss = share @ (total - own * values[0]) - frequencies @ values[1:] + PENALTY * (away @ away)
        slope = share @ ((probabilities * logits).sum(axis=1) - own)
        return loss, np.array([slope, *(share @ probabilities - frequencies)]) + 2 * PENALTY * away

    bounds = [(1 / TEMPERATURES[1], 1 / TEMPERATURES[0]), *[(None, None)] * n_classes]
    values = minimize(cost, began, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(1 / values[0]), tuple((values[1:] - values[1:].mean()).tolist()))


def match_areas(fitted: Calibration, logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Calibration:
    """Shift biases a little further, so that counted pixels are as many as true ones.

    Where classes overlap, even the best probabilities give the rarer one too few pixels, because those likelier to
    be of another add up. The shift of a class is the quantile of how far it is behind the best other one.

    Parameters
    ----------
    fitted
        What `fit_calibration` has found.
    logits, truth, weights
        As there: [n, C], [n], [n].
    """
    scores, share = fitted.of_logits(logits), weights / weights.sum()
    wanted = np.bincount(truth, share, scores.shape[1])
    shifts = np.zeros(scores.shape[1])
    for _, index in itertools.product(range(SWEEPS), np.flatnonzero(wanted[1:]) + 1):
        behind = np.delete(scores + shifts, index, axis=1).max(axis=1) - scores[:, index]
        order = np.argsort(behind)
        place = np.searchsorted(share[order].cumsum(), wanted[index])
        shifts[index] = np.clip(behind[order[min(place, len(order) - 1)]], -LARGEST_SHIFT, LARGEST_SHIFT)
    bias = np.array(fitted.bias) + shifts
    return Calibration(fitted.temperature, tuple((bias - bias.mean()).tolist()))


def sample_probabilities(
    view: ResampledSlide,
    predictor: Predictor,
    settings: dict[str, Any],
    labels: LabelMap,
    size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw pixels of an image whose class is known and which are looked at, at the model's resolution.

    Parameters
    ----------
    view, predictor, settings
        As for `predict_view`.
    labels
        What is known, at the resolution of the view.
    size
        Pixels to draw at most.
    rng
        Draws them.

    Returns
    -------
    probabilities : numpy.ndarray
        float32 [n, C], without rounding.
    truth : numpy.ndarray
        Class indices [n].
    known : int
        Pixels that were drawn from.
    """
    tissue = choose_tissue(view.slide, None, settings["tissue"], settings["tissue_holes_um2"])
    # Each pixel draws a number, and those of the lowest numbers are kept: so tiles can be forgotten as they come.
    keys, truth = np.empty(0), np.empty(0, np.uint8)
    probabilities = np.empty((0, predictor.n_classes), np.float32)
    known, wanted = 0, known_part(labels, view, KNOWN_SQUARE)
    for x, y, planes, looked_at in predict_tiles(view, predictor, settings["tile"], tissue, wanted):
        mask = labels.read(x, y, *looked_at.shape[::-1])
        chosen = (mask != IGNORE) & looked_at
        known += (count := int(chosen.sum()))
        keys = np.concatenate([keys, rng.random(count)])
        lowest = np.argpartition(keys, size)[:size] if len(keys) > size else np.arange(len(keys))
        keys = keys[lowest]
        truth = np.concatenate([truth, mask[chosen]])[lowest]
        probabilities = np.concatenate([probabilities, planes[:, chosen].T])[lowest]
    return probabilities, truth, known
