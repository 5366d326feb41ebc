import numpy as np
import pytest
import torch

from pathseg.labels.values import IGNORE
from pathseg.network.running_metrics import RunningMetrics, class_rates, epoch_scores


def test_rates_by_hand():
    rates = class_rates(np.array([[5, 1], [2, 12]]), ["a", "b"])
    assert [rates[f"b/{name}"] for name in ("TP", "FP", "TN", "FN")] == [12, 1, 5, 2]
    assert rates["b/TPR"] == pytest.approx(12 / 14)
    assert rates["b/FPR"] == pytest.approx(1 / 6)


def test_metrics_leaves_ignored_pixels_out():
    metrics = RunningMetrics(2, torch.device("cpu"))
    masks = torch.tensor([[[0, 1], [IGNORE, 1]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 0], [1, 1]]]), 2).movedim(-1, 1).float()
    metrics.add(logits, masks, torch.tensor(0.5))
    np.testing.assert_array_equal(metrics.matrix(), [[1, 0], [1, 1]])
    assert metrics.mean_loss() == 0.5


def test_an_epoch_has_the_scores_of_both_phases():
    phases = {name: RunningMetrics(2, torch.device("cpu")) for name in ("train", "val")}
    for phase, counts, loss in (("train", [80, 20, 20, 80], 2.0), ("val", [50, 0, 30, 20], 3.0)):
        phases[phase].confusion += torch.tensor(counts)
        phases[phase].loss += loss
        phases[phase].tiles = 2
    scores = epoch_scores(phases, ["a", "b"])
    expected = {"train_loss": 1.0, "val_loss": 1.5, "train_accuracy": 0.8, "val_accuracy": 0.7}
    expected |= {"train_dice": 0.8, "val_dice": (100 / 130 + 40 / 70) / 2}
    expected |= {"val_dice_a": 100 / 130, "val_dice_b": 40 / 70}
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize("n_classes", [15, 16, 20])
def test_metrics_of_many_classes(n_classes):
    metrics = RunningMetrics(n_classes, torch.device("cpu"))
    masks = torch.arange(n_classes).reshape(1, 1, n_classes)
    metrics.add(torch.eye(n_classes).reshape(1, n_classes, 1, n_classes), masks, torch.tensor(0.0))
    np.testing.assert_array_equal(metrics.matrix(), np.eye(n_classes))
