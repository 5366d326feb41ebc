"""Scores of objects and of outlines: were the glands found, one by one, and how far off are their borders?

Objects are scored as in the GlaS challenge (Sirinukunwattana et al. 2017, doi 10.1016/j.media.2016.08.008): F1, object
Dice and object Hausdorff; by panoptic quality (Kirillov et al. 2019, doi 10.1109/CVPR.2019.00963) with its parts, the
quality of segmentation and of recognition; and by the aggregated Jaccard index (Kumar et al. 2017,
doi 10.1109/TMI.2017.2677499). Where the papers leave a choice:

- The partner of an object is the one that shares most pixels with it; of several that share as many, the smallest, so
  that the numbering does not matter.
- A true object is found once: of two predicted ones that each cover exactly half of it, one is right and one is wrong.
  A predicted object finds one true object, its partner, however many it covers.
- Where there is nothing to compare with, an object has Dice 0 and no Hausdorff distance: it is left out of that.
- For the aggregated Jaccard index, several true objects may have the same predicted one, as in its paper.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.spatial import cKDTree
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from pathseg.labels.values import IGNORE

# What `count_objects` returns, all of which add up over images. "true" is summed over true objects, each with the
# predicted one that overlaps it most, "predicted" the other way round; sums are weighted by area. "matched" objects
# share more than half of what they cover together, "common" and "joined" are pixels of the aggregated Jaccard index.
OBJECT_COUNTS = (
    "true", "predicted", "found",
    "true_area", "true_dice", "true_near_area", "true_hausdorff",
    "predicted_area", "predicted_dice", "predicted_near_area", "predicted_hausdorff",
    "matched", "matched_iou", "common", "joined",
)  # fmt: skip
# What `count_boundary` returns.
BOUNDARY_COUNTS = ("true", "true_near", "predicted", "predicted_near")
# Up to so many pixels in the box around two objects, a distance transform of it is fastest; in larger ones, trees of
# points are.
SMALL_BOX = 2**16


def connected(indices: np.ndarray) -> np.ndarray:
    """Label the connected parts (8 neighbours) of each class but the first: class indices [H, W] to int [H, W]."""
    return label(np.where(indices == IGNORE, 0, indices), background=0, connectivity=2)


def true_objects(mask: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """Return the true objects of a class, int [H, W]: as they are numbered, or what is connected.

    A class without numbers where others have some is none of objects that touch (stroma beside glands).

    Parameters
    ----------
    mask
        Where the class is, bool [H, W].
    numbers
        Numbers of the objects of all classes, int [H, W], if there are any.
    """
    if numbers is not None and (numbers[mask] > 0).any():
        return np.where(mask, numbers, 0)
    return connected(mask)


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
    ours, others = Objects(true), Objects(predicted)
    pairs, common = _overlaps(ours, others)
    of_true = _partners(pairs, common, len(ours), others.areas)
    of_predicted = _partners(pairs[:, ::-1], common, len(others), ours.areas)
    distance = cache(partial(_hausdorff, ours, others))
    one = _side(ours, others, of_true, distance)
    other = _side(others, ours, of_predicted, lambda index, partner: distance(partner, index))
    overlaps = _overlap_sums(pairs, common, ours.areas, others.areas)
    return np.array([len(ours), len(others), _found(ours, of_predicted), *one, *other, *overlaps], float)


def count_found(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count true, predicted and found objects alone, which `count_objects` counts first: float64 [3]."""
    ours, others = Objects(true), Objects(predicted)
    pairs, common = _overlaps(ours, others)
    return np.array([len(ours), len(others), _found(ours, _partners(pairs[:, ::-1], common, len(others), ours.areas))])


def _found(ours: "Objects", of_predicted: np.ndarray) -> int:
    """Count our objects of which a predicted one, whose partners and pixels shared these are, covers half or more."""
    partner, overlap = of_predicted[of_predicted[:, 1] > 0].T
    return len(np.unique(partner[2 * overlap >= ours.areas[partner]]))


