import numpy as np
import pytest
import torch
from scipy import ndimage

from pathseg.edges import FULL, edge_band, gap_map, objects_of
from pathseg.labels import IGNORE


@pytest.mark.parametrize("width", [1, 2, 5])
def test_edge_band_is_what_dilation_adds(rng, width):
    mask = ndimage.gaussian_filter(rng.random((64, 80)), 4) > 0.5
    expected = ndimage.binary_dilation(mask, iterations=width) & ~mask
    band = edge_band(torch.from_numpy(mask[None].astype(np.int64)), width)[0].numpy()
    np.testing.assert_array_equal(band, expected)


def test_touching_objects_of_two_classes_have_an_edge_between_them():
    mask = torch.ones(1, 8, 8, dtype=torch.int64)
    mask[:, :, 4:] = 2
    band = edge_band(mask, 1)[0]
    assert band[:, 3:5].all()
    assert not band[:, :3].any()
    assert not band[:, 5:].any()


def test_ignored_pixels_have_no_edge():
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, :, 4:] = IGNORE
    assert not edge_band(mask, 2).any()


@pytest.mark.parametrize("sigma", [1.5, 4])
def test_gaps_are_weighted_as_in_the_paper(rng, sigma):
    """The formula, with the distances to all objects at every pixel."""
    objects = np.zeros((60, 70), np.int32)
    for number, (y, x) in enumerate(rng.integers(0, 50, (6, 2)), start=1):
        objects[y : y + 8, x : x + 11] = number
    distances = [ndimage.distance_transform_edt(objects != number) for number in np.unique(objects)[1:]]
    nearest, second = np.sort(distances, axis=0)[:2]
    expected = np.where(objects == 0, np.exp(-((nearest + second) ** 2) / (2 * sigma**2)), 0)
    np.testing.assert_allclose(gap_map(objects, sigma) / FULL, expected, atol=0.01)


def test_one_object_has_no_gap():
    objects = np.zeros((20, 20), int)
    objects[5:10, 5:10] = 1
    assert not gap_map(objects, 5).any()


def test_touching_classes_are_two_objects():
    indices = np.array([[1, 1, 2, 2, 0, 1, IGNORE]])
    assert list(objects_of(indices)[0]) == [1, 1, 2, 2, 0, 3, 0]
