"""The U-Net paper's map of narrow gaps between objects, in which a network should take care.

It is made once for each image and stored in the database; the tutorial's band around objects is
in `pathseg.network.losses`.
"""

import cv2
import numpy as np
from skimage.measure import regionprops

from pathseg.labels.values import FULL_EDGE

# Beyond this many sigma from an object the paper's exponential is too small to be stored.
REACH = 4


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
        uint8 [H, W], `FULL_EDGE` times the exponential; 0 in objects.
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
    return np.where(objects == 0, np.rint(FULL_EDGE * gaps), 0).astype(np.uint8)
