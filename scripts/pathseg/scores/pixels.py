"""Scores from confusion matrices."""

import numpy as np

from pathseg.labels.values import IGNORE


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


def pixel_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of each class from confusion matrices [..., C, C] (rows are the truth).

    A score whose denominator is zero (a class that is neither there nor predicted) is NaN.

    Returns
    -------
    dict of numpy.ndarray
        `dice`, `iou`, `precision`, `recall`, `specificity`, `accuracy` (share of pixels rightly put into or out of the
        class), `area_ratio` (predicted over true pixels), each [..., C].
    """
    confusion = confusion.astype(float)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = truth.sum(axis=-1, keepdims=True)
    false_alarm, missed = predicted - hit, truth - hit
    rest = total - truth - false_alarm
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "dice": 2 * hit / (truth + predicted),
            "iou": hit / (truth + predicted - hit),
            "precision": hit / predicted,
            "recall": hit / truth,
            "specificity": rest / (rest + false_alarm),
            "accuracy": (total - false_alarm - missed) / total,
            "area_ratio": np.where(truth > 0, predicted / truth, np.nan),
        }


def overall_accuracy(confusion: np.ndarray) -> float:
    """Return the share of pixels whose class is right, of a confusion matrix [C, C]; NaN if there are none."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def mean_dice(confusion: np.ndarray) -> float:
    """Return the Dice score averaged over the classes of [C, C] that are there, the background among them."""
    hit, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = truth > 0
    if not present.any():
        return float("nan")
    return float((2 * hit[present] / (truth + predicted)[present]).mean())
