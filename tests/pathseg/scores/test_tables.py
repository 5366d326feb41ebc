import numpy as np
import pytest

from pathseg.errors import DatabaseError
from pathseg.scores.calibration import calibration, threshold_curves
from pathseg.scores.counts import Counts, PatientCounts, pooled
from pathseg.scores.tables import patient_table, score_table, scores_of

NAMES = ["a", "b"]


def counts_of(confusion):
    """Return counts with a confusion matrix, each pixel with a probability of 0.8 for what is predicted."""
    counts = Counts.zeros(2)
    for (true, predicted), number in np.ndenumerate(np.array(confusion)):
        probabilities = np.full((2, number), 51, np.uint8)
        probabilities[predicted] = 204
        counts.add_pixels(np.full(number, true), np.full(number, predicted), probabilities)
    return counts


@pytest.fixture
def patients():
    confusions = [[[90, 10], [0, 100]], [[0, 10], [10, 0]], [[1, 0], [0, 1]]]
    return PatientCounts(
        ["validation", "validation", "test"], ["A", "B", "C"], [counts_of(c) for c in confusions], "components"
    )


def value(table, part, over, score, class_="b"):
    """Return a row of the table of scores."""
    chosen = (table["part"] == part) & (table["over"] == over) & (table["score"] == score) & (table["class"] == class_)
    return table[chosen].iloc[0]


def test_pooled_and_mean_over_patients(patients):
    table = score_table(patients, NAMES)
    assert value(table, "validation", "pooled", "dice")["value"] == pytest.approx(200 / 230)
    assert value(table, "validation", "mean over patients", "dice")["value"] == pytest.approx((200 / 210 + 0) / 2)
    assert value(table, "test", "pooled", "dice")["value"] == 1
    assert value(table, "validation", "pooled", "accuracy", "all")["value"] == pytest.approx(190 / 220)
    assert set(table.loc[table["part"] == "validation", "patients"]) == {2}


def test_the_error_of_areas_is_a_score_with_an_interval(patients):
    """Patient A: 110 pixels for 100; patient B: 10 for 10. The background: 90 for 100, 10 for 10."""
    table = score_table(patients, NAMES)
    pooled = value(table, "validation", "pooled", "area_ratio")
    assert pooled["value"] == pytest.approx(120 / 110)
    assert pooled["low"] <= pooled["value"] <= pooled["high"]
    assert value(table, "validation", "mean over patients", "area_ratio")["value"] == pytest.approx((1.1 + 1) / 2)
    assert value(table, "validation", "pooled", "area_ratio", "a")["value"] == pytest.approx(100 / 110)
    assert list(patient_table(patients, NAMES)["area_ratio"][:2]) == [pytest.approx(0.9), pytest.approx(1.1)]


def test_what_the_search_for_tissue_loses(patients):
    patients.counts[0].unseen[:] = [50, 20]
    table = score_table(patients, NAMES)
    assert value(table, "validation", "pooled", "lost_in_search")["value"] == pytest.approx(20 / 110)
    assert value(table, "validation", "pooled", "lost_in_search", "all")["value"] == pytest.approx(20 / 110)
    assert value(table, "validation", "mean over patients", "lost_in_search")["value"] == pytest.approx(0.1)


def test_of_two_patients_the_range_is_shown(patients):
    table = score_table(patients, NAMES)
    row = value(table, "validation", "pooled", "dice")
    assert (row["low"], row["high"], row["interval"]) == (0, pytest.approx(200 / 210), "range")
    row = value(table, "test", "pooled", "dice")
    assert np.isnan(row["low"])
    assert row["interval"] == ""


def test_more_patients_give_a_narrower_interval(rng):
    def width(n):
        counts = [counts_of([[40, 10], [hit // 5, hit]]) for hit in rng.integers(20, 60, n)]
        table = score_table(PatientCounts(["test"] * n, list(map(str, range(n))), counts, "components"), NAMES)
        row = value(table, "test", "mean over patients", "dice")
        assert row["low"] < row["value"] < row["high"]
        assert row["interval"] == "95 %"
        return row["high"] - row["low"]

    assert width(60) < 0.7 * width(10)


def test_scores_of_each_patient(patients):
    table = patient_table(patients, NAMES)
    assert list(table["patient"]) == ["A", "A", "B", "B", "C", "C"]
    assert list(table["pixels"][:2]) == [100, 100]
    assert "object_f1" in table.columns


def test_calibration_error_by_hand(patients):
    """All pixels are predicted with 0.8; 190 of 220 are right."""
    counts = sum(patients.counts[1:2], start=patients.counts[0])
    assert float(scores_of(counts, NAMES)["all", "ece"]) == pytest.approx(abs(0.8 - 190 / 220), abs=1e-6)
    edges, mean, right, share = calibration(counts.confidence, 10)
    assert share[8] == 1
    assert mean[8] == pytest.approx(0.8)
    assert right[8] == pytest.approx(190 / 220)
    assert np.isnan(mean[:8]).all()
    assert len(edges) == 11


def test_curves_over_thresholds_are_what_a_loop_finds(rng):
    truth, probability = rng.random(500) > 0.6, rng.integers(0, 256, 500).astype(np.uint8)
    counts = Counts.zeros(2)
    counts.add_pixels(truth.astype(int), (probability > 127).astype(int), np.stack([255 - probability, probability]))
    curves = threshold_curves(counts.histogram[1])
    for level in (0, 40, 128, 254):
        predicted = probability >= level
        assert curves["dice"][level] == pytest.approx(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))
        assert curves["precision"][level] == pytest.approx(truth[predicted].mean())
        assert curves["recall"][level] == pytest.approx(predicted[truth].mean())


def test_folds_are_pooled(patients):
    folds = [
        PatientCounts(["validation", "test"], [patient, "T"], [counts_of([[5, 1], [2, 7]])] * 2, kind)
        for patient, kind in [("B", "components"), ("A", "instances")]
    ]
    together = pooled(folds)
    assert list(zip(together.parts, together.patients, strict=True)) == [
        ("validation", "A"),
        ("validation", "B"),
        ("test", "T"),
    ]
    np.testing.assert_array_equal(together.counts[2].confusion, [[10, 2], [4, 14]])
    assert together.objects == "both"


def test_counts_are_read_back(patients, tmp_path):
    patients.save(tmp_path / "c.npz")
    again = PatientCounts.load(tmp_path / "c.npz")
    assert (again.parts, again.patients, again.objects) == (patients.parts, patients.patients, patients.objects)
    for one, other in zip(again.counts, patients.counts, strict=True):
        np.testing.assert_array_equal(one.histogram, other.histogram)
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-30])
    with pytest.raises(DatabaseError, match=r"c\.npz: is damaged"):
        PatientCounts.load(tmp_path / "c.npz")
