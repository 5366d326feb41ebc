import numpy as np
import pytest

from pathseg.labels.values import IGNORE
from pathseg.scores.pixels import confusion_matrix, mean_dice, overall_accuracy, pixel_scores


def test_scores_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 1, 1, IGNORE])
    predicted = np.array([0, 0, 1, 1, 1, 1, 0, 1])
    confusion = confusion_matrix(truth, predicted, 2)
    np.testing.assert_array_equal(confusion, [[2, 1], [1, 3]])
    scores = pixel_scores(confusion)
    assert scores["dice"][1] == pytest.approx(6 / 8)
    assert scores["iou"][1] == pytest.approx(3 / 5)
    assert scores["precision"][1] == pytest.approx(3 / 4)
    assert scores["recall"][1] == pytest.approx(3 / 4)
    assert scores["specificity"][1] == pytest.approx(2 / 3)
    assert scores["accuracy"][1] == pytest.approx(5 / 7)
    assert scores["area_ratio"][1] == pytest.approx(4 / 4)
    assert pixel_scores(np.array([[5, 3], [1, 1]]))["area_ratio"].tolist() == [6 / 8, 2]
    assert overall_accuracy(confusion) == pytest.approx(5 / 7)
    assert mean_dice(confusion) == pytest.approx((4 / 6 + 6 / 8) / 2)


def test_a_class_that_is_nowhere_has_no_score():
    confusion = confusion_matrix(np.zeros(4, int), np.zeros(4, int), 3)
    scores = pixel_scores(confusion)
    assert scores["dice"][0] == 1
    assert np.isnan(scores["dice"][1:]).all()
    # Predicted where it is not: there is no area to compare with.
    assert np.isnan(pixel_scores(np.array([[3, 1], [0, 0]]))["area_ratio"][1])
    assert mean_dice(confusion) == 1


def test_nothing_known_has_no_score():
    confusion = confusion_matrix(np.full(4, IGNORE), np.zeros(4, int), 2)
    assert np.isnan(mean_dice(confusion))
    assert np.isnan(overall_accuracy(confusion))
