"""Weights of pixels near the edges of objects, in which a network should take care.

Two ways: the tutorial's band just outside each object, made anew for each changed tile, and the U-Net paper's map of
narrow gaps between objects, made once for each image and stored in the database.
"""

import cv2
import numpy as np
import torch
from skimage.measure import label, regionprops
from torch import Tensor

from pathseg.labels import IGNORE

# Stored maps hold the paper's exponential times this.
FULL = 255
# Beyond this many sigma from an object the paper's exponential is too small to be stored.
REACH = 4


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


def gap_map(objects: np.ndarray, sigma: float) -> np.ndarray:
    """Map the narrow gaps between objects: exp(-(d1 + d2)^2 / (2 sigma^2)) in the background.

    d1 and d2 are the distances to the nearest and the second nearest object (Ronneberger, Fischer and Brox, 2015,
    doi 10.1007/978-3-319-24574-4_28, equation 2, whose factor w0 is applied when a network is trained).

    Parameters
    ----------
    objects
        Number of the object of each pixel, 0 for none, int [H, W].
    sigma
        In pixels.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W], `FULL` times the exponential; 0 in objects.
    """
    reach = int(np.ceil(REACH * sigma))
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    for region in regionprops(objects):
        top, left, bottom, right = region.bbox
        window = (slice(max(top - reach, 0), bottom + reach), slice(max(left - reach, 0), right + reach))
        outside = (objects[window] != region.label).astype(np.uint8)
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    gaps = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(objects == 0, np.rint(FULL * gaps), 0).astype(np.uint8)


def objects_of(indices: np.ndarray) -> np.ndarray:
    """Label the objects of class indices [H, W] by numbers: connected pixels (8 neighbours) of one foreground class."""
    return label(np.where(indices == IGNORE, 0, indices), background=0, connectivity=2)
