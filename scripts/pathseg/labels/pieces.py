"""Pieces of tissue on a slide: sections, cores and fragments that lie apart."""

import numpy as np
from scipy import ndimage
from skimage.measure import label


def number_pieces(tissue: np.ndarray) -> np.ndarray:
    """Give the connected parts of tissue (8 neighbours) numbers from 1, the largest first.

    Parameters
    ----------
    tissue
        bool [h, W].

    Returns
    -------
    numpy.ndarray
        int64 [h, W]; elsewhere the number of the nearest piece, and 0 if there is no tissue.
    """
    parts, count = label(tissue, connectivity=2, return_num=True)
    if not count:
        return np.zeros(tissue.shape, np.int64)
    order = np.argsort(-np.bincount(parts.ravel())[1:], kind="stable")
    numbers = np.zeros(count + 1, np.int64)
    numbers[order + 1] = np.arange(1, count + 1)
    nearest = ndimage.distance_transform_edt(~tissue, return_distances=False, return_indices=True)
    return numbers[parts][tuple(nearest)]
