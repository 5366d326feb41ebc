"""What training makes small, over class probabilities and masks; pixels marked `IGNORE` never count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pathseg.labels.values import IGNORE
from pathseg.network.optimisation import TrainingSettings
from pathseg.network.processes import all_reduce_sum
from pathseg.tiles.augmentation import Fed


def training_loss(logits: Tensor, fed: Fed, weights: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the loss that the settings ask for: cross-entropy, and the soft Dice loss if it has a weight.

    The same two losses of insides and the rest, if they are learned, are added.

    Parameters
    ----------
    logits
        float32 [N, C, h, w], smaller than the masks if the network is unpadded; with insides [N, C + 1, h, w].
    fed
        What the network was fed.
    weights
        Of the classes, float32 [C].
    settings
        How to train.
    """
    factors = edge_factors(fed.masks, fed.edges, settings)
    factors = None if factors is None else cut_to(factors, logits)
    log_probabilities = F.log_softmax(logits[:, : len(weights)], dim=1)
    loss = _both_losses(log_probabilities, cut_to(fed.masks, logits), weights, factors, settings.dice_weight)
    if fed.insides is not None:
        inside = logits[:, len(weights)]
        log_probabilities = torch.stack([F.logsigmoid(-inside), F.logsigmoid(inside)], dim=1)
        insides = cut_to(fed.insides, logits)
        loss = loss + _both_losses(log_probabilities, insides, torch.ones_like(weights[:2]), None, settings.dice_weight)
    return loss


def _both_losses(
    log_probabilities: Tensor, masks: Tensor, weights: Tensor, factors: Tensor | None, dice_weight: float
) -> Tensor:
    loss = weighted_cross_entropy(log_probabilities, masks, weights, factors)
    return loss + dice_weight * soft_dice_loss(log_probabilities, masks) if dice_weight else loss


def edge_factors(masks: Tensor, edges: Tensor | None, settings: TrainingSettings) -> Tensor | None:
    """Return the factor of each pixel in the loss: float32 [N, H, W], or None if all are 1.

    Parameters
    ----------
    masks
        int64 [N, H, W].
    edges
        Stored maps in 0..1, float32 [N, H, W], used with `edges: distance`.
    settings
        How to train.
    """
    if settings.edges == "distance" and edges is not None:
        return 1 + settings.edge_w0 * edges
    if settings.edge_weight == 1:
        return None
    return 1 + (settings.edge_weight - 1) * edge_band(masks, settings.edge_width).float()


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
    known = masks != IGNORE
    labels = masks.to(torch.uint8).masked_fill_(~known, 0)
    # A band is where the largest or the smallest foreground label nearby is not the pixel's own. The smallest is found
    # as the largest of the complement, in which the background is 0 too.
    complement = torch.where(labels > 0, IGNORE - labels, labels)
    highest, lowest = _dilated(labels, width), _dilated(complement, width)
    return ((highest != labels) | (lowest != complement)) & known


def _dilated(maps: Tensor, times: int) -> Tensor:
    """Grey dilation of uint8 [N, H, W] by a 3x3 cross. Shifting bytes is ten times as fast as pooling of floats."""
    for _ in range(times):
        wider = maps.clone()
        for axis in (1, 2):
            length = maps.shape[axis] - 1
            for to, source in ((0, 1), (1, 0)):
                part = wider.narrow(axis, to, length)
                torch.maximum(part, maps.narrow(axis, source, length), out=part)
        maps = wider
    return maps


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
    if setting == "balanced":
        weights = 1 - pixels / pixels.sum().clamp(min=1)
    else:
        weights = torch.tensor(setting, dtype=torch.float64)  # whole numbers have no mean
    return (weights / weights.mean().clamp(min=1e-6)).float()


def weighted_cross_entropy(
    log_probabilities: Tensor, masks: Tensor, weights: Tensor, factors: Tensor | None = None
) -> Tensor:
    """Cross-entropy times the weights of classes and pixels, averaged over the known pixels of all processes.

    Parameters
    ----------
    log_probabilities
        float32 [N, C, H, W].
    masks
        int64 [N, H, W].
    weights
        Of the classes, float32 [C].
    factors
        Of the pixels, float32 [N, H, W].
    """
    loss = F.nll_loss(log_probabilities, masks, weight=weights, ignore_index=IGNORE, reduction="none")
    if factors is not None:
        loss = loss * factors
    known = (masks != IGNORE).sum().float()
    total, count = all_reduce_sum(torch.stack([loss.sum(), known]))
    return total / count.clamp(min=1)


def soft_dice_loss(log_probabilities: Tensor, masks: Tensor) -> Tensor:
    """One minus the Dice overlap of probabilities and masks, averaged over the classes that the batch holds.

    It is of log-probabilities float32 [N, C, H, W] and masks int64 [N, H, W]. Sums run over the whole batch of all
    processes, as in Milletari, Navab and Ahmadi (2016), doi 10.1109/3DV.2016.79.
    """
    known = (masks != IGNORE)[:, None]
    probability = log_probabilities.exp() * known
    truth = masks[:, None] == torch.arange(log_probabilities.shape[1], device=masks.device)[:, None, None]
    both = (probability * truth).sum(dim=(0, 2, 3))
    true = truth.sum(dim=(0, 2, 3)).float()
    both, predicted, true = all_reduce_sum(torch.stack([both, probability.sum(dim=(0, 2, 3)), true]))
    dice = (2 * both + 1) / (predicted + true + 1)
    present = true > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def cut_to(maps: Tensor, logits: Tensor) -> Tensor:
    """Cut the middle out of [N, ..., H, W] to the size of logits, which unpadded networks make smaller."""
    height, width = logits.shape[-2:]
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]
