"""Scores of objects and of outlines: were the glands found, one by one, and how far off are their borders?

Objects are scored as in the GlaS challenge: Sirinukunwattana et al. (2017), doi 10.1016/j.media.2016.08.008.
"""

import cv2
import numpy as np
from skimage.measure import label

from pathseg.labels.values import IGNORE

# What `count_objects` returns, all of which add up over images. "true" is summed over true objects, each with the
# predicted one that overlaps it most, "predicted" the other way round; sums are weighted by area.
OBJECT_COUNTS = (
    "true", "predicted", "found",
    "true_area", "true_dice", "true_near_area", "true_hausdorff",
    "predicted_area", "predicted_dice", "predicted_near_area", "predicted_hausdorff",
)  # fmt: skip
# What `count_boundary` returns.
BOUNDARY_COUNTS = ("true", "true_near", "predicted", "predicted_near")
# Objects that overlap none are compared with so many of those whose middles are nearest.
CANDIDATES = 5


def connected(indices: np.ndarray) -> np.ndarray:
    """Label the connected parts (8 neighbours) of each class but the first: class indices [H, W] to int [H, W]."""
    return label(np.where(indices == IGNORE, 0, indices), background=0, connectivity=2)


def count_objects(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compare numbered objects.

    Parameters
    ----------
    true, predicted
        Number of the object of each pixel, 0 for none, int [H, W].

    Returns
    -------
    numpy.ndarray
        float64, see `OBJECT_COUNTS`; distances in pixels. A Hausdorff distance is left out (and the area with it)
        where there is no object to compare with.
    """
    true, predicted = _renumbered(true), _renumbered(predicted)
    true_area, predicted_area = (np.bincount(numbers.ravel())[1:] for numbers in (true, predicted))
    both = (true > 0) & (predicted > 0)
    pairs, common = np.unique(np.stack([true[both], predicted[both]]) - 1, axis=1, return_counts=True)
    of_true = _partners(pairs[0], pairs[1], common, len(true_area))
    of_predicted = _partners(pairs[1], pairs[0], common, len(predicted_area))
    found = sum(shared >= 0.5 * true_area[partner] for partner, shared in of_predicted if shared)
    one = _side(true, predicted, of_true, true_area, predicted_area)
    other = _side(predicted, true, of_predicted, predicted_area, true_area)
    return np.array([len(true_area), len(predicted_area), found, *one, *other], float)


def _partners(ours: np.ndarray, others: np.ndarray, common: np.ndarray, count: int) -> np.ndarray:
    """Return for each of our objects the one that it shares most pixels with, and how many: int [count, 2]."""
    partners = np.zeros((count, 2), int)
    # Of repeated indices the last one counts: the one with most pixels.
    order = np.argsort(common, kind="stable")
    partners[ours[order]] = np.stack([others[order], common[order]], axis=1)
    return partners


def _renumbered(numbers: np.ndarray) -> np.ndarray:
    """Return objects numbered from 1 without gaps."""
    present = np.unique(numbers)
    return np.searchsorted(present[present != 0], numbers, side="left") * (numbers != 0) + (numbers != 0)


def _side(
    ours: np.ndarray, others: np.ndarray, partners: np.ndarray, areas: np.ndarray, other_areas: np.ndarray
) -> tuple[float, float, float, float]:
    """Return the area of our objects and their summed Dice, and area and distances of those that can be compared."""
    dice = distances = 0.0
    if not len(other_areas):
        return float(areas.sum()), 0.0, 0.0, 0.0
    boxes, other_boxes = _boxes(ours, len(areas)), _boxes(others, len(other_areas))
    middles = other_boxes.reshape(-1, 2, 2).mean(axis=1)
    for number, (area, (partner, common)) in enumerate(zip(areas, partners, strict=True)):
        nearest = [partner]
        if common:
            dice += area * 2 * common / (area + other_areas[partner])
        else:
            away = np.square(middles - boxes[number].reshape(2, 2).mean(axis=0)).sum(axis=1)
            nearest = list(np.argsort(away)[:CANDIDATES])
        own = (ours, number + 1, boxes[number])
        distances += area * min(_hausdorff(own, (others, other + 1, other_boxes[other])) for other in nearest)
    return float(areas.sum()), dice, float(areas.sum()), distances


def _boxes(numbers: np.ndarray, count: int) -> np.ndarray:
    """Return the bounding boxes of objects 1 to `count`: int [count, 4], (top, left, bottom, right)."""
    boxes = np.zeros((count, 4), int)
    rows, columns = np.nonzero(numbers)
    index = numbers[rows, columns] - 1
    boxes[:, :2] = np.iinfo(np.int64).max
    for axis, places in enumerate((rows, columns)):
        np.minimum.at(boxes[:, axis], index, places)
        np.maximum.at(boxes[:, axis + 2], index, places + 1)
    return boxes


def _hausdorff(one: tuple[np.ndarray, int, np.ndarray], other: tuple[np.ndarray, int, np.ndarray]) -> float:
    """Return the Hausdorff distance in pixels of two objects, each given by an image, its number and its box."""
    top, left = np.minimum(one[2][:2], other[2][:2])
    bottom, right = np.maximum(one[2][2:], other[2][2:])
    masks = [numbers[top:bottom, left:right] == number for numbers, number, _ in (one, other)]
    return max(
        float(cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[source].max())
        for source, target in (masks, masks[::-1])
    )


def count_boundary(true: np.ndarray, predicted: np.ndarray, known: np.ndarray, tolerance: float) -> np.ndarray:
    """Count which pixels of outlines lie near the other outline.

    Parameters
    ----------
    true, predicted
        Where a class is, and where it is predicted, bool [H, W].
    known
        Where the truth is known, bool [H, W]; the edges of that and of the image are no outlines.
    tolerance
        Largest distance that is near, in pixels.

    Returns
    -------
    numpy.ndarray
        float64, see `BOUNDARY_COUNTS`.
    """
    outlines = [_outline(mask, known) for mask in (true, predicted)]
    counts = []
    for own, other in (outlines, outlines[::-1]):
        near = 0
        if own.any() and other.any():
            distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            near = int((distance[own] <= tolerance).sum())
        counts += [int(own.sum()), near]
    return np.array(counts, float)


def _outline(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask with one of 4 neighbours outside of it."""
    solid = np.pad(mask | ~known, 1, mode="edge").astype(np.uint8)
    inner = cv2.erode(solid, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))[1:-1, 1:-1]
    return mask & known & (inner == 0)


