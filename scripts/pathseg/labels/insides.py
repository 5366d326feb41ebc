"""What is inside of objects: of each what is left when its rim is taken off, so that those which touch are parted.

A network that learns it beside the classes tells objects apart (`pathseg.labels.separation`).
"""

import cv2
import numpy as np

from pathseg.labels.values import IGNORE

# Around what is looked at, so many times the shrink must be known: an object that is cut seems narrower than it is.
AROUND = 4


def insides(objects: np.ndarray, classes: np.ndarray, of_classes: list[int], shrink: int) -> np.ndarray:
    """Map what is inside of objects.

    A pixel is inside if it is more than `shrink` pixels deep in its object, or, where the object is narrower than four
    times that, in the deeper half: none has no inside.

    Parameters
    ----------
    objects
        Number of the object of each pixel, 0 for none, int [H, W].
    classes
        Class indices [H, W]; objects of two classes are two, whatever their numbers are.
    of_classes
        Classes whose objects count.
    shrink
        In pixels.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W], 1 inside, 0 elsewhere, `IGNORE` where the class is.
    """
    counted = (objects > 0) & np.isin(classes, of_classes)
    names = np.where(counted, objects.astype(np.int64) * 256 + classes, 0)
    numbers = np.unique(names, return_inverse=True)[1].reshape(names.shape)
    # What lies beyond the picture is no rim.
    frame = np.pad(numbers, 1, mode="edge").astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    rim = (cv2.erode(frame, square) != cv2.dilate(frame, square))[1:-1, 1:-1]
    depth = np.full(objects.shape, np.inf, np.float32)
    if rim.any():
        depth = 1 + cv2.distanceTransform((~rim).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = np.zeros(int(numbers.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, numbers[counted], depth[counted])
    inside = counted & (depth > np.minimum(shrink, deepest[numbers] / 2))
    return np.where(classes == IGNORE, np.uint8(IGNORE), inside.astype(np.uint8))
