import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import small_unet
from pathseg.network.devices import has_bfloat16
from pathseg.network.folding import cast, folded, rounded
from pathseg.network.unet import receptive_radius


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_output_stays_the_same_inside(depth, padding, batch_norm, up_mode):
    network = small_unet(depth=depth, padding=padding, batch_norm=batch_norm, up_mode=up_mode)
    side = 4 * network.stride * (-(-receptive_radius(network) // network.stride)) + (0 if padding else 4)
    while not network.output_size(side):
        side += 1
    image = torch.randint(0, 256, (1, 3, side, side)).float()
    with torch.inference_mode():
        expected, output = network(image / 255), folded(network)(image)
    border = receptive_radius(network) if padding else 0
    inside = slice(border, expected.shape[-1] - border)
    torch.testing.assert_close(output[..., inside, inside], expected[..., inside, inside], atol=1e-5, rtol=0)


def test_the_network_itself_is_not_changed():
    network = small_unet()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    folded(network)
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


@pytest.mark.parametrize(("up_mode", "left"), [("upconv", 2), ("upsample", 0)])
def test_normalisations_are_gone_but_before_transposed_convolutions(up_mode, left):
    layers = folded(small_unet(depth=3, up_mode=up_mode)).modules()
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == left


def test_rounded_weights_keep_the_sum_of_each_kernel():
    torch.manual_seed(0)
    weights = torch.randn(8, 5, 3, 3)
    result = rounded(weights, torch.bfloat16)
    assert torch.equal(result, result.bfloat16().float())
    assert (result - weights).abs().max() < 2 * (weights.bfloat16().float() - weights).abs().max()
    sums, plain, exact = (values.sum(dim=(2, 3)) for values in (result, weights.bfloat16().float(), weights))
    assert (sums - exact).abs().mean() < 0.1 * (plain - exact).abs().mean()


def test_rounded_weights_change_smooth_maps_less():
    torch.manual_seed(0)
    weights = torch.randn(8, 5, 3, 3)
    maps = F.interpolate(torch.rand(1, 5, 8, 8), size=64, mode="bicubic")
    exact, kept, plain = (
        F.conv2d(maps, w) for w in (weights, rounded(weights, torch.bfloat16), weights.bfloat16().float())
    )
    assert (kept - exact).square().mean() < 0.1 * (plain - exact).square().mean()


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
def test_lower_precision_gives_nearly_the_same(up_mode, tissue_field):
    network = small_unet(depth=4, wf=3, up_mode=up_mode)
    image = torch.from_numpy(tissue_field[0].copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        exact = folded(network)(image)
        low = cast(folded(network), torch.device("cpu"), torch.bfloat16)
        output = low(image.bfloat16()).float()
    assert (output - exact).abs().mean() < 0.01 * exact.abs().mean()
    convolutions = [layer for layer in low.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.weight.dtype == torch.bfloat16 for layer in convolutions)
    if has_bfloat16(torch.device("cpu")):
        assert all(layer.bias.dtype == torch.float32 for layer in convolutions)
