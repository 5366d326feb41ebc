import numpy as np
import pytest

from pathseg.labels import IGNORE
from pathseg.metrics import class_scores, confusion_matrix, mean_dice, overall_accuracy


def test_scores_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 1, 1, IGNORE])
    predicted = np.array([0, 0, 1, 1, 1, 1, 0, 1])
    confusion = confusion_matrix(truth, predicted, 2)
    np.testing.assert_array_equal(confusion, [[2, 1], [1, 3]])
    scores = class_scores(confusion, ["a", "b"]).set_index("class")
    assert scores.loc["b", "dice"] == pytest.approx(6 / 8)
    assert scores.loc["b", "iou"] == pytest.approx(3 / 5)
    assert scores.loc["b", "precision"] == pytest.approx(3 / 4)
    assert scores.loc["b", "recall"] == pytest.approx(3 / 4)
    assert scores.loc["b", "specificity"] == pytest.approx(2 / 3)
    assert scores.loc["b", "accuracy"] == pytest.approx(5 / 7)
    assert overall_accuracy(confusion) == pytest.approx(5 / 7)
    assert mean_dice(confusion) == pytest.approx((4 / 6 + 6 / 8) / 2)


def test_a_class_that_is_nowhere_has_no_score():
    confusion = confusion_matrix(np.zeros(4, int), np.zeros(4, int), 3)
    scores = class_scores(confusion, ["a", "b", "c"])
    assert scores["dice"][0] == 1
    assert scores["dice"][1:].isna().all()
    assert mean_dice(confusion) == 1


def test_nothing_known_has_no_score():
    confusion = confusion_matrix(np.full(4, IGNORE), np.zeros(4, int), 2)
    assert np.isnan(mean_dice(confusion))
    assert np.isnan(overall_accuracy(confusion))
