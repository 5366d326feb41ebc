"""Draw what a layer has learned: its kernels, and what it makes of a tile.

Outputs
-------
kernels : PNG
    Each kernel of a convolution, one for each pair of output and input channels (the first ones, if they are many).
activations : PNG
    The layer's output for a validation tile, a picture for each channel.
"""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from pathseg.errors import ConfigError
from pathseg.figures import save_figure, show
from pathseg.logs import start_log
from pathseg.network.checkpoint import build_network, load_checkpoint
from pathseg.network.devices import choose_devices
from pathseg.tiles.database import TileDatabase

MOST_PICTURES = 96
COLUMNS = 12


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name in `model_dict`.

    Raises
    ------
    ConfigError
        If there is none; the message lists the convolutions.
    """
    layers = dict(network.named_modules())
    if not name or name not in layers:
        convolutions = [key for key, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        raise ConfigError(
            f"network_pictures.layer: {name!r} is no layer of this network; convolutions are {', '.join(convolutions)}"
        )
    return layers[name]


def chosen_tile(wanted: int, count: int) -> int:
    """Return the index of the tile to draw: the last one where there are fewer, which is known after training alone."""
    return min(wanted, count - 1)


def layer_kernels(layer: nn.Module, name: str) -> np.ndarray:
    """Return the kernels of a convolution: float32 [pairs of channels, kh, kw].

    Raises
    ------
    ConfigError
        If the layer is not a convolution.
    """
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        raise ConfigError(
            f"network_pictures.layer: {name} is a {type(layer).__name__}, which has no kernels; choose a convolution"
        )
    weight = layer.weight.detach().float().numpy()
    return weight.reshape(-1, *weight.shape[2:])


@torch.inference_mode()
def layer_activations(network: nn.Module, layer: nn.Module, image: torch.Tensor) -> np.ndarray:
    """Return a layer's output for one image [3, H, W] in 0..1: float32 [channels, h, w]."""
    caught: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: caught.append(output))
    network(image[None])
    hook.remove()
    return caught[0][0].float().numpy()


def draw_grid(pictures: np.ndarray, title: str, cmap: str, image: np.ndarray | None = None) -> Figure:
    """Draw small pictures [n, h, w] in a grid, on one scale of values; `image` [H, W, 3] comes first."""
    shown = pictures[:MOST_PICTURES]
    if len(shown) < len(pictures):
        title += f" (the first {len(shown)} of {len(pictures)})"
    cells = len(shown) + (image is not None)
    columns = min(COLUMNS, cells)
    rows = math.ceil(cells / columns)
    figure = Figure(figsize=(1.1 * columns + 1.2, 1.1 * rows + 0.7))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    if image is not None:
        show(axes[0], image)
        axes = axes[1:]
    limit = float(np.abs(shown).max())
    low = -limit if shown.min() < 0 else 0.0
    for axis, picture in zip(axes, shown, strict=False):
        drawn = axis.imshow(picture, cmap=cmap, vmin=low, vmax=limit)
    for axis in axes:
        axis.axis("off")
    figure.colorbar(drawn, ax=figure.axes, shrink=0.8, aspect=30)
    figure.suptitle(title)
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    choose_devices(0, snakemake.threads)
    network = build_network(load_checkpoint(snakemake.input.model), snakemake.input.model)
    layer = find_layer(network, params.layer)
    with TileDatabase(snakemake.input.database) as database:
        index = chosen_tile(params.tile, len(database))
        images = database.read("img", np.array([index]))
        name = database.samples[index]
    save_figure(draw_grid(layer_kernels(layer, params.layer), f"Kernels of {params.layer}", "RdBu_r"), output.kernels)
    activations = layer_activations(network, layer, torch.from_numpy(images[0]).permute(2, 0, 1).float() / 255)
    cmap = "RdBu_r" if activations.min() < 0 else "viridis"
    title = f"Activations of {params.layer} for {name}"
    save_figure(draw_grid(activations, title, cmap, images[0]), output.activations)
    log.info("%s: layer %s", output.kernels, params.layer)
