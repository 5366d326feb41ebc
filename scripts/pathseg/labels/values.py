"""From the values in mask files to class indices."""

from typing import Any

import numpy as np

from pathseg.errors import ImageError

# Value in a mask of class indices of pixels that count neither for the loss nor for scores.
IGNORE = 255

# Stored edge maps hold weights of 0 to 1 times this.
FULL_EDGE = 255

_UNKNOWN = 254


def to_class_indices(
    labels: np.ndarray, classes: list[dict[str, Any]], ignore_value: int | None, name: str
) -> np.ndarray:
    """Replace mask values by class indices.

    Parameters
    ----------
    labels
        uint8 or uint16 [H, W] as `read_labels` gives it.
    classes
        The configuration's classes, whose `mask_value` is looked up.
    ignore_value
        Value that becomes `IGNORE`, or None.
    name
        What to call the mask in an error.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W].

    Raises
    ------
    ImageError
        If the mask holds a value that is neither a class's nor the ignored one.
    """
    lookup = np.full(2**16, _UNKNOWN, np.uint8)
    for index, class_ in enumerate(classes):
        lookup[class_["mask_value"]] = index
    if ignore_value is not None:
        lookup[ignore_value] = IGNORE
    indices = lookup[labels]
    if (indices == _UNKNOWN).any():
        found = np.unique(labels[indices == _UNKNOWN])
        known = ", ".join(f"{class_['mask_value']} ({class_['name']})" for class_ in classes)
        raise ImageError(
            f"{name}: has pixels of value {', '.join(map(str, found[:8]))}{' ...' if len(found) > 8 else ''}, which no "
            f"class has; known are {known}. Add a class, or set ignore_value"
        )
    return indices


def class_counts(indices: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the pixels of each class in uint8 [H, W], without those to ignore: int64 [C]."""
    return np.bincount(indices.ravel(), minlength=256)[:n_classes]
