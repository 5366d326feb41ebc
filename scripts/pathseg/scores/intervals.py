"""Intervals over patients: where a score would lie on other patients like these.

Each patient is left out in turn, and what that changes gives the standard error (the jackknife: Tukey 1958; Efron and
Tibshirani 1993, "An introduction to the bootstrap", chapter 11). It serves any score that follows from sums over
patients, and for a mean it is the usual standard error. The interval is Student's, on a scale on which scores are more
symmetric (the logit for shares, the logarithm for what has no upper end). Its degrees of freedom are the patients that
weigh, less one: a sum in which one patient has most of the pixels is hardly more than that patient (Kish 1965,
effective sample size); and fewer where one tail is long, because then the spread is less sure. This way was chosen by
simulation, which `tests/pathseg/scores/test_intervals.py` repeats; of four patients, percentiles of a bootstrap cover
80 % where they say 95.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
# Fewer patients say too little of how patients differ.
FEWEST = 4
# What `Interval.kind` says.
OF_PATIENTS, RANGE, NONE = "95 %", "range", ""


@dataclass(frozen=True)
class Interval:
    """Where a score lies.

    Attributes
    ----------
    low, high : float
        Its ends; NaN if there are none.
    kind : str
        "95 %"; "range" if the ends are the lowest and the highest patient, where there are fewer than four or all have
        the same score; "" for none.
    """

    low: float
    high: float
    kind: str


def interval(values: np.ndarray, value: float, left_out: np.ndarray, weights: np.ndarray, scale: str) -> Interval:
    """Return the interval of a score over patients.

    Parameters
    ----------
    values
        Score of each patient [P]; NaN if a patient has none.
    value
        Score of all.
    left_out
        Score of all but each patient [P].
    weights
        How much each patient weighs in the score of all [P]; those that weigh nothing are left aside.
    scale
        "share" for what lies between 0 and 1, "positive" for what has no upper end, "difference" for what may be
        negative.
    """
    there = weights > 0
    known = values[there & ~np.isnan(values)]
    if len(known) < 2:
        return Interval(np.nan, np.nan, NONE)
    found = _student(value, left_out[there], weights[there], scale) if there.sum() >= FEWEST else None
    if found is None:
        return Interval(float(known.min()), float(known.max()), RANGE)
    return Interval(*found, OF_PATIENTS)


def interval_of_mean(values: np.ndarray, scale: str) -> tuple[float, Interval]:
    """Return the mean over the patients [P] that have a score, and its interval; see `interval`."""
    there = ~np.isnan(values)
    count = there.sum()
    if not count:
        return np.nan, Interval(np.nan, np.nan, NONE)
    known = np.where(there, values, 0)
    mean = float(known.sum() / count)
    left_out = (known.sum() - known) / max(count - 1, 1)
    return mean, interval(values, mean, left_out, there.astype(float), scale)


def _student(value: float, left_out: np.ndarray, weights: np.ndarray, scale: str) -> tuple[float, float] | None:
    """Return the ends of an interval; None if what is left out changes nothing, or cannot be scored."""
    apart = left_out - left_out.mean()
    error = np.sqrt((len(apart) - 1) * np.square(apart).mean())
    # Rounding alone differs by less.
    if not np.isfinite(value + error) or error <= 1e-9 * abs(value):
        return None
    effective = weights.sum() ** 2 / np.square(weights).sum()
    skewness = (apart**3).mean() / (apart**2).mean() ** 1.5
    freedom = max((effective - 1) / (1 + skewness**2 / 2), 1)
    reach = special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    if scale == "share":
        place = special.logit(value) + reach / (value * (1 - value)) * np.array([-1, 1])
        low, high = special.expit(place)
    elif scale == "positive":
        low, high = value * np.exp(np.array([-1, 1]) * reach / value)
    else:
        low, high = value - reach, value + reach
    return float(low), float(high)
