"""Draw what the network will be fed, so that a person sees a wrong augmentation or mask before training.

Outputs
-------
preview : PNG
    For some tiles: as stored, as changed at random, with its mask, and with the band of the edge weight.
"""

from contextlib import ExitStack

import numpy as np
import torch
from matplotlib.figure import Figure

from pathseg.augment import Augmentation, augment
from pathseg.database import TileDatabase
from pathseg.figures import class_legend, class_picture, save_figure, show
from pathseg.logs import start_log
from pathseg.losses import edge_band
from pathseg.training import Tiles

SHOWN_TILES = 6


def draw_preview(
    images: np.ndarray,
    changed: np.ndarray,
    masks: np.ndarray,
    edges: np.ndarray,
    names: list[str],
    colors: list[str],
    edge_weight: float,
) -> Figure:
    """Draw tiles row by row.

    Parameters
    ----------
    images
        Tiles as stored, uint8 [N, H, W, 3].
    changed
        Tiles as the network sees them, float [N, h, w, 3] in 0..1.
    masks
        Their class indices [N, h, w].
    edges
        Their edge bands, bool [N, h, w].
    names, colors
        Of the classes.
    edge_weight
        Factor on the loss inside the band.
    """
    figure = Figure(figsize=(11, 2.75 * len(images) + 0.6))
    titles = ("stored", "fed to the network", "its mask (white: ignored)", f"its edges (loss x {edge_weight:g})")
    for row, axes in enumerate(figure.subplots(len(images), 4, squeeze=False)):
        outlined = changed[row].copy()
        outlined[edges[row]] = (0, 1, 0)
        pictures = (images[row], changed[row], class_picture(masks[row], colors), outlined)
        for axis, picture, title in zip(axes, pictures, titles, strict=True):
            show(axis, picture, title if row == 0 else "")
    class_legend(figure, names, colors)
    return figure


if __name__ == "__main__":
    start_log(snakemake.log[0])
    params = snakemake.params
    settings = params.training
    with ExitStack() as stack:
        tiles = Tiles([stack.enter_context(TileDatabase(path)) for path in snakemake.input.training])
        chosen = np.unique(np.linspace(0, len(tiles) - 1, SHOWN_TILES).astype(int))
        stored, masks = tiles.read(chosen)
    generator = torch.Generator().manual_seed(settings["seed"])
    changed, changed_masks = augment(stored, masks, Augmentation(**settings["augmentation"]), generator)
    edges = edge_band(changed_masks, settings["edge_width"])
    figure = draw_preview(
        stored.permute(0, 2, 3, 1).numpy(),
        changed.permute(0, 2, 3, 1).numpy(),
        changed_masks.numpy().astype(np.uint8),
        edges.numpy(),
        [class_["name"] for class_ in params.classes],
        [class_["color"] for class_ in params.classes],
        settings["edge_weight"],
    )
    save_figure(figure, snakemake.output.preview)
