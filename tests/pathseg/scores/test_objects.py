"""Cases worked out by hand, after the definitions of the GlaS challenge."""

import time

import cv2
import numpy as np
import pytest
from scipy.spatial.distance import cdist, directed_hausdorff

from pathseg.labels.values import IGNORE
from pathseg.scores import objects
from pathseg.scores.objects import (
    OBJECT_COUNTS,
    boundary_scores,
    connected,
    count_boundary,
    count_objects,
    object_scores,
)


def canvas(*rectangles, shape=(40, 60)):
    """Return an image with numbered rectangles (top, left, height, width)."""
    numbers = np.zeros(shape, np.int32)
    for number, (top, left, height, width) in enumerate(rectangles, start=1):
        numbers[top : top + height, left : left + width] = number
    return numbers


def scores(true, predicted):
    """Return the scores of one image as numbers."""
    return {name: float(value) for name, value in object_scores(count_objects(true, predicted)).items()}


def test_the_same_objects_are_perfect():
    numbers = canvas((2, 2, 10, 10), (2, 12, 10, 10), (20, 30, 5, 5))
    ones = ("object_f1", "object_dice", "aji", "pq", "sq", "rq", "object_count_ratio")
    assert scores(numbers, numbers * 7) == dict.fromkeys(ones, 1) | {"object_hausdorff": 0}


def test_one_object_found_in_part():
    """True: 10 x 10. Predicted: its left 10 x 6 (60 %, found) and, apart from it, 4 x 4 of nothing."""
    found = scores(canvas((0, 0, 10, 10)), canvas((0, 0, 10, 6), (30, 40, 4, 4)))
    assert found["object_f1"] == pytest.approx(2 * 1 / (1 + 2))
    dice = 2 * 60 / 160
    assert found["object_dice"] == pytest.approx((dice + 60 / 76 * dice) / 2)
    # Right edge of the true object: 9 against 5. The stray object's far corner: from (33, 43) to (9, 9).
    stray = np.hypot(33 - 9, 43 - 9)
    from_true_corner = np.hypot(30 - 0, 40 - 0)
    predicted_side = (60 * 4 + 16 * max(stray, from_true_corner)) / 76
    assert found["object_hausdorff"] == pytest.approx((4 + predicted_side) / 2, rel=1e-5)


@pytest.mark.parametrize(("width", "expected"), [(4, 0), (5, 1), (9, 1)])
def test_an_object_is_found_if_half_of_it_is_covered(width, expected):
    counts = dict(zip(OBJECT_COUNTS, count_objects(canvas((0, 0, 10, 10)), canvas((0, 0, 10, width))), strict=True))
    assert counts["found"] == expected


def test_two_objects_merged_into_one():
    """Two true 10 x 10 squares, 2 apart, predicted as one 10 x 22: it covers one of them, the other is missed."""
    found = scores(canvas((0, 0, 10, 10), (0, 12, 10, 10)), canvas((0, 0, 10, 22)))
    assert found["object_f1"] == pytest.approx(2 * 1 / 3)
    assert found["object_dice"] == pytest.approx(2 * 100 / 320)
    assert found["object_hausdorff"] == pytest.approx(12)


def test_two_halves_do_not_find_an_object_twice():
    """Each covers exactly half of it, which is enough to find it, once."""
    found = scores(canvas((0, 0, 10, 10)), canvas((0, 0, 10, 5), (0, 5, 10, 5)))
    assert found["object_f1"] == pytest.approx(2 * 1 / 3)
    assert found["object_count_ratio"] == 2
    # Neither covers more than half of what both cover together.
    assert (found["pq"], found["aji"]) == (0, 50 / 150)


def test_of_equal_partners_the_smaller_counts_however_objects_are_numbered():
    """A predicted bar shares 20 pixels with a true object of 20 and with one of 100."""
    true, bar = canvas((0, 0, 2, 10), (0, 10, 10, 10)), canvas((0, 0, 2, 20))
    for numbers in (true, np.where(true, 3 - true, 0)):
        assert scores(numbers, bar)["object_dice"] == scores(true, bar)["object_dice"]
        counts = dict(zip(OBJECT_COUNTS, count_objects(numbers, bar), strict=True))
        assert counts["predicted_dice"] == pytest.approx(40 * 2 * 20 / (20 + 40))


