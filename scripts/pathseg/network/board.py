"""What TensorBoard shows of a training: losses, scores and rates of each epoch, and pictures of validation tiles."""

from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from torch import Tensor

from pathseg.network.losses import cut_to
from pathseg.network.probabilities import argmax
from pathseg.network.running_metrics import RunningMetrics, class_rates

# How often in all pictures are written.
SHOWN_TIMES = 10


def open_board(folder: Path, first_epoch: int) -> SummaryWriter:
    """Return a writer that goes on from an epoch: what a killed run has written beyond it is no longer shown."""
    return SummaryWriter(str(folder), purge_step=first_epoch, flush_secs=30)


def write_epoch(
    board: SummaryWriter, epoch: int, record: dict[str, Any], phases: dict[str, RunningMetrics], classes: list[str]
) -> None:
    """Write the numbers of an epoch.

    Parameters
    ----------
    board
        Where to write.
    epoch
        From 0.
    record
        The epoch's row of the history.
    phases
        Metrics of "train" and "val".
    classes
        Names of the classes.
    """
    board.add_scalar("learning_rate", record["learning_rate"], epoch)
    for phase, metrics in phases.items():
        for what in ("loss", "accuracy", "dice"):
            board.add_scalar(f"{phase}/{what}", record[f"{phase}_{what}"], epoch)
        for name, value in class_rates(metrics.matrix(), classes).items():
            board.add_scalar(f"{phase}/{name}", value, epoch)


def has_pictures(epoch: int, epochs: int) -> bool:
    """Say whether an epoch is one of those whose pictures are shown."""
    return epoch % max(1, epochs // SHOWN_TIMES) == 0 or epoch + 1 == epochs


def contact_sheet(images: Tensor, masks: Tensor, logits: Tensor) -> np.ndarray:
    """Draw tiles below each other, each with its truth and its prediction beside it.

    Parameters
    ----------
    images, masks
        uint8 [N, 3, H, W] and [N, H, W]; what is `IGNORE` is drawn as the last class.
    logits
        [N, C, h, w]; tiles are cut to their size.

    Returns
    -------
    numpy.ndarray
        uint8 [N * h, 3 * w, 3].
    """
    n_classes = logits.shape[1]
    grey = np.linspace(0, 255, n_classes).astype(np.uint8)
    truth = grey[cut_to(masks, logits).clamp(max=n_classes - 1).numpy()]
    predicted = grey[argmax(logits.cpu().movedim(1, 0)).numpy()]
    pictures = cut_to(images, logits).permute(0, 2, 3, 1).numpy()
    rows = [
        np.concatenate([picture, *(np.repeat(layer[..., None], 3, axis=2) for layer in layers)], axis=1)
        for picture, *layers in zip(pictures, truth, predicted, strict=True)
    ]
    return np.concatenate(rows)
