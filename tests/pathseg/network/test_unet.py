import pytest
import torch

from conftest import small_unet
from pathseg.network.unet import UNet, receptive_radius, smallest_input


def test_number_of_parameters():
    network = UNet(in_channels=3, n_classes=2, depth=5, wf=6, padding=True, batch_norm=True, up_mode="upconv")
    assert sum(values.numel() for values in network.parameters()) == 31_043_586


def test_parameters_have_the_tutorials_names():
    names = set(UNet(depth=3, wf=2, up_mode="upsample").state_dict())
    assert {"down_path.0.block.0.weight", "down_path.2.block.5.running_mean", "last.bias"} <= names
    assert {"up_path.0.up.1.weight", "up_path.1.conv_block.block.3.weight"} <= names
    assert "up_path.0.up.weight" in UNet(depth=3, wf=2, up_mode="upconv").state_dict()


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_receptive_radius_is_what_the_gradient_sees(depth, up_mode):
    """Around the outputs of one stride, their gradients reach exactly as far as the radius."""
    network = small_unet(depth=depth, up_mode=up_mode, wf=1, batch_norm=False)
    with torch.no_grad():  # all positive, so that nothing cancels and no ReLU is dead
        for values in network.parameters():
            values.abs_().add_(0.01)
    radius, stride = receptive_radius(network), network.stride
    side = 2 * (-(-(radius + 2 * stride) // stride) * stride)
    start, reach = side // 2, 0
    for offset in range(stride):
        image = torch.rand(1, 3, side, stride, dtype=torch.float64, requires_grad=True)
        network.double()(image)[0, 0, start + offset].sum().backward()
        rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        reach = max(reach, start - int(rows[0]), int(rows[-1]) - (start + stride - 1))
    assert reach == radius


@pytest.mark.parametrize("padding", [True, False])
def test_smallest_input_serves_and_less_does_not(padding):
    network = small_unet(depth=3, padding=padding)
    for wanted in (1, 5, 17):
        side = smallest_input(network, wanted)
        assert network(torch.zeros(1, 3, side, side)).shape[-1] >= wanted
        assert all(network.output_size(less) < wanted for less in range(1, side))
