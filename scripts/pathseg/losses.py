"""Losses over class scores and masks; pixels marked `IGNORE` never count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pathseg.labels import IGNORE


def edge_band(masks: Tensor, width: int) -> Tensor:
    """Mark the pixels just outside each object.

    The band is what dilation by a 3x3 cross, `width` times, adds to an object of a foreground class (any but 0): the
    pixels at a Manhattan distance of at most `width` from it. The tutorial does the same for its one foreground class
    with SciPy; here it is max pooling, on the training device.

    Parameters
    ----------
    masks
        int64 [N, H, W], class indices or `IGNORE`.
    width
        Width of the band in pixels.

    Returns
    -------
    Tensor
        bool [N, H, W].
    """
    label = masks.masked_fill(masks == IGNORE, 0).float()[:, None]
    # Largest and smallest foreground label in the neighbourhood: a band is where one of them is not the pixel's own.
    absent = float(IGNORE)
    highest, lowest = label, torch.where(label > 0, -label, -absent)
    for _ in range(width):
        highest, lowest = _dilate(highest), _dilate(lowest)
    near = (highest > 0) & ((highest != label) | (lowest != -label))
    return near[:, 0] & (masks != IGNORE)


def _dilate(x: Tensor) -> Tensor:
    """Grey dilation of [N, 1, H, W] by a 3x3 cross."""
    along_rows = F.max_pool2d(x, (1, 3), stride=1, padding=(0, 1))
    along_columns = F.max_pool2d(x, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(along_rows, along_columns)


def class_weights(setting: str | list[float], pixels: Tensor) -> Tensor:
    """Return the weight of each class in the loss, with mean 1.

    Parameters
    ----------
    setting
        "balanced": one minus the class's share of the pixels, as in the tutorial; "none"; or the weights.
    pixels
        Pixels of each class in the training images [C].
    """
    if setting == "none":
        return torch.ones(len(pixels))
    weights = 1 - pixels / pixels.sum().clamp(min=1) if setting == "balanced" else torch.tensor(setting)
    return (weights / weights.mean().clamp(min=1e-6)).float()


def weighted_cross_entropy(
    logits: Tensor, masks: Tensor, weights: Tensor, edge_weight: float, edge_width: int
) -> Tensor:
    """Cross-entropy times the class's weight and `edge_weight ** edge`, averaged over the known pixels.

    Parameters
    ----------
    logits
        float32 [N, C, H, W].
    masks
        int64 [N, H, W].
    weights
        Of the classes, float32 [C].
    edge_weight, edge_width
        Factor in the band of `edge_band`, and its width in pixels.
    """
    loss = F.cross_entropy(logits, masks, weight=weights, ignore_index=IGNORE, reduction="none")
    if edge_weight != 1:
        loss = torch.where(edge_band(masks, edge_width), loss * edge_weight, loss)
    return loss.sum() / (masks != IGNORE).sum().clamp(min=1)


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """One minus the Dice overlap of probabilities and masks, averaged over the classes that the batch holds.

    Sums run over the whole batch, as in Milletari, Navab and Ahmadi (2016), doi 10.1109/3DV.2016.79.
    """
    known = (masks != IGNORE)[:, None]
    probability = torch.softmax(logits, dim=1) * known
    truth = F.one_hot(masks.masked_fill(masks == IGNORE, 0), logits.shape[1]).movedim(-1, 1) * known
    both = (probability * truth).sum(dim=(0, 2, 3))
    size = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    dice = (2 * both + 1) / (size + 1)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)
