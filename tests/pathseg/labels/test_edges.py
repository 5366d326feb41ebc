import numpy as np
import pytest
from scipy import ndimage

from pathseg.labels.edges import gap_map
from pathseg.labels.values import FULL_EDGE


@pytest.mark.parametrize("sigma", [1.5, 4])
def test_gaps_are_weighted_as_in_the_paper(rng, sigma):
    """The formula, with the distances to all objects at every pixel."""
    objects = np.zeros((60, 70), np.int32)
    for number, (y, x) in enumerate(rng.integers(0, 50, (6, 2)), start=1):
        objects[y : y + 8, x : x + 11] = number
    distances = [ndimage.distance_transform_edt(objects != number) for number in np.unique(objects)[1:]]
    nearest, second = np.sort(distances, axis=0)[:2]
    expected = np.where(objects == 0, np.exp(-((nearest + second) ** 2) / (2 * sigma**2)), 0)
    np.testing.assert_allclose(gap_map(objects, sigma) / FULL_EDGE, expected, atol=0.01)


def test_one_object_has_no_gap():
    objects = np.zeros((20, 20), int)
    objects[5:10, 5:10] = 1
    assert not gap_map(objects, 5).any()