def object_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute scores from sums of `count_objects`, [..., 11], with distances in the unit of the counts.

    Returns
    -------
    dict of numpy.ndarray
        `object_f1` (a predicted object is right if it covers at least half of a true one), `object_dice` and
        `object_hausdorff` (weighted by area, the mean over true and over predicted objects), each [...].
    """
    c = dict(zip(OBJECT_COUNTS, np.moveaxis(counts, -1, 0), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "object_f1": 2 * c["found"] / (c["true"] + c["predicted"]),
            "object_dice": _mean(c["true_dice"] / c["true_area"], c["predicted_dice"] / c["predicted_area"]),
            "object_hausdorff": _mean(
                c["true_hausdorff"] / c["true_near_area"], c["predicted_hausdorff"] / c["predicted_near_area"]
            ),
        }


def _mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the mean of two scores; of one where there is only one (nothing true, or nothing predicted)."""
    pair = np.stack([one, other])
    there = ~np.isnan(pair)
    return np.where(there, pair, 0).sum(axis=0) / there.sum(axis=0)


def boundary_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute `boundary_f1` from sums of `count_boundary` [..., 4]: F1 of near outline pixels, [...]."""
    true, true_near, predicted, predicted_near = np.moveaxis(counts, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = true_near / true, predicted_near / predicted
        f1 = 2 * precision * recall / (precision + recall)
    # Nothing there and something predicted, or the other way round, is 0; neither is no score.
    return {"boundary_f1": np.where(true + predicted > 0, np.nan_to_num(f1), np.nan)}
