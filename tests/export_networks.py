"""Networks whose normalisations do something, and the sizes at which they are exported."""

import torch
from torch import nn

from pathseg.network.unet import UNet
from pathseg.prediction.inference import Predictor


def network_of(seed, **architecture):
    """A network whose normalisations do something."""
    torch.manual_seed(seed)
    network = UNet(**({"n_classes": 3, "wf": 3} | architecture)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.3, 0.2)
            module.running_var.uniform_(0.3, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


def sizes_of(networks, tile=64):
    """Border and side of the image for a tile, as the export chooses them."""
    predictor = Predictor(networks, torch.device("cpu"), torch.float32)
    return predictor.border, predictor.input_side(tile)
