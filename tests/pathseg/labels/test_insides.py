import cv2
import numpy as np
import pytest
from skimage.measure import label

from pathseg.labels.insides import insides
from pathseg.labels.separation import separate
from pathseg.labels.values import IGNORE


def touching_discs(radius, apart):
    """Return two discs that touch, numbered 7 and 9."""
    y, x = np.mgrid[0 : 3 * radius, 0 : 3 * radius + apart]
    far = [np.hypot(x - middle, y - 1.5 * radius) for middle in (1.5 * radius, 1.5 * radius + apart)]
    numbers = np.where(far[0] < radius, 7, 0)
    return np.where((far[1] < radius) & (far[1] < far[0]), 9, numbers)


@pytest.mark.parametrize(("radius", "shrink"), [(20, 3), (20, 6), (6, 3), (2, 3)])
def test_objects_that_touch_have_insides_that_do_not_and_are_found_again(radius, shrink):
    numbers = touching_discs(radius, 2 * radius - max(1, radius // 4))
    found = insides(numbers, (numbers > 0).astype(np.uint8), [1], shrink)
    assert label(found, connectivity=2).max() == 2
    assert not found[numbers == 0].any()
    again = separate(numbers > 0, 2 * found, 4 * shrink)
    assert again.max() == 2
    for number in (7, 9):
        own = again == np.bincount(again[numbers == number]).argmax()
        assert ((numbers == number) & own).sum() / ((numbers == number) | own).sum() > 0.9


def test_an_inside_is_so_deep():
    numbers = np.zeros((60, 60), int)
    numbers[10:50, 10:50] = 1
    found = insides(numbers, numbers.astype(np.uint8), [1], 5)
    wanted = np.zeros((60, 60), bool)
    wanted[15:45, 15:45] = True
    np.testing.assert_array_equal(found > 0, wanted)


def test_every_object_has_an_inside_however_narrow(rng):
    noise = cv2.GaussianBlur(rng.random((120, 120)).astype(np.float32), (0, 0), 1)
    numbers = label(noise > 0.5, connectivity=2)
    found = insides(numbers, (numbers > 0).astype(np.uint8), [1], 8)
    assert set(np.unique(numbers[found > 0])) == set(range(1, numbers.max() + 1))


def test_the_edge_of_a_picture_is_no_rim_and_other_classes_do_not_count():
    numbers = np.ones((20, 40), int)
    classes = np.ones((20, 40), np.uint8)
    classes[:, 20:30], classes[:, 30:] = 2, IGNORE
    found = insides(numbers, classes, [1], 4)
    assert found[:, :16].all()
    assert not found[:, 16:30].any()
    assert (found[:, 30:] == IGNORE).all()


def test_objects_of_two_classes_under_one_number_are_two():
    numbers, classes = np.ones((30, 40), int), np.ones((30, 40), np.uint8)
    classes[:, 20:] = 2
    assert label(insides(numbers, classes, [1, 2], 3)).max() == 2