class Objects:
    """Numbered objects of an image.

    Parameters
    ----------
    numbers
        Number of the object of each pixel, 0 for none, int [H, W].

    Attributes
    ----------
    numbers : numpy.ndarray
        The same without gaps in the numbering.
    areas : numpy.ndarray
        Pixels of each object [N].
    boxes : list of tuple
        Their bounding boxes (top, left, bottom, right).
    """

    def __init__(self, numbers: np.ndarray) -> None:
        # Numbers that are far apart would make the counts by number large.
        sparse = numbers.max(initial=0) > numbers.size
        areas = np.zeros(1, int) if sparse else np.bincount(numbers.ravel(), minlength=1)
        if sparse or not areas[1:].all():
            numbers = relabel_sequential(numbers)[0]
            areas = np.bincount(numbers.ravel(), minlength=1)
        self.numbers, self.areas = numbers, areas[1:]
        self.boxes = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(numbers)]
        self.outline = cache(self._outline)

    def __len__(self) -> int:
        return len(self.areas)

    def inside(self, index: int, box: Iterable[int]) -> np.ndarray:
        """Say which pixels of a box are of an object: bool [h, w]."""
        top, left, bottom, right = box
        return self.numbers[top:bottom, left:right] == index + 1

    def _outline(self, index: int) -> cKDTree:
        """Return the pixels of an object with one of 4 neighbours outside of it, [n, 2] as (y, x)."""
        mask = self.inside(index, self.boxes[index])
        return cKDTree(np.argwhere(mask & ~ndimage.binary_erosion(mask)) + self.boxes[index][:2])


