import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import small_unet
from pathseg.geometry import aligned_range, tile_starts, unet_output_size


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_output_size_is_what_the_network_gives(depth, padding):
    network = small_unet(depth=depth, padding=padding, wf=1)
    for side in range(1, 100):
        expected = unet_output_size(side, depth, padding)
        if expected:
            assert network(torch.zeros(1, 3, side, side)).shape[-1] == expected


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_tiles_cover_every_pixel_and_none_beyond(length, size, stride):
    size = min(size, length)
    stride = min(stride, size)
    covered = np.zeros(length, bool)
    for start in tile_starts(length, size, stride):
        assert 0 <= start <= length - size
        covered[start : start + size] = True
    assert covered.all()


def test_aligned_range_stays_inside():
    assert aligned_range(5, 9, 4, 100) == (4, 12)
    assert aligned_range(5, 9, 4, 10) == (4, 10)
