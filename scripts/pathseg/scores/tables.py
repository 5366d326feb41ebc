"""Scores of a model on patients, with intervals, from what was counted."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pandas as pd

from pathseg.scores.counts import LEVELS, Counts, PatientCounts
from pathseg.scores.objects import object_scores, outline_scores
from pathseg.scores.pixels import pixel_scores

# Samples of the bootstrap, and its seed: the same counts give the same intervals.
SAMPLES, SEED = 1000, 1
# Bins of confidence for the calibration error, as usual since Guo et al. (2017), arXiv 1706.04599.
CALIBRATION_BINS = 15
# Scores of all classes together.
OVERALL = "all"


def scores_of(counts: Counts, names: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Compute all scores.

    Parameters
    ----------
    counts
        Arrays may have leading axes [...].
    names
        Names of the classes.

    Returns
    -------
    dict
        (class, score) -> value [...]. Objects and outlines are not scored for the background, the first class, nor is
        what the search for tissue takes from it.
    """
    truth = counts.confusion.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = np.trace(counts.confusion, axis1=-2, axis2=-1)
        result = {
            (OVERALL, "accuracy"): right / truth.sum(axis=-1),
            (OVERALL, "calibration_error"): _calibration_error(counts),
            (OVERALL, "lost_in_search"): counts.unseen[..., 1:].sum(axis=-1) / truth[..., 1:].sum(axis=-1),
        }
        lost = counts.unseen / truth
    of_pixels = pixel_scores(counts.confusion)
    of_objects = object_scores(counts.objects) | outline_scores(counts.outlines)
    of_objects["object_hausdorff_um"] = of_objects.pop("object_hausdorff")
    for index, name in enumerate(names):
        result |= {(name, score): values[..., index] for score, values in of_pixels.items()}
        if index:
            result |= {(name, score): values[..., index] for score, values in of_objects.items()}
            result[name, "lost_in_search"] = lost[..., index]
    return result


def _calibration_error(counts: Counts) -> np.ndarray:
    """Return the expected calibration error: how far confidence and accuracy are apart, over the pixels."""
    _, confidence, accuracy, share = calibration(counts.confidence, CALIBRATION_BINS)
    return (share * np.abs(np.nan_to_num(confidence - accuracy))).sum(axis=-1)


def calibration(confidence: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum up confidences in bins of equal width.

    Parameters
    ----------
    confidence
        `Counts.confidence` [..., 256, 2].
    bins
        How many.

    Returns
    -------
    edges : numpy.ndarray
        Of the bins [bins + 1].
    confidence, accuracy, share : numpy.ndarray
        Mean confidence, share of right pixels, and share of all pixels, of each bin [..., bins]; NaN in empty ones.
    """
    levels = np.arange(LEVELS) / (LEVELS - 1)
    starts = np.searchsorted(levels, np.arange(bins) / bins)
    pixels = confidence.sum(axis=-1)

    def binned(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=-1)

    count = binned(pixels)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, right = binned(pixels * levels) / count, binned(confidence[..., 1]) / count
        share = count / pixels.sum(axis=-1, keepdims=True)
    return np.linspace(0, 1, bins + 1), mean, right, share


def threshold_curves(levels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute scores of one class for each threshold on its probability.

    Parameters
    ----------
    levels
        `Counts.levels` of the class [256, 2].

    Returns
    -------
    dict of numpy.ndarray
        `threshold`, `precision`, `recall`, `dice` of "probability at least the threshold", each [256].
    """
    above = levels[::-1].cumsum(axis=0)[::-1]
    false_alarm, hit = above[:, 0], above[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "threshold": np.arange(LEVELS) / (LEVELS - 1),
            "precision": hit / (hit + false_alarm),
            "recall": hit / hit[0],
            "dice": 2 * hit / (hit + false_alarm + hit[0]),
        }


def score_table(patients: PatientCounts, names: list[str]) -> pd.DataFrame:
    """Score each part, pooled over all pixels and as the mean over patients, with 95 % intervals over patients.

    Intervals are percentiles of a bootstrap that draws patients; with one patient there are none.

    Returns
    -------
    pandas.DataFrame
        `part`, `patients`, `class`, `score`, `over`, `value`, `low`, `high`.
    """
    return pd.DataFrame([row for part in dict.fromkeys(patients.parts) for row in _part_rows(patients, part, names)])


def _part_rows(patients: PatientCounts, part: str, names: list[str]) -> Iterator[dict[str, object]]:
    counts = patients.stacked(part)
    n = len(counts.confusion)
    draws = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=SAMPLES)
    by_patient = scores_of(counts, names)
    pooled_scores = scores_of(_summed(counts, np.ones((1, n))), names)
    drawn_scores = scores_of(_summed(counts, draws), names)
    for key, values in by_patient.items():
        class_, score = key
        common = {"part": part, "patients": n, "class": class_, "score": score}
        for over, value, drawn in (
            ("pooled", pooled_scores[key], drawn_scores[key]),
            ("mean over patients", _means(values, np.ones((1, n))), _means(values, draws)),
        ):
            low, high = _interval(drawn) if n > 1 else (np.nan, np.nan)
            yield common | {"over": over, "value": float(value[0]), "low": low, "high": high}


def _summed(counts: Counts, weights: np.ndarray) -> Counts:
    """Sum counts over patients with weights [S, P], but for the levels, which are large and not scored."""
    sums = {
        field.name: np.tensordot(weights, getattr(counts, field.name), axes=1)
        for field in fields(Counts)
        if field.name != "levels"
    }
    return replace(counts, **sums)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the means of the scores of patients [P] that have one, with weights [S, P]: [S]."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return weights @ np.where(there, values, 0) / (weights @ there)


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of the drawn scores."""
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return float(low), float(high)


def patient_table(patients: PatientCounts, names: list[str]) -> pd.DataFrame:
    """Return the scores of each patient, a row for each class: `part`, `patient`, `class`, `pixels`, and the scores."""
    rows = []
    for part, patient, counts in zip(patients.parts, patients.patients, patients.counts, strict=True):
        scores = scores_of(counts, names)
        pixels = counts.confusion.sum(axis=1)
        for index, name in enumerate(names):
            own = {score: float(value) for (class_, score), value in scores.items() if class_ == name}
            rows.append({"part": part, "patient": patient, "class": name, "pixels": int(pixels[index])} | own)
    return pd.DataFrame(rows)
