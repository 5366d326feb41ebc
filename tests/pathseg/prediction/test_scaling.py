"""Predictions at another grid of pixels, against definitions written out in another way."""

import tracemalloc

import cv2
import numpy as np
import pytest

from pathseg.prediction.bands import Band
from pathseg.prediction.scaling import STRIP_NUMBERS, axis_weights, scaled


def bands_of(probabilities, height):
    """Cut a prediction uint8 [C, H, W] into bands."""
    classes = probabilities.argmax(axis=0).astype(np.uint8)
    for y in range(0, classes.shape[0], height):
        part = np.s_[y : y + height]
        yield Band(y, classes[part], probabilities[:, part], np.ones(classes[part].shape, bool))


def whole(probabilities, height, wanted):
    """Scale in bands, and join what comes."""
    size = probabilities.shape[2], probabilities.shape[1]
    bands = list(scaled(bands_of(probabilities, height), size, wanted))
    starts = np.cumsum([0] + [len(band.classes) for band in bands])
    assert [band.y for band in bands] == list(starts[:-1])
    assert starts[-1] == wanted[1]
    for band in bands:
        assert band.tissue.shape == band.classes.shape == band.probabilities.shape[1:]
    return np.concatenate([b.classes for b in bands]), np.concatenate([b.probabilities for b in bands], axis=1)


@pytest.mark.parametrize("height", [1, 7, 100])
@pytest.mark.parametrize("wanted", [(150, 120), (51, 41), (97, 41), (50, 40), (51, 200)])
def test_enlarged_as_opencv_enlarges(rng, wanted, height):
    """OpenCV, too, lays the middles of the pixels over each other."""
    second = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    classes, probabilities = whole(np.stack([255 - second, second]), height, wanted)
    expected = cv2.resize(second.astype(np.float32), wanted, interpolation=cv2.INTER_LINEAR)
    assert np.abs(probabilities[1] - expected).max() <= 0.51
    clear = np.abs(expected - 127.5) > 1e-3
    np.testing.assert_array_equal(classes[clear], (expected > 127.5)[clear])


@pytest.mark.parametrize("height", [3, 64])
def test_made_smaller_by_the_mean_of_the_area(rng, height):
    """A pixel of 4 x 8 thirds of the prediction's pixels."""
    planes = rng.integers(0, 256, (3, 40, 64), dtype=np.uint8)
    _, probabilities = whole(planes, height, (24, 30))
    thirds = planes.astype(float).repeat(3, axis=1).repeat(3, axis=2)
    expected = thirds.reshape(3, 30, 4, 24, 8).mean(axis=(2, 4))
    assert np.abs(probabilities - expected).max() <= 0.51


@pytest.mark.parametrize(("length", "wanted"), [(1, 1), (1, 7), (7, 1), (5, 5), (10, 37), (37, 10), (1000, 999)])
def test_each_pixel_is_a_mean(length, wanted):
    weights = axis_weights(length, wanted).toarray()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


def test_nothing_changes_at_the_same_size(rng):
    planes = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    classes, probabilities = whole(planes, 7, (50, 40))
    np.testing.assert_array_equal(probabilities, planes)
    np.testing.assert_array_equal(classes, planes.argmax(axis=0))


def test_memory_does_not_grow_with_the_classes():
    """Besides the band itself: 100 classes took 4 GB, as 2 took 80 MB."""
    band = Band(0, np.zeros((40, 500), np.uint8), np.zeros((60, 40, 500), np.uint8), np.ones((40, 500), bool))
    tracemalloc.start()
    assert sum(len(part.classes) for part in scaled(iter([band]), (500, 40), (5000, 400))) == 400
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * STRIP_NUMBERS


def test_tissue_is_that_of_the_pixel_below():
    tissue = np.array([[True, False, True]])
    band = Band(0, np.zeros((1, 3), np.uint8), np.zeros((2, 1, 3), np.uint8), tissue)
    (only,) = scaled(iter([band]), (3, 1), (7, 2))
    expected = [True, True, False, False, False, True, True]
    np.testing.assert_array_equal(only.tissue, [expected] * 2)
