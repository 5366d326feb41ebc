"""How often intervals cover the truth, when patients are drawn again and again."""

import numpy as np
import pytest
from scipy import stats

from pathseg.scores.counts import Counts, PatientCounts
from pathseg.scores.intervals import FEWEST, Interval, interval, interval_of_mean
from pathseg.scores.tables import PartScores, score_table

NAMES = ["rest", "gland"]
# Scores of patients: alike, around 0.8; nearly perfect with a tail of bad ones (skewness -2).
SCORES = {
    "normal": lambda rng, shape: np.clip(rng.normal(0.8, 0.06, shape), 0.01, 0.99),
    "skewed": lambda rng, shape: np.maximum(1 - rng.exponential(0.1, shape), 0.01),
}


def sizes(rng, shape):
    """Draw how much of a class patients have: the largest of ten has some ten times as much as the smallest."""
    return rng.lognormal(0, 0.7, shape)


def without_each(values, weights):
    """Return the weighted means of all values but each."""
    total, weight = (values * weights).sum(), weights.sum()
    return (total - values * weights) / (weight - weights)


def mean_covers(rng, kind, count):
    values = SCORES[kind](rng, count)
    return interval_of_mean(values, "share")[1]


def pooled_covers(rng, kind, count):
    values, weights = SCORES[kind](rng, count), sizes(rng, count)
    return interval(values, np.average(values, weights=weights), without_each(values, weights), weights, "share")


def paired(rng, kind, count):
    """Return scores of two models, the second better by 0.02 on average: patients who are hard are so for both."""
    first = SCORES[kind](rng, count)
    return first, first + 0.2 * (1 - first) - 0.2 * (1 - SCORES[kind](rng, count)) + rng.normal(0.02, 0.02, count)


def mean_difference_covers(rng, kind, count):
    first, second = paired(rng, kind, count)
    return interval_of_mean(second - first, "difference")[1]


def pooled_difference_covers(rng, kind, count):
    first, second = paired(rng, kind, count)
    weights = sizes(rng, count)
    difference = second - first
    return interval(
        difference,
        np.average(difference, weights=weights),
        without_each(difference, weights),
        weights,
        "difference",
    )


WAYS = {
    "mean": mean_covers,
    "pooled": pooled_covers,
    "mean difference": mean_difference_covers,
    "pooled difference": pooled_difference_covers,
}


def coverage(way, kind, count, repetitions):
    """Return how often, in percent, the truth is in the interval."""
    rng = np.random.default_rng(count)
    truth = 0.02 if "difference" in way else SCORES[kind](rng, 2_000_000).mean()
    found = [WAYS[way](rng, kind, count) for _ in range(repetitions)]
    assert all(one.kind == "95 %" for one in found)
    return 100 * np.mean([one.low <= truth <= one.high for one in found])


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("way", WAYS)
def test_intervals_cover_what_they_say(way, kind):
    for count in (4, 10):
        assert 92 <= coverage(way, kind, count, 800) <= 98


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 5, 6, 8, 12, 20, 30])
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("way", WAYS)
def test_intervals_cover_what_they_say_from_4_to_30_patients(way, kind, count):
    assert 92 <= coverage(way, kind, count, 6000) <= 98


def patients_with(dice, size):
    """Return patients whose second class has these Dice scores, on so many pixels."""
    counts = []
    for of, pixels in zip(dice, size, strict=True):
        one = Counts.zeros(2)
        # As many pixels predicted as there are.
        hit = of * pixels
        one.confusion[:] = [[10 * pixels, pixels - hit], [pixels - hit, hit]]
        counts.append(one)
    count = len(counts)
    return PatientCounts(["test"] * count, [f"P{number}" for number in range(count)], counts, "components")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCORES)
def test_the_table_of_scores_covers_what_it_says(kind):
    """From counts of pixels to the table, for both ways of scoring patients together."""
    rng = np.random.default_rng(3)
    truth, repetitions = SCORES[kind](rng, 2_000_000).mean(), 1500
    for count in (4, 12):
        hits = {"pooled": 0, "mean over patients": 0}
        for _ in range(repetitions):
            table = score_table(patients_with(SCORES[kind](rng, count), 1000 * sizes(rng, count)), NAMES)
            rows = table[(table["score"] == "dice") & (table["class"] == "gland")]
            for row in rows.itertuples():
                assert row.interval == "95 %"
                hits[row.over] += row.low <= truth <= row.high
        for over, hit in hits.items():
            assert 92 <= 100 * hit / repetitions <= 98, (over, count)


