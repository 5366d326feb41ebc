import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathseg.images.resampling import ResampledSlide, resample_labels
from pathseg.images.slides import Level, Slide


def slide_of(pixels, levels=1):
    """A slide in memory, whose coarser levels are means of blocks."""
    images = [pixels]
    for _ in range(levels - 1 if min(pixels.shape[:2]) > 1 else 0):
        h, w = (side // 2 * 2 for side in images[-1].shape[:2])
        images.append(images[-1][:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)).round().astype(np.uint8))
    shapes = [Level(i.shape[1], i.shape[0], pixels.shape[1] / i.shape[1]) for i in images]
    return Slide("memory", shapes, None, lambda level, x, y, w, h: images[level][y : y + h, x : x + w], "array")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 0.5, 1.37, 3.3, 0.77, 4]), st.integers(0, 99))
def test_a_rectangle_does_not_depend_on_what_is_read_around_it(height, width, downsample, seed):
    rng = np.random.default_rng(seed)
    view = ResampledSlide(slide_of(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), 2), downsample)
    whole = view.read(0, 0, view.width, view.height)
    assert whole.shape == (view.height, view.width, 3)
    x, y = rng.integers(0, view.width), rng.integers(0, view.height)
    w, h = rng.integers(1, view.width - x + 1), rng.integers(1, view.height - y + 1)
    np.testing.assert_array_equal(view.read(x, y, w, h), whole[y : y + h, x : x + w])
    margin = 3
    padded = (
        np.pad(whole, ((margin, margin), (margin, margin), (0, 0)), "reflect")
        if min(whole.shape[:2]) > margin
        else None
    )
    if padded is not None:
        np.testing.assert_array_equal(view.read(-3, -3, view.width + 6, view.height + 6), padded)


def test_going_down_averages_areas(rng):
    pixels = rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)
    expected = pixels.reshape(16, 4, 12, 4, 3).mean((1, 3))
    assert np.abs(ResampledSlide(slide_of(pixels), 4).read(0, 0, 12, 16) - expected).max() <= 0.5


def test_a_ramp_stays_where_it_is():
    """Pixel centres keep their place on the slide at any factor, up and down."""
    ramp = np.repeat(np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 60, axis=0), 3, axis=2)
    for factor in (0.5, 1.5, 2, 2.7):
        view = ResampledSlide(slide_of(ramp), factor)
        read = view.read(0, 0, view.width, view.height)[5, 4:-4, 0]
        centres = (np.arange(4, view.width - 4) + 0.5) * 240 / view.width - 0.5
        # Each of the two roundings errs by up to a half.
        assert np.abs(read - centres).max() <= 1.1
        assert abs((read - centres).mean()) <= 0.6


def test_the_coarsest_level_that_is_fine_enough_is_read():
    slide = slide_of(np.zeros((256, 256, 3), np.uint8), 4)
    assert [slide.level_for(d) for d in (0.5, 1, 1.9, 2, 4.1, 8, 99)] == [0, 0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_labels_take_the_value_at_the_centre(rng, factor):
    small = rng.integers(0, 5, (9, 7), dtype=np.uint8)
    large = small.repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(resample_labels(large, 7, 9), small)
    np.testing.assert_array_equal(resample_labels(small, 7 * factor, 9 * factor), large)
