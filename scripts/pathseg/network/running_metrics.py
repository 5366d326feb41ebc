"""Loss and confusion matrix of an epoch, and the scores that follow from them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathseg.network.probabilities import argmax
from pathseg.network.processes import all_reduce_sum
from pathseg.scores.pixels import mean_dice, overall_accuracy, pixel_scores


class RunningMetrics:
    """Loss and confusion matrix summed up over batches, on the device until they are asked for."""

    def __init__(self, n_classes: int, device: torch.device) -> None:
        self.n_classes = n_classes
        self.confusion = torch.zeros(n_classes**2, dtype=torch.int64, device=device)
        # Apple's GPUs have no 64-bit numbers.
        self.loss = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self.tiles = 0

    def add(self, logits: Tensor, masks: Tensor, loss: Tensor) -> None:
        """Count a batch: logits [N, C, H, W], masks [N, H, W], and the mean loss."""
        self.confusion += confusion(argmax(logits.movedim(1, 0)), masks, self.n_classes)
        self.loss += loss.detach().to(self.loss.dtype) * len(masks)
        self.tiles += len(masks)

    def over_processes(self) -> "RunningMetrics":
        """Return the metrics of all processes together; each of them must ask for it."""
        together = RunningMetrics(self.n_classes, self.confusion.device)
        counts = torch.cat([self.confusion.double(), self.loss[None], self.loss.new_tensor([self.tiles])])
        counts = all_reduce_sum(counts)
        together.confusion += counts[:-2].long()
        together.loss += counts[-2]
        together.tiles = int(counts[-1])
        return together

    def mean_loss(self) -> float:
        """Return the mean loss of a tile."""
        return float(self.loss) / max(self.tiles, 1)

    def matrix(self) -> np.ndarray:
        """Return the confusion matrix [C, C]; rows are the truth."""
        return self.confusion.cpu().numpy().reshape(self.n_classes, self.n_classes)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"confusion": self.confusion.cpu(), "loss": self.loss.cpu(), "tiles": self.tiles}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.confusion.copy_(state["confusion"])
        self.loss.copy_(state["loss"])
        self.tiles = state["tiles"]


def confusion(predicted: Tensor, masks: Tensor, n_classes: int) -> Tensor:
    """Count pixels by true and predicted class, without a look at the numbers that would keep a GPU waiting.

    Parameters
    ----------
    predicted
        uint8 [N, H, W].
    masks
        int64 [N, H, W], class indices or `IGNORE`.
    n_classes
        Number of classes, C.

    Returns
    -------
    Tensor
        int64 [C * C], the truth first.
    """
    # `IGNORE` is counted in a row of its own, which is left out. Each tile has counters of its own, so that a GPU's
    # threads are seldom at the same one.
    pairs = (masks.clamp(max=n_classes) * n_classes + predicted).flatten(1)
    counts = torch.zeros(len(pairs), (n_classes + 1) * n_classes, dtype=torch.int64, device=pairs.device)
    return counts.scatter_add_(1, pairs, torch.ones_like(pairs)).sum(dim=0)[:-n_classes]


def class_rates(confusion: np.ndarray, names: list[str]) -> dict[str, float]:
    """Return TP, FP, TN, FN and their rates for each class, named as `class/TP`.

    Parameters
    ----------
    confusion
        [C, C], rows are the truth.
    names
        Names of the classes.
    """
    rates: dict[str, float] = {}
    total = confusion.sum()
    for index, name in enumerate(names):
        hit = confusion[index, index]
        missed, false_alarm = confusion[index].sum() - hit, confusion[:, index].sum() - hit
        rest = total - hit - missed - false_alarm
        rates |= {f"{name}/TP": hit, f"{name}/FP": false_alarm, f"{name}/TN": rest, f"{name}/FN": missed}
        positive, negative = max(hit + missed, 1), max(rest + false_alarm, 1)
        rates |= {f"{name}/TPR": hit / positive, f"{name}/FNR": missed / positive}
        rates |= {f"{name}/TNR": rest / negative, f"{name}/FPR": false_alarm / negative}
    return {name: float(value) for name, value in rates.items()}


def epoch_scores(phases: dict[str, RunningMetrics], classes: list[str]) -> dict[str, float]:
    """Return what the history says of an epoch: loss, accuracy and mean Dice, and on validation the Dice of each class.

    Parameters
    ----------
    phases
        Metrics of "train" and "val".
    classes
        Names of the classes.
    """
    scores = {f"{phase}_loss": metrics.mean_loss() for phase, metrics in phases.items()}
    for name, measure in {"accuracy": overall_accuracy, "dice": mean_dice}.items():
        scores |= {f"{phase}_{name}": measure(metrics.matrix()) for phase, metrics in phases.items()}
    dice = pixel_scores(phases["val"].matrix())["dice"]
    return scores | {f"val_dice_{name}": float(value) for name, value in zip(classes, dice, strict=True)}
