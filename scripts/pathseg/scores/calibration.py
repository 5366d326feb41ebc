"""What probabilities are worth: whether they are right as often as they say, and what thresholds on them would do."""

import numpy as np

from pathseg.scores.counts import LEVELS

# Bins of confidence, as usual since Guo et al. (2017), arXiv 1706.04599.
CALIBRATION_BINS = 15


def expected_calibration_error(confidence: np.ndarray) -> np.ndarray:
    """Return how far confidence and accuracy are apart, over the pixels of `Counts.confidence` [..., 256, 2]: [...]."""
    _, mean, accuracy, share = calibration(confidence, CALIBRATION_BINS)
    return (share * np.abs(np.nan_to_num(mean - accuracy))).sum(axis=-1)


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


def threshold_curves(histogram: np.ndarray) -> dict[str, np.ndarray]:
    """Compute scores of one class for each threshold on its probability.

    Parameters
    ----------
    histogram
        `Counts.histogram` of the class [256, 2].

    Returns
    -------
    dict of numpy.ndarray
        `threshold`, `precision`, `recall`, `dice` of "probability at least the threshold", each [256].
    """
    above = histogram[::-1].cumsum(axis=0)[::-1]
    false_alarm, hit = above[:, 0], above[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "threshold": np.arange(LEVELS) / (LEVELS - 1),
            "precision": hit / (hit + false_alarm),
            "recall": hit / hit[0],
            "dice": 2 * hit / (hit + false_alarm + hit[0]),
        }
