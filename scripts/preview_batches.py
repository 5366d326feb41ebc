"""Draw what the network will be fed, so that a person sees a wrong augmentation or mask before training.

Outputs
-------
preview : PNG
    For some tiles: as stored, as changed at random, with its mask, and with the edges where the loss is raised.
"""

from contextlib import ExitStack

import numpy as np
import torch
from matplotlib.figure import Figure

from pathseg.figures import class_legend, class_picture, save_figure, show
from pathseg.logs import start_log
from pathseg.network.losses import edge_band
from pathseg.tiles.augmentation import Augmentation, augment, draw_params
from pathseg.tiles.batches import Tiles
from pathseg.tiles.database import TileDatabase

SHOWN_TILES = 6


def draw_preview(
    images: np.ndarray,
    changed: np.ndarray,
    masks: np.ndarray,
    edges: np.ndarray,
    names: list[str],
    colors: list[str],
    edges_title: str,
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
        How much the loss of their pixels is raised, float [N, h, w] in 0..1.
    names, colors
        Of the classes.
    edges_title
        What the edges are.
    """
    figure = Figure(figsize=(11, 2.75 * len(images) + 0.6))
    titles = ("stored", "fed to the network", "its mask (white: ignored)", edges_title)
    for row, axes in enumerate(figure.subplots(len(images), 4, squeeze=False)):
        share = edges[row][..., None]
        outlined = (1 - share) * changed[row] + share * np.array([0.0, 1.0, 0.0])
        pictures = (images[row], changed[row], class_picture(masks[row], colors), outlined)
        for axis, picture, title in zip(axes, pictures, titles, strict=True):
            show(axis, picture, title if row == 0 else "")
    class_legend(figure, names, colors)
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params = snakemake.params
    settings = params.training
    with ExitStack() as stack:
        databases = [stack.enter_context(TileDatabase(path)) for path in snakemake.input.training]
        tiles = Tiles(databases, settings["edges"] == "distance")
        chosen = np.unique(np.linspace(0, len(tiles) - 1, SHOWN_TILES).astype(int))
        batch = tiles.read(chosen)
    augmentation = Augmentation(**settings["augmentation"])
    generator = torch.Generator().manual_seed(settings["seed"])
    changes = draw_params(len(chosen), batch.images.shape[-1], augmentation, generator)
    changed, masks, edges, _ = augment(batch.images, batch.masks, batch.edges, augmentation, changes)
    if edges is None:
        title = f"its edges (loss x {settings['edge_weight']:g})"
        edges = edge_band(masks, settings["edge_width"]).float()
    else:
        title = f"its gaps (loss x 1 to {1 + settings['edge_w0']:g})"
    figure = draw_preview(
        batch.images.permute(0, 2, 3, 1).numpy(),
        changed.permute(0, 2, 3, 1).numpy(),
        masks.numpy().astype(np.uint8),
        edges.numpy(),
        [class_["name"] for class_ in params.classes],
        [class_["color"] for class_ in params.classes],
        title,
    )
    save_figure(figure, snakemake.output.preview)
    log.info("%s: what the network is fed", snakemake.output.preview)
