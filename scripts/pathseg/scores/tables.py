"""Scores of a model on patients, with intervals, from what was counted."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pandas as pd

from pathseg.scores.calibration import expected_calibration_error
from pathseg.scores.counts import Counts, PatientCounts
from pathseg.scores.intervals import Interval, interval, interval_of_mean
from pathseg.scores.objects import boundary_scores, object_scores
from pathseg.scores.pixels import pixel_scores

# Scores of all classes together; the configuration refuses a class of this name.
OVERALL = "all"
ECE = "ece"
# Scores that may be above 1.
POSITIVE = ("area_ratio", "object_count_ratio", "object_density", "object_density_true", "object_hausdorff_um")


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
            (OVERALL, ECE): expected_calibration_error(counts.confidence),
            (OVERALL, "lost_in_search"): counts.unseen[..., 1:].sum(axis=-1) / truth[..., 1:].sum(axis=-1),
        }
        lost = counts.unseen / truth
    of_pixels = pixel_scores(counts.confusion)
    of_objects = object_scores(counts.objects) | boundary_scores(counts.boundary)
    of_objects["object_hausdorff_um"] = of_objects.pop("object_hausdorff")
    with np.errstate(divide="ignore", invalid="ignore"):
        densities = counts.objects[..., :2] / np.asarray(counts.area_mm2)[..., None, None]
    of_objects["object_density_true"], of_objects["object_density"] = densities[..., 0], densities[..., 1]
    for index, name in enumerate(names):
        result |= {(name, score): values[..., index] for score, values in of_pixels.items()}
        if index:
            result |= {(name, score): values[..., index] for score, values in of_objects.items()}
            result[name, "lost_in_search"] = lost[..., index]
    return result


def score_table(patients: PatientCounts, names: list[str]) -> pd.DataFrame:
    """Score each part, pooled over all pixels and as the mean over patients, with intervals over patients.

    Returns
    -------
    pandas.DataFrame
        `part`, `patients`, `class`, `score`, `over`, `value`, the ends `low` and `high` of an interval, and `interval`,
        which says what they are, see `pathseg.scores.intervals.Interval.kind`; `images_too_large` of scores of objects
        and outlines counts what is not in them.
    """
    return pd.DataFrame([row for part in dict.fromkeys(patients.parts) for row in _part_rows(patients, part, names)])


def _part_rows(patients: PatientCounts, part: str, names: list[str]) -> Iterator[dict[str, object]]:
    scores = PartScores(patients, part, names)
    for class_, score in scores.by_patient:
        common = {"part": part, "patients": scores.count, "class": class_, "score": score}
        too_large = scores.images_too_large if of_objects(score) or score == "boundary_f1" else 0
        for over, (value, found) in (
            ("pooled", scores.pooled_interval(class_, score)),
            ("mean over patients", scores.mean_interval(class_, score)),
        ):
            # What is left of the differences between confidence and accuracy shrinks with the number of pixels, so that
            # patients left out or drawn anew say nothing of it.
            if score == ECE:
                found = Interval(np.nan, np.nan, "")
            yield common | {
                "over": over,
                "value": value,
                "low": found.low,
                "high": found.high,
                "interval": found.kind,
                "images_too_large": too_large,
            }


class PartScores:
    """Scores of a part's patients.

    Parameters
    ----------
    patients
        What was counted.
    part
        Which of its parts.
    names
        Names of the classes.

    Attributes
    ----------
    count : int
        Patients, P.
    by_patient, left_out, together : dict
        (class, score) -> scores of each patient [P], of all but each [P], and of all.
    images_too_large : int
        Images that are too large for scores of objects and outlines.
    """

    def __init__(self, patients: PatientCounts, part: str, names: list[str]) -> None:
        counts = patients.stacked(part)
        self.count = len(counts.confusion)
        self.by_patient = scores_of(counts, names)
        self.left_out = scores_of(_summed(counts, 1 - np.eye(self.count)), names)
        self.together = {
            key: float(value) for key, value in scores_of(_summed(counts, np.ones(self.count)), names).items()
        }
        self.images_too_large = int(counts.too_large.sum())
        self._pixels = _pixels_concerned(counts, names)

    def pooled_interval(self, class_: str, score: str) -> tuple[float, Interval]:
        """Return the score over all pixels, and its interval."""
        key = class_, score
        found = interval(
            self.by_patient[key], self.together[key], self.left_out[key], self._pixels[class_], scale_of(score)
        )
        return self.together[key], found

    def mean_interval(self, class_: str, score: str) -> tuple[float, Interval]:
        """Return the mean over the patients, and its interval."""
        return interval_of_mean(self.by_patient[class_, score], scale_of(score))

    def pooled_difference(self, first: "PartScores", class_: str, score: str) -> tuple[float, Interval]:
        """Return how much higher the score over all pixels is than another's on the same patients, and the interval."""
        key = class_, score
        values, left_out = self.by_patient[key] - first.by_patient[key], self.left_out[key] - first.left_out[key]
        value = self.together[key] - first.together[key]
        return value, interval(values, value, left_out, self._pixels[class_] + first._pixels[class_], "difference")

    def mean_difference(self, first: "PartScores", class_: str, score: str) -> tuple[float, Interval]:
        """Return the mean over the patients of how much higher each one's score is than another's, and the interval."""
        return interval_of_mean(self.by_patient[class_, score] - first.by_patient[class_, score], "difference")


def of_objects(score: str) -> bool:
    """Say whether a score is of objects."""
    return score.startswith("object_") or score in ("aji", "pq", "sq", "rq")


def scale_of(score: str) -> str:
    """Return the scale on which the interval of a score is made."""
    return "positive" if score in POSITIVE else "share"


def _pixels_concerned(counts: Counts, names: list[str]) -> dict[str, np.ndarray]:
    """Return for each class how many pixels of each patient are of it or were predicted as it; for all, all [P]."""
    by_class = counts.confusion.sum(axis=-1) + counts.confusion.sum(axis=-2)
    return {OVERALL: counts.confusion.sum(axis=(-2, -1))} | dict(zip(names, by_class.T, strict=True))


def _summed(counts: Counts, weights: np.ndarray) -> Counts:
    """Sum counts over patients with weights [..., P], but for the histogram, which is large and not scored."""
    sums = {
        field.name: np.tensordot(weights, getattr(counts, field.name), axes=1)
        for field in fields(Counts)
        if field.name != "histogram"
    }
    return replace(counts, **sums)


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