def test_of_fewer_than_four_patients_there_is_the_range_only():
    scores = np.array([0.7, 0.9, 0.95])
    assert interval_of_mean(scores, "share") == (pytest.approx(0.85), Interval(0.7, 0.95, "range"))
    assert interval_of_mean(scores[:1], "share")[1].kind == ""
    assert interval_of_mean(np.append(scores, 0.8), "share")[1].kind == "95 %"
    assert FEWEST == 4


def test_patients_without_a_score_do_not_count():
    scores = np.array([0.7, 0.9, 0.95, np.nan])
    assert interval_of_mean(scores, "share") == interval_of_mean(scores[:3], "share")
    assert np.isnan(interval_of_mean(np.full(5, np.nan), "share")[0])


def test_patients_that_are_all_alike_have_no_interval():
    """They say that patients may be alike, not that they are: an interval without width would be too sure."""
    assert interval_of_mean(np.ones(6), "share") == (1, Interval(1, 1, "range"))
    assert interval_of_mean(np.full(6, 0.8), "share")[1].kind == "range"


def test_an_interval_stays_where_scores_can_be():
    low, high = ((one := interval_of_mean(np.array([0.99, 1, 1, 0.9]), "share")[1]).low, one.high)
    assert 0 < low < 0.9725 < high < 1
    distances = interval_of_mean(np.array([1.0, 3, 40, 2]), "positive")[1]
    assert 0 < distances.low < 11.5 < distances.high


def test_a_mean_of_even_values_has_students_interval():
    values = np.array([-3.0, -2, -1, 0, 1, 2, 3])
    reach = 2.4469 * values.std(ddof=1) / np.sqrt(7)
    mean, found = interval_of_mean(values, "difference")
    assert (found.low, found.high) == (pytest.approx(mean - reach, abs=1e-4), pytest.approx(mean + reach, abs=1e-4))


def test_an_interval_by_hand():
    """Weights that are worth 3.52 patients (Kish), skewness 0.99: Student's with 1.69 degrees of freedom."""
    left_out, weights = np.array([0.1, 0.2, 0.3, 0.8]), np.array([1.0, 2, 1, 1])
    apart = left_out - left_out.mean()
    skewness = (apart**3).mean() / (apart**2).mean() ** 1.5
    freedom = (weights.sum() ** 2 / (weights**2).sum() - 1) / (1 + skewness**2 / 2)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(3 / 4 * (apart**2).sum())
    assert (weights.sum() ** 2 / (weights**2).sum(), skewness, freedom) == pytest.approx((25 / 7, 0.9, 1.8), abs=0.2)
    found = interval(np.arange(4.0), 0.4, left_out, weights, "difference")
    assert (found.low, found.high) == pytest.approx((0.4 - reach, 0.4 + reach))


def test_one_patient_with_most_of_the_pixels_makes_the_interval_wide():
    dice = [0.7, 0.8, 0.75, 0.9, 0.85, 0.6]
    even, uneven = (
        PartScores(patients_with(dice, size), "test", NAMES).pooled_interval("gland", "dice")[1]
        for size in ([100] * 6, [100] * 5 + [2000])
    )
    assert uneven.high - uneven.low > 1.5 * (even.high - even.low)


def test_a_small_difference_shows_where_patients_differ_much(rng):
    """Two models, one better by 0.01 on every patient: their own intervals overlap, that of the difference tells."""
    dice = rng.uniform(0.5, 0.9, 12)
    first, second = (
        PartScores(patients_with(of, [1000] * 12), "test", NAMES) for of in (dice, dice + rng.normal(0.01, 0.004, 12))
    )
    for of_first, of_second, difference in (
        (first.pooled_interval, second.pooled_interval, second.pooled_difference),
        (first.mean_interval, second.mean_interval, second.mean_difference),
    ):
        assert of_second("gland", "dice")[1].low < of_first("gland", "dice")[0]
        value, found = difference(first, "gland", "dice")
        assert found.low < value < found.high < 0.03
        assert found.low > 0


def test_the_calibration_error_has_no_interval():
    """It shrinks with the number of pixels: patients drawn anew say nothing of it."""
    table = score_table(patients_with([0.7, 0.8, 0.9, 0.85, 0.6], [1000] * 5), NAMES)
    rows = table[table["score"] == "ece"]
    assert rows["low"].isna().all()
    assert (rows["interval"] == "").all()