def _overlaps(ours: Objects, others: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of objects that share pixels, int [n, 2], and how many they share [n]."""
    both = (ours.numbers > 0) & (others.numbers > 0)
    places = ours.numbers[both] - 1, others.numbers[both] - 1
    # Repeated places are added up.
    table = sparse.coo_array((np.ones(len(places[0]), int), places), (len(ours), len(others))).tocsr().tocoo()
    return np.stack([table.row, table.col], axis=1).astype(int), table.data


def _partners(pairs: np.ndarray, common: np.ndarray, count: int, other_areas: np.ndarray) -> np.ndarray:
    """Return for each of our objects the one that it shares most pixels with, and how many: int [count, 2]."""
    partners = np.zeros((count, 2), int)
    # Of repeated indices the last one counts: the one with most pixels, of equals the smallest.
    order = np.lexsort((-other_areas[pairs[:, 1]], common))
    partners[pairs[order, 0]] = np.stack([pairs[order, 1], common[order]], axis=1)
    return partners


def _side(
    ours: Objects, others: Objects, partners: np.ndarray, distance: Callable[[int, int], float]
) -> tuple[float, float, float, float]:
    """Return the area of our objects and their summed Dice, and area and distances of those that can be compared."""
    area = float(ours.areas.sum())
    if not len(others):
        return area, 0.0, 0.0, 0.0
    dice = 2 * partners[:, 1] / (ours.areas + others.areas[partners[:, 0]])
    boxes = np.array(others.boxes)
    distances = [
        distance(index, partner) if common else _nearest(ours.boxes[index], boxes, partial(distance, index))
        for index, (partner, common) in enumerate(partners.tolist())
    ]
    return area, float(ours.areas @ dice), area, float(ours.areas @ np.array(distances).reshape(-1))


def _nearest(box: tuple[int, int, int, int], boxes: np.ndarray, distance: Callable[[int], float]) -> float:
    """Return the smallest Hausdorff distance to any of several objects, by the distances of their boxes' sides.

    An object reaches each side of its box, so that no Hausdorff distance is less than that of two sides of one kind.
    """
    least = np.abs(boxes - box).max(axis=1)
    best = np.inf
    for index in np.argsort(least).tolist():
        if least[index] >= best:
            break
        best = min(best, distance(index))
    return best


def _hausdorff(ours: Objects, others: Objects, our: int, other: int) -> float:
    """Return the Hausdorff distance in pixels of one of our objects from one of the others."""
    one, two = ours.boxes[our], others.boxes[other]
    box = (min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3]))
    if (box[2] - box[0]) * (box[3] - box[1]) > SMALL_BOX:
        return max(_farthest(ours, our, others, other), _farthest(others, other, ours, our))
    masks = ours.inside(our, box), others.inside(other, box)
    return max(
        float(
            cv2.distanceTransform(np.where(target, np.uint8(0), np.uint8(1)), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[
                source
            ].max()
        )
        for source, target in (masks, masks[::-1])
    )


def _farthest(ours: Objects, our: int, others: Objects, other: int) -> float:
    """Return how far the pixel of our object that is farthest from the other object is from it.

    It lies on our object's outline, or within the other's box: beyond that, the next pixel away from it is farther.
    What is nearest to it, if it is not inside, lies on the other's outline. All pixels of the other lie within half a
    diagonal of its box's middle, so that only those are looked at whose distance from there is at most a diagonal less
    than the largest.
    """
    own, box = np.array(ours.boxes[our]), np.array(others.boxes[other])
    start, stop = np.maximum(own[:2], box[:2]), np.minimum(own[2:], box[2:])
    within = np.argwhere(ours.inside(our, (*start, *stop))) + start if (start < stop).all() else np.empty((0, 2), int)
    points = np.concatenate([ours.outline(our).data.astype(int), within])
    from_middle = np.hypot(*(points - (box[:2] + box[2:] - 1) / 2).T)
    points = points[from_middle >= from_middle.max() - np.hypot(*(box[2:] - box[:2]))]
    points = points[others.numbers[points[:, 0], points[:, 1]] != other + 1]
    return float(others.outline(other).query(points)[0].max(initial=0))


def _overlap_sums(
    pairs: np.ndarray, common: np.ndarray, true_areas: np.ndarray, predicted_areas: np.ndarray
) -> tuple[float, float, float, float]:
    """Return matched objects and their summed IoU, and the common and joined pixels of the aggregated Jaccard index."""
    joined = true_areas[pairs[:, 0]] + predicted_areas[pairs[:, 1]] - common
    iou = common / joined
    matched = iou > 0.5
    # Of each true object the predicted one with the highest IoU, of equals the smallest.
    order = np.lexsort((-predicted_areas[pairs[:, 1]], iou))
    best = np.full(len(true_areas), -1)
    best[pairs[order, 0]] = order
    best = best[best >= 0]
    alone = true_areas.sum() - true_areas[pairs[best, 0]].sum()
    unused = predicted_areas.sum() - predicted_areas[np.unique(pairs[best, 1])].sum()
    return matched.sum(), iou[matched].sum(), common[best].sum(), joined[best].sum() + alone + unused


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
    """Compute scores from sums of `count_objects`, [..., 15], with distances in the unit of the counts.

    Returns
    -------
    dict of numpy.ndarray
        `object_f1` (a predicted object is right if it covers at least half of a true one), `object_dice` and
        `object_hausdorff` (weighted by area, the mean over true and over predicted objects), `aji`, `pq`, `sq` and `rq`
        (aggregated Jaccard index; panoptic quality, of segmentation and of recognition), and `object_count_ratio`
        (predicted objects over true ones), each [...].
    """
    c = dict(zip(OBJECT_COUNTS, np.moveaxis(counts, -1, 0), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "object_f1": 2 * c["found"] / (c["true"] + c["predicted"]),
            "object_dice": _mean(c["true_dice"] / c["true_area"], c["predicted_dice"] / c["predicted_area"]),
            "object_hausdorff": _mean(
                c["true_hausdorff"] / c["true_near_area"], c["predicted_hausdorff"] / c["predicted_near_area"]
            ),
            "aji": c["common"] / c["joined"],
            "pq": 2 * c["matched_iou"] / (c["true"] + c["predicted"]),
            "sq": c["matched_iou"] / c["matched"],
            "rq": 2 * c["matched"] / (c["true"] + c["predicted"]),
            "object_count_ratio": np.where(c["true"] > 0, c["predicted"] / c["true"], np.nan),
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
