"""Scores from confusion matrices."""

import numpy as np
import pandas as pd

from pathseg.labels import IGNORE


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count pixels by true class (rows) and predicted class (columns); pixels whose truth is `IGNORE` are left out.

    Parameters
    ----------
    truth, predicted
        Class indices, arrays of one shape.
    n_classes
        Number of classes, C.

    Returns
    -------
    numpy.ndarray
        int64 [C, C].
    """
    known = truth != IGNORE
    pairs = truth[known].astype(np.int64) * n_classes + predicted[known]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_scores(confusion: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Compute the scores of each class from a confusion matrix [C, C] (rows are the truth).

    A score whose denominator is zero (a class that is neither there nor predicted) is NaN.

    Returns
    -------
    pandas.DataFrame
        A row for each class: `class`, `pixels` (true ones), `dice`, `iou`, `precision`, `recall`, `specificity`,
        `accuracy` (share of pixels rightly put into or out of the class).
    """
    confusion = confusion.astype(float)
    hit = np.diag(confusion)
    truth, predicted, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    false_alarm, missed = predicted - hit, truth - hit
    rest = total - truth - false_alarm
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                "class": names,
                "pixels": truth.astype(np.int64),
                "dice": 2 * hit / (truth + predicted),
                "iou": hit / (truth + predicted - hit),
                "precision": hit / predicted,
                "recall": hit / truth,
                "specificity": rest / (rest + false_alarm),
                "accuracy": (total - false_alarm - missed) / total,
            }
        )


def overall_accuracy(confusion: np.ndarray) -> float:
    """Return the share of pixels whose class is right; NaN if there are none."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def mean_dice(confusion: np.ndarray) -> float:
    """Return the Dice score averaged over the classes that are there, the background among them."""
    hit, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = truth > 0
    if not present.any():
        return float("nan")
    return float((2 * hit[present] / (truth + predicted)[present]).mean())
