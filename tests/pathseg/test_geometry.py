import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conftest import small_unet
from pathseg.geometry import aligned_range, convolutions, field_of_view, tile_starts, unet_output_size
from pathseg.network.unet import UNet, receptive_radius


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_output_size_is_what_the_network_gives(depth, padding):
    network = small_unet(depth=depth, padding=padding, wf=1)
    for side in range(1, 100):
        expected = unet_output_size(side, depth, padding)
        if expected:
            assert network(torch.zeros(1, 3, side, side)).shape[-1] == expected


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
def test_field_of_view_is_what_the_networks_layers_say(depth, padding):
    network = small_unet(depth=depth, padding=padding, wf=0)
    assert field_of_view(depth) == 2 * receptive_radius(network) + 1


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


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
def test_convolutions_are_those_of_the_network(depth, batch_norm, up_mode):
    network = UNet(depth=depth, wf=1, batch_norm=batch_norm, up_mode=up_mode)
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    names = [name for name, layer in network.named_modules() if isinstance(layer, kinds)]
    assert sorted(convolutions(depth, batch_norm, up_mode)) == sorted(names)
