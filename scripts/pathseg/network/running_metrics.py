"""Loss and confusion matrix of an epoch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathseg.labels.values import IGNORE
from pathseg.network.probabilities import argmax
from pathseg.network.processes import all_reduce_sum


class RunningMetrics:
    """Loss and confusion matrix summed up over batches, on the device until they are asked for."""

    def __init__(self, n_classes: int, device: torch.device) -> None:
        self.n_classes = n_classes
        self.confusion = torch.zeros(n_classes**2, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.tiles = 0

    def add(self, logits: Tensor, masks: Tensor, loss: Tensor) -> None:
        """Count a batch: logits [N, C, H, W], masks [N, H, W], and the mean loss."""
        # Small numbers, as long as they hold all pairs of classes: bytes are counted fastest.
        kind = torch.uint8 if self.n_classes < 16 else torch.int64
        pairs = masks.to(kind) * self.n_classes + argmax(logits.movedim(1, 0))
        pairs = pairs.masked_fill(masks == IGNORE, self.n_classes**2)
        self.confusion += torch.bincount(pairs.flatten(), minlength=self.n_classes**2 + 1)[:-1]
        self.loss += loss.detach().double() * len(masks)
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
