"""Layers that compute on the CPU what PyTorch's own do, faster when a network is trained.

PyTorch's batch norm vectorises over channels, of which a U-Net has few where its maps are large, and its transposed
convolution adds up the gradient of the bias slowly. On a GPU neither is so.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pathseg.network.processes import all_reduce_sum, process_count

# With fewer channels PyTorch's batch norm is slower than the one here, which takes so many at once.
NARROW, FULL_WIDTH = 16, 64


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, fast for few channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W]."""
        if not self.training or (process_count() == 1 and self.num_features >= NARROW):
            return super().forward(x)
        output, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return output


class _Normalise(torch.autograd.Function):
    """Normalise [N, C, H, W] by the statistics of all processes; also returns mean, variance and number of pixels.

    Pixels that lie side by side are taken together as one pixel of many channels, and their sums are then added up.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        rows = _rows(x)
        width = rows.shape[1]
        _, means, scales = torch.native_batch_norm(
            rows, weight.new_ones(width), weight.new_zeros(width), None, None, True, 0, eps
        )
        means, variances = (values.view(-1, len(weight)) for values in (means, scales**-2 - eps))
        count = means.new_full((1,), x.numel() / len(weight))
        sums = count * torch.cat([means.mean(dim=0), (variances + means**2).mean(dim=0), means.new_ones(1)])
        totals = all_reduce_sum(sums)
        count = totals[-1:]
        mean, square = (totals[:-1] / count).chunk(2)
        variance = (square - mean**2).clamp(min=0)
        context.save_for_backward(x, weight, mean, variance, count)
        context.eps = eps
        context.mark_non_differentiable(mean, variance, count)
        return _like(_scaled(rows, weight, bias, mean, variance, eps), x), mean, variance, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = context.saved_tensors
        rows, eps = _rows(x), context.eps
        # First as if mean and variance were constants.
        wide = [_widened(values, rows) for values in (weight, mean, variance)]
        direct, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            _rows(gradient), rows, *wide, None, None, False, eps, [True, True, True]
        )
        by_weight, by_bias = (sums.view(-1, len(weight)).sum(dim=0) for sums in (by_weight, by_bias))
        # What reaches x through them is linear in the normalised x, with these sums as factors.
        weight_total, bias_total = all_reduce_sum(torch.cat([by_weight, by_bias])).chunk(2)
        factor = weight * torch.rsqrt(variance + eps) / count
        direct -= _scaled(rows, factor * weight_total, factor * bias_total, mean, variance, eps)
        return _like(direct, x), by_weight, by_bias, None


def _rows(x: Tensor) -> Tensor:
    """View [N, C, H, W] as rows of some pixels with all their channels, [N * H * W / pixels, pixels * C]."""
    channels = x.shape[1]
    pixels = math.gcd(x.numel() // channels, max(1, FULL_WIDTH // channels))
    return x.permute(0, 2, 3, 1).reshape(-1, pixels * channels)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """View rows as [N, C, H, W] of the same size as `x`, channels last in memory."""
    n, channels, height, width = x.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _widened(values: Tensor, rows: Tensor) -> Tensor:
    """Repeat values of channels for each pixel of a row."""
    return values.repeat(rows.shape[1] // len(values))


def _scaled(rows: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Normalise rows by given statistics, and scale and shift them, per channel."""
    weight, bias, mean, variance = (_widened(values, rows) for values in (weight, bias, mean, variance))
    return torch.native_batch_norm(rows, weight, bias, mean, variance, False, 0, eps)[0]


class UpConvolution(nn.ConvTranspose2d):
    """A transposed convolution of kernel and stride 2, as a 1x1 convolution to four pixels each."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map [N, C, H, W] to [N, C', 2 H, 2 W]."""
        n, _, height, width = x.shape
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]
        fours = F.conv2d(x, weight, self.bias.repeat(4)).permute(0, 2, 3, 1)
        fours = fours.reshape(n, height, width, 2, 2, self.out_channels).transpose(2, 3)
        return fours.reshape(n, 2 * height, 2 * width, self.out_channels).permute(0, 3, 1, 2)


def with_cpu_layers(network: nn.Module) -> nn.Module:
    """Give a network that is trained on the CPU the layers of this module. Names of weights stay as they are."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = BatchNorm
        elif isinstance(module, nn.ConvTranspose2d):
            module.__class__ = UpConvolution
    return network