def test_nothing_found_and_nothing_there():
    empty, one = canvas(), canvas((0, 0, 5, 5))
    assert scores(one, empty)["object_f1"] == scores(empty, one)["object_f1"] == 0
    assert scores(one, empty)["object_dice"] == scores(empty, one)["object_dice"] == 0
    assert all(np.isnan(value) for value in scores(empty, empty).values())
    assert np.isnan(scores(one, empty)["object_hausdorff"])


def test_hausdorff_is_that_of_the_pixel_sets(rng):
    for _ in range(10):
        blobs = [canvas((*rng.integers(0, 20, 2), *rng.integers(3, 15, 2))) for _ in range(2)]
        places = [np.argwhere(blob) for blob in blobs]
        expected = max(directed_hausdorff(*places)[0], directed_hausdorff(*places[::-1])[0])
        assert scores(*blobs)["object_hausdorff"] == pytest.approx(expected, rel=1e-5)


def test_counts_add_up_over_images():
    one = count_objects(canvas((0, 0, 10, 10)), canvas((0, 0, 10, 6)))
    other = count_objects(canvas((0, 0, 4, 5)), canvas((0, 0, 4, 5)))
    dice = (100 * (2 * 60 / 160) + 20 * 1) / 120, (60 * (2 * 60 / 160) + 20 * 1) / 80
    assert float(object_scores(one + other)["object_dice"]) == pytest.approx(sum(dice) / 2)


def test_diagonal_neighbours_are_one_object():
    assert connected(np.eye(4, dtype=bool)).max() == 1


def test_touching_classes_are_two_objects():
    indices = np.array([[1, 1, 2, 2, 0, 1, IGNORE]])
    assert list(connected(indices)[0]) == [1, 1, 2, 2, 0, 3, 0]


@pytest.mark.parametrize(("tolerance", "expected"), [(0, 1 / 3), (1, 1), (3, 1)])
def test_an_outline_one_pixel_off(tolerance, expected):
    """A square of 9 moved by one pixel: of its 32 outline pixels, 2 x 8 lie on the other outline, less the corners."""
    true, predicted = canvas((5, 5, 9, 9)) > 0, canvas((5, 6, 9, 9)) > 0
    counts = count_boundary(true, predicted, np.ones_like(true), tolerance)
    assert list(counts[[0, 2]]) == [32, 32]
    value = float(boundary_scores(counts)["boundary_f1"])
    assert value == (pytest.approx(16 / 32) if tolerance == 0 else expected)


def test_edges_of_the_image_and_of_what_is_known_are_no_outlines():
    mask, known = np.zeros((20, 20), bool), np.ones((20, 20), bool)
    mask[:10], known[5:] = True, False
    assert count_boundary(mask, mask, known, 1).sum() == 0
    assert np.isnan(boundary_scores(count_boundary(mask, mask, known, 1))["boundary_f1"])


