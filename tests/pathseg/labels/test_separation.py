import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

from pathseg.labels.separation import Separator, numbered, separate


def drawn_map(seed, height, width, grain):
    """Return where a class is, and what is inside of its objects: smooth noise above a lower and a higher level."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), grain) if grain else noise
    return noise > np.quantile(noise, 0.4), noise > np.quantile(noise, 0.75)


def in_bands(mask, insides, reach, heights):
    """Return the numbers of all rows, made band by band, the same for what goes on in the next band."""
    separator, blocks, y = Separator(reach), [], 0
    for height in heights:
        blocks.append(separator.add(mask[y : y + height], insides[y : y + height]))
        y += height
    blocks.append(separator.finish())
    rows, offset, same = [], 1, []
    for block in blocks:
        own = np.where(block.numbers > 0, block.numbers + offset, 0)
        if rows and len(own):
            above = np.concatenate(rows)[-1]
            np.testing.assert_array_equal(above > 0, block.before > 0)
            same += zip(above[above > 0], block.before[above > 0] + offset, strict=True)
        assert block.y == sum(map(len, rows))
        if len(own):
            rows.append(own)
        offset += int(max(block.numbers.max(initial=0), block.before.max(initial=0)))
    numbers = np.arange(offset + 1)
    for one, other in same:
        numbers[numbers == numbers[other]] = numbers[one]
    return numbers[np.concatenate(rows)]


def same_up_to_names(one, other):
    """Say whether two maps number the same objects."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and ((one > 0) == (other > 0)).all()


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 60), st.integers(1, 40)),
    st.sampled_from([0, 1, 2, 4]),
    st.integers(0, 12),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_bands_of_any_height_give_the_objects_of_the_whole_map(seed, size, grain, reach, data):
    mask, insides = drawn_map(seed, *size, grain)
    heights, left = [], size[0]
    while left:
        heights.append(data.draw(st.integers(1, left)))
        left -= heights[-1]
    assert same_up_to_names(in_bands(mask, insides, reach, heights), numbered(mask, insides, reach))


@given(st.integers(0, 2**32), st.tuples(st.integers(1, 50), st.integers(1, 50)), st.sampled_from([0, 1, 3]))
@settings(max_examples=100, deadline=None)
def test_objects_are_those_of_scikit_image(seed, size, grain):
    """Its watershed takes markers of one height in no order of its own, so that they are given heights by place."""
    mask, insides = drawn_map(seed, *size, grain)
    seeds = mask & insides
    land = np.zeros(size)
    land[seeds] = np.arange(-seeds.sum(), 0)
    reach = 7
    reached = ndimage.binary_dilation(seeds, iterations=reach, mask=mask) if seeds.any() else seeds
    wanted = watershed(land, label(seeds, connectivity=1), mask=reached)
    assert same_up_to_names(numbered(mask, insides, reach), wanted)


def test_two_discs_that_touch_are_two_objects_and_those_without_insides_none():
    y, x = np.mgrid[0:60, 0:120]
    from_middles = [np.hypot(x - middle, y - 30) for middle in (30, 68)]
    mask = np.logical_or(*(far < 20 for far in from_middles))
    insides = np.logical_or(*(far < 12 for far in from_middles))
    numbers = numbered(mask, insides, 20)
    assert np.unique(numbers).tolist() == [0, 1, 2]
    # Mirrored about the middle between them, where neither has the pixel more than the other.
    assert abs(int((numbers == 1).sum()) - int((numbers == 2).sum())) <= 30
    assert not numbered(mask, np.zeros_like(mask), 20).any()


def test_every_object_is_connected_and_of_the_class():
    mask, insides = drawn_map(5, 200, 200, 3)
    numbers = numbered(mask, insides, 4)
    assert not numbers[~mask].any()
    assert numbers[mask & insides].all()
    assert np.unique(numbers).tolist() == list(range(numbers.max() + 1))
    for index, box in enumerate(ndimage.find_objects(numbers), start=1):
        assert label(numbers[box] == index, connectivity=1).max() == 1


def test_what_is_surely_inside_nowhere_is_no_object():
    mask = np.ones((1, 30), bool)
    insides = np.zeros((1, 30), np.uint8)
    insides[0, 3:8] = insides[0, 13:18] = insides[0, 23:28] = 1
    insides[0, 4], insides[0, 25] = 2, 2
    # The second still keeps the others from growing into it.
    assert separate(mask, insides, 9)[0].tolist() == [1] * 11 + [0] * 10 + [3] * 9
    mask[0, 25] = False
    assert np.unique(separate(mask, insides, 9)).tolist() == [0, 1]


@pytest.mark.parametrize("reach", [0, 3])
def test_what_no_inside_reaches_is_of_no_object(reach):
    mask, insides = np.ones((1, 20), bool), np.zeros((1, 20), bool)
    insides[0, 2] = True
    numbers = numbered(mask, insides, reach)[0]
    assert (numbers == 1).sum() == min(2, reach) + 1 + reach
    assert numbers.max() == 1


def test_a_tall_map_is_not_held_in_memory():
    separator = Separator(5)
    rows = np.ones((100, 10), bool)
    for _ in range(50):
        separator.add(rows, rows)
        assert len(separator._mask) < 120
