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


@torch.no_grad()
def rounded_network(gain=10, **architecture):
    """A network that OpenCV's Winograd rounds: what is in its kernels cancels, and its logits are far apart.

    By several times what float32 has to; at a gain of 30 and a depth of 5 by more than 1e-4.
    """
    network = network_of(0, batch_norm=False, wf=4, **architecture)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module is not network.last:
            module.weight -= module.weight.mean((1, 2, 3), keepdim=True)
    pixels = torch.randint(0, 256, (1, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    logits = network(pixels / 255)
    scale = gain / logits.std((0, 2, 3))
    network.last.bias.sub_(logits.mean((0, 2, 3))).mul_(scale)
    network.last.weight.mul_(scale[:, None, None, None])
    return network
