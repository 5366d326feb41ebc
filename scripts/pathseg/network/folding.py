"""Make a trained network faster for prediction, with the same output away from the image's border.

A batch normalisation multiplies and shifts each channel by constants; what follows it is linear, so that the constants
can be multiplied into its weights (Jacob et al. 2018, doi 10.1109/CVPR.2018.00286, fold in the other direction, where
the normalisation comes last). Only next to a padded border does the output change, because zeros are padded after the
shift before, and before it now: predictions never keep those pixels.
"""

import copy

import torch
from torch import Tensor, nn

from pathseg.network.devices import has_bfloat16
from pathseg.network.unet import ConvBlock, UNet

# Scale and shift of each channel, which a layer's input has yet to get.
Affine = tuple[Tensor, Tensor]


class Convolution(nn.Conv2d):
    """A convolution on the CPU whose bias has 32 bits, whatever its weights have.

    A bias that is rounded to 8 bits shifts a whole channel, everywhere the same way; oneDNN adds the full one for free.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, H, W]."""
        settings = (self.padding, self.stride, self.dilation, self.groups)
        return torch.mkldnn_convolution(x, self.weight, self.bias, *settings)


@torch.no_grad()
def cast(network: UNet, device: torch.device, dtype: torch.dtype) -> UNet:
    """Bring a folded network to a device and an arithmetic, with little loss of precision.

    Parameters
    ----------
    network
        Is changed.
    device, dtype
        Where and in which arithmetic it is to run.
    """
    if dtype != torch.float32:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(rounded(layer.weight, dtype))
    biases = {name: values.clone() for name, values in network.named_parameters() if name.endswith("bias")}
    network = network.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    if dtype == torch.bfloat16 and device.type == "cpu" and has_bfloat16(device):
        for name, layer in [*network.named_modules()]:
            if isinstance(layer, nn.Conv2d):
                parent, _, attribute = name.rpartition(".")
                convolution = Convolution(
                    layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding
                )
                convolution.weight = layer.weight
                convolution.bias = nn.Parameter(biases[f"{name}.bias"])
                setattr(network.get_submodule(parent), attribute, convolution)
    return network


def rounded(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Round the weights of a convolution so that the sum over each kernel stays.

    Neighbouring pixels are alike, so that what the weights of a kernel add up to matters most. Each weight, from the
    largest to the smallest, is rounded with what the one before was off by.

    Parameters
    ----------
    weights
        float32 [out, in, h, w].
    dtype
        Type to round to.

    Returns
    -------
    Tensor
        float32 [out, in, h, w], of values that `dtype` holds.
    """
    kernels = weights.flatten(2)
    result, error = torch.empty_like(kernels), torch.zeros_like(kernels[..., :1])
    for position in kernels.abs().argsort(dim=2, descending=True).split(1, dim=2):
        wanted = kernels.gather(2, position) + error
        nearest = wanted.to(dtype).float()
        result.scatter_(2, position, nearest)
        error = wanted - nearest
    return result.view_as(weights)


@torch.no_grad()
def folded(network: UNet) -> UNet:
    """Return a copy of a network that takes 0..255 instead of 0..1, without most of its batch normalisations.

    Only those that come before a transposed convolution stay: there a shift would be different for each of the four
    pixels that a coarse one becomes. A bilinear enlargement changes places with its 1x1 convolution, which gives the
    same and has a quarter of the pixels to convolve.

    Parameters
    ----------
    network
        In evaluation mode; it is not changed.
    """
    result = copy.deepcopy(network).eval()
    pending: Affine | None = (torch.full((network.in_channels,), 1 / 255), torch.zeros(network.in_channels))
    skips: list[Affine | None] = []
    for block in result.down_path:
        pending = _fold_block(block, pending)
        skips.append(pending)
    bottom = result.down_path[-1]
    for up, skip in zip(result.up_path, reversed(skips[:-1]), strict=True):
        if network.up_mode == "upconv":
            _unfold(bottom, pending)
        else:
            enlarge, convolution = up.up
            _scale_input(convolution, pending)
            up.up = nn.Sequential(convolution, enlarge)
        channels = up.conv_block.block[0].in_channels
        pending = _fold_block(up.conv_block, _after_concatenation(channels, skip))
        bottom = up.conv_block
    _scale_input(result.last, pending)
    return result


def _fold_block(block: ConvBlock, pending: Affine | None) -> Affine | None:
    """Multiply what is pending into the block's convolutions, take its normalisations out, and return the last one."""
    layers = []
    for layer in block.block:
        if isinstance(layer, nn.BatchNorm2d):
            scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
            pending = scale, layer.bias - layer.running_mean * scale
            continue
        if isinstance(layer, nn.Conv2d):
            _scale_input(layer, pending)
            pending = None
        layers.append(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer)
    block.block = nn.Sequential(*layers)
    return pending


def _scale_input(convolution: nn.Conv2d, pending: Affine | None) -> None:
    """Change a convolution so that it does to its input what it did to the scaled and shifted one."""
    if pending is None:
        return
    scale, shift = (values[None, :, None, None] for values in pending)
    convolution.bias += (convolution.weight * shift).sum(dim=(1, 2, 3))
    convolution.weight *= scale


def _unfold(block: ConvBlock, pending: Affine | None) -> None:
    """Put a pending scale and shift back at the end of a block, as a batch normalisation."""
    if pending is None:
        return
    norm = nn.BatchNorm2d(len(pending[0])).eval()
    # The running statistics are 0 and 1; what their `eps` takes off is given back.
    norm.weight.copy_(pending[0] * (1 + norm.eps) ** 0.5)
    norm.bias.copy_(pending[1])
    block.block.append(norm)


def _after_concatenation(channels: int, skip: Affine | None) -> Affine | None:
    """Return what is pending on enlarged channels (nothing) and on those of the skip connection behind them."""
    if skip is None:
        return None
    enlarged = channels - len(skip[0])
    return torch.cat([torch.ones(enlarged), skip[0]]), torch.cat([torch.zeros(enlarged), skip[1]])
