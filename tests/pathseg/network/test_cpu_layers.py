"""The layers do what PyTorch's own do; that processes share statistics is seen in test_parallel.py."""

import copy

import pytest
import torch
from torch import nn

from conftest import small_unet
from pathseg.network.cpu_layers import NARROW, BatchNorm, UpConvolution, with_cpu_layers


def pair(layer):
    """Return a layer with random parameters, and the one that takes its place."""
    for values in layer.parameters():
        nn.init.normal_(values, mean=0.5)
    return layer, with_cpu_layers(nn.Sequential(copy.deepcopy(layer)))[0]


def outputs_and_gradients(layer, x, gradient):
    x = x.clone().requires_grad_()
    output = layer(x)
    output.backward(gradient)
    return [output, x.grad, *(values.grad for values in layer.parameters()), *layer.buffers()]


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    "shape",
    [(3, 4, 8, 16), (2, 8, 5, 7), (1, 1, 3, 3), (2, 5, 6, 6), (2, NARROW, 4, 4)],
    ids=["many pixels in a row", "one pixel in a row", "one channel", "odd channels", "PyTorch's own"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 0.05)])
def test_batch_norm_is_pytorchs(shape, dtype, tolerance, memory_format):
    torch.manual_seed(0)
    expected, layer = pair(nn.BatchNorm2d(shape[1]))
    assert type(layer) is BatchNorm
    if dtype == torch.float64:
        expected, layer = expected.double(), layer.double()
    x, gradient = ((3 * torch.randn(shape) + 1).to(dtype).contiguous(memory_format=memory_format) for _ in range(2))
    found = outputs_and_gradients(layer, x, gradient)
    for value, wanted in zip(found, outputs_and_gradients(expected, x, gradient), strict=True):
        assert value.dtype == wanted.dtype
        torch.testing.assert_close(value, wanted, atol=tolerance, rtol=tolerance)


def test_statistics_of_many_pixels_are_precise():
    """PyTorch adds up the squares of a channel in 32 bits, and is off by a thousandth."""
    x = torch.randn(8, 4, 256, 256).relu().contiguous(memory_format=torch.channels_last)
    layer = pair(nn.BatchNorm2d(4, momentum=1.0))[1]
    layer(x)
    torch.testing.assert_close(layer.running_var, x.double().var((0, 2, 3)).float(), atol=0, rtol=1e-4)


def test_scoring_uses_running_statistics():
    expected, layer = pair(nn.BatchNorm2d(4))
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(layer.eval()(x), expected.eval()(x))


@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (1, 3, 1, 5)])
def test_transposed_convolution_is_pytorchs(shape):
    torch.manual_seed(0)
    expected, layer = (part.double() for part in pair(nn.ConvTranspose2d(shape[1], 3, kernel_size=2, stride=2)))
    assert type(layer) is UpConvolution
    x = torch.randn(shape, dtype=torch.float64)
    gradient = torch.randn(shape[0], 3, 2 * shape[2], 2 * shape[3], dtype=torch.float64)
    found = outputs_and_gradients(layer, x, gradient)
    for value, wanted in zip(found, outputs_and_gradients(expected, x, gradient), strict=True):
        torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
def test_a_network_keeps_its_names_and_its_output(up_mode):
    network = small_unet(depth=3, up_mode=up_mode).train()
    fast = with_cpu_layers(copy.deepcopy(network))
    assert list(fast.state_dict()) == list(network.state_dict())
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(fast(x), network(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fast.state_dict(), network.state_dict(), atol=1e-4, rtol=1e-4)
