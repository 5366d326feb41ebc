"""How to train: the settings, the optimiser, and the moving average of weights that is scored."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

from pathseg.tiles.augmentation import Augmentation


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the fields are those of `training` in the configuration.

    Attributes
    ----------
    epochs : int or None
        None for as many as fit into `minutes`.
    """

    epochs: int | None
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    gradient_clip: float
    ema_half_life: float
    class_weights: str | list[float]
    edges: str
    edge_weight: float
    edge_width: int
    edge_w0: float
    dice_weight: float
    patience: int | None
    precision: str
    seed: int
    augmentation: Augmentation
    minutes: float | None = None
    sampling: str = "uniform"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make settings from the configuration's `training` block."""
        budget = {"epochs": None if config["minutes"] else config["epochs"]}
        plain = {field.name: config[field.name] for field in fields(cls) if field.name != "augmentation"}
        return cls(**plain | budget, augmentation=Augmentation(**config["augmentation"]))


def make_optimizer(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW for a network; biases, and the scales and shifts of normalisations, do not decay."""
    parameters = list(network.parameters())
    groups = [
        {"params": [values for values in parameters if values.ndim > 1], "weight_decay": weight_decay},
        {"params": [values for values in parameters if values.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def decay_of(half_life: float, step: int) -> float:
    """Return the weight of the past in the moving average at a step: little at first.

    Parameters
    ----------
    half_life
        Steps after which a step's weights count half; 0 for none, so that the average is the weights themselves.
    step
        Steps so far.
    """
    return min(0.5 ** (1 / half_life), (1 + step) / (10 + step)) if half_life else 0.0


def follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's.

    PyTorch's AveragedModel would do the same, but counts steps in a tensor that a GPU would be waited for.
    """
    get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(network.parameters()), None)


def renew_statistics(averaged: nn.Module, images: Iterable[Tensor]) -> None:
    """Give a network's batch norms the statistics that its own weights make of some batches, and make it ready.

    Running statistics of other weights do not fit averaged ones (Izmailov et al. 2018, arXiv 1803.05407).

    Parameters
    ----------
    averaged
        The network.
    images
        Batches as it takes them [n, 3, H, W].
    """
    update_bn(images, averaged)
    averaged.eval()
