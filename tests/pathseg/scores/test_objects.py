"""Cases worked out by hand, after the definitions of the GlaS challenge."""

import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff

from pathseg.labels.values import IGNORE
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
    assert scores(numbers, numbers * 7) == {"object_f1": 1, "object_dice": 1, "object_hausdorff": 0}


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
