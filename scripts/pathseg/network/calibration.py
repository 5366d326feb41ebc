"""Make a network's probabilities mean what they say: a temperature, and a bias for each class.

Class weights, the soft Dice loss and a long training change what a network calls probable. The logits are divided by a
temperature (Guo et al. 2017, arXiv 1706.04599) and shifted by class, as fits patients whom the network was not trained
on (fitted by `pathseg.prediction.calibrating`). So are the logits of insides, if objects are told apart. All is part of
the last convolution then, and costs nothing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pathseg.errors import CheckpointError
from pathseg.labels.separation import SURE
from pathseg.network.unet import UNet


@dataclass(frozen=True)
class Calibration:
    """What is done to logits: divided by `temperature`, then `bias` is added.

    Attributes
    ----------
    temperature : float
        Above 1 if the network was too sure.
    bias : tuple of float
        Of each class; they sum to 0.
    inside, sure : float
        The probabilities from which on a pixel is inside of an object, and surely so, as the network was trained;
        afterwards these are 0.5 and `SURE`.
    """

    temperature: float
    bias: tuple[float, ...]
    inside: float = 0.5
    sure: float = SURE

    def of_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits [n, C]."""
        return logits / self.temperature + np.array(self.bias)


def calibration_of(checkpoint: dict[str, Any], path: str) -> Calibration | None:
    """Return the calibration that a model file holds, or None: files of the tutorial have none.

    Raises
    ------
    CheckpointError
        If it is not what `Calibration` says.
    """
    stored = checkpoint.get("calibration")
    if stored is None:
        return None
    try:
        temperature, bias = float(stored["temperature"]), tuple(float(value) for value in stored["bias"])
        inside, sure = float(stored.get("inside", 0.5)), float(stored.get("sure", SURE))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its calibration is not a temperature and biases; train it again") from error
    if not (np.isfinite([temperature, *bias]).all() and temperature > 0 and len(bias) == checkpoint["n_classes"]):
        raise CheckpointError(
            f"{path}: its calibration (temperature {temperature}, {len(bias)} biases) does not fit "
            f"{checkpoint['n_classes']} classes; train it again"
        )
    if not 0 < inside < sure < 1:
        raise CheckpointError(
            f"{path}: its calibration of insides ({inside}, {sure}) is not two probabilities; train it again"
        )
    return Calibration(temperature, bias, inside, sure)


@torch.no_grad()
def calibrate(network: UNet, calibration: Calibration) -> None:
    """Multiply a calibration into the last convolution, whose output are the logits."""
    # The logit of insides is stretched so that both probabilities come to be what they are afterwards.
    inside, sure, afterwards = (math.log(p / (1 - p)) for p in (calibration.inside, calibration.sure, SURE))
    stretch = afterwards / (sure - inside)
    for values in network.last.parameters():
        values[: network.n_classes].div_(calibration.temperature)
        # Nothing is there where the network has no output for insides.
        values[network.n_classes :].mul_(stretch)
    bias = network.last.get_parameter("bias")
    bias[: network.n_classes].add_(torch.tensor(calibration.bias))
    bias[network.n_classes :].sub_(inside * stretch)