def random_objects(rng, side, count):
    """Return numbered rectangles and discs that hide each other in part, with gaps in the numbering."""
    numbers = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for _ in range(count):
        top, left, size = rng.integers(0, side, 2).tolist() + [int(rng.integers(1, side // 2))]
        if rng.random() < 0.5:
            shape = (y >= top) & (y < top + size) & (x >= left) & (x < left + rng.integers(1, size + 1))
        else:
            shape = (y - top) ** 2 + (x - left) ** 2 < (size / 2) ** 2
        if rng.random() < 0.2:
            # A ring.
            shape &= (y - top) ** 2 + (x - left) ** 2 > (size / 3) ** 2
        numbers[shape] = rng.integers(1, 400)
    return numbers


def moved(rng, numbers):
    """Return the objects a little elsewhere, some missing."""
    other = np.roll(numbers, tuple(rng.integers(-4, 5, 2)), (0, 1))
    for number in np.unique(other):
        if rng.random() < 0.2:
            other[other == number] = 0
    return other


def masks_of(numbers):
    return [numbers == number for number in np.unique(numbers) if number]


def by_the_papers(true, predicted):
    """Score sets of pixels one by one: the formulas of the papers, written without any table of overlaps."""
    g, s = masks_of(true), masks_of(predicted)
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in s] for a in g]).reshape(len(g), len(s))
    expected = {"object_count_ratio": len(s) / len(g) if g else np.nan}
    # Kirillov et al.: pairs above one half are unique.
    pairs = iou[iou > 0.5]
    n_all = (len(g) + len(s)) / 2
    expected["sq"] = pairs.mean() if len(pairs) else np.nan
    expected["rq"] = len(pairs) / n_all if n_all else np.nan
    expected["pq"] = pairs.sum() / n_all if n_all else np.nan
    # Kumar et al.: each true object with its best, then what was never used.
    common, joined, used = 0, 0, set()
    for i, a in enumerate(g):
        j = max(range(len(s)), key=lambda j: (iou[i, j], -s[j].sum()), default=None)
        if j is None or iou[i, j] == 0:
            joined += a.sum()
            continue
        common, joined = common + (a & s[j]).sum(), joined + (a | s[j]).sum()
        used.add(j)
    joined += sum(b.sum() for j, b in enumerate(s) if j not in used)
    expected["aji"] = common / joined if joined else np.nan
    # Sirinukunwattana et al.
    expected["object_f1"] = 2 * len(found_by(g, s)) / (len(g) + len(s)) if g or s else np.nan
    sides = [(one, other) for one, other in ((g, s), (s, g)) if one]
    dice, hausdorff = [], []
    for one, other in sides:
        areas = np.array([a.sum() for a in one])
        partners = [partner_of(a, other) for a in one]
        values = [
            0 if b is None else 2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(one, partners, strict=True)
        ]
        dice.append(areas @ values / areas.sum())
        if other:
            compared = [other if b is None else [b] for b in partners]
            distances = [min(hausdorff_of(a, c) for c in of) for a, of in zip(one, compared, strict=True)]
            hausdorff.append(areas @ distances / areas.sum())
    expected["object_dice"] = np.mean(dice) if dice else np.nan
    expected["object_hausdorff"] = np.mean(hausdorff) if hausdorff else np.nan
    return expected


def partner_of(a, others):
    best = max(others, key=lambda b: ((a & b).sum(), -b.sum()), default=None)
    return best if best is not None and (a & best).any() else None


def found_by(g, s):
    found = set()
    for b in s:
        a = partner_of(b, g)
        if a is not None and (a & b).sum() >= 0.5 * a.sum():
            found.add(next(i for i, c in enumerate(g) if c is a))
    return found


def hausdorff_of(a, b):
    distances = cdist(np.argwhere(a), np.argwhere(b))
    return max(distances.min(axis=0).max(), distances.min(axis=1).max())


def check(true, predicted):
    found, expected = scores(true, predicted), by_the_papers(true, predicted)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, nan_ok=True), name


@pytest.mark.parametrize("small_box", [2**16, 0])
@pytest.mark.parametrize("seed", range(10))
def test_random_objects_are_scored_as_the_papers_say(seed, small_box, monkeypatch):
    """By either way of measuring distances; among 200 pairs of maps, some have no object at all."""
    monkeypatch.setattr(objects, "SMALL_BOX", small_box)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        true = random_objects(rng, 32, rng.integers(0, 8))
        check(true, moved(rng, true) if rng.random() < 0.7 else random_objects(rng, 32, rng.integers(0, 8)))


def discs(rng, side, step, radii):
    """Return a grid of discs, each a little beside its place."""
    numbers = np.zeros((side, side), np.int32)
    for number, (y, x) in enumerate(np.ndindex(side // step, side // step), start=1):
        place = [int(v) for v in (np.array([x, y]) * step + step // 2 + rng.integers(-step // 8, step // 8 + 1, 2))]
        cv2.circle(numbers, place, int(rng.integers(*radii)), number, -1)
    return numbers


def least_seconds(function, *arguments):
    """Return the processor time that a call needs, the least of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        function(*arguments)
        times.append(time.process_time() - start)
    return min(times)


def test_three_thousand_objects_are_counted_in_a_second(rng):
    true, predicted = discs(rng, 3000, 54, (12, 20)), discs(rng, 3000, 54, (12, 20))
    assert true.max() == 3025
    assert least_seconds(count_objects, true, predicted) < 1


def test_three_hundred_specks_and_one_gland_are_counted_in_a_second(rng):
    """As a bad model leaves them: none touches the gland, all are compared with it."""
    gland = np.zeros((3000, 3000), np.int32)
    cv2.circle(gland, (1500, 1500), 700, 1, -1)
    specks = discs(rng, 3000, 160, (3, 6)) * (gland == 0)
    assert len(np.unique(specks)) > 250
    assert least_seconds(count_objects, gland, specks) < 1
