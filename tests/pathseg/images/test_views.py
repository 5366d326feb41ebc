import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pathseg.images.views import ArrayView, mirrored


@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 20))
def test_mirrored_is_numpys_reflection(length, before, after):
    before, after = min(before, length - 1), min(after, length - 1)
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    np.testing.assert_array_equal(mirrored(-before, length + before + after, length), expected)


def test_one_pixel_is_repeated():
    np.testing.assert_array_equal(mirrored(-5, 11, 1), np.zeros(11))


def test_array_view_mirrors_both_axes(rng):
    pixels = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    expected = np.pad(pixels, ((2, 3), (4, 1), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(ArrayView(pixels).read(-4, -2, 12, 10), expected)


@given(st.integers(1, 6), st.integers(-40, 40), st.integers(1, 30))
def test_what_lies_wholly_beyond_an_image_is_mirrored_too(length, start, count):
    pixels = np.arange(length, dtype=np.uint8)[:, None, None].repeat(length, 1).repeat(3, 2)
    read = ArrayView(pixels).read(start, start, count, count)
    expected = mirrored(start, count, length)
    np.testing.assert_array_equal(read[:, 0, 0], expected)
