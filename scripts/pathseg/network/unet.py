"""The U-Net of the PytorchDigitalPathology tutorial, whose parameter names and arithmetic are kept.

The architecture is that of Ronneberger, Fischer and Brox (2015), doi 10.1007/978-3-319-24574-4_28, with the
tutorial's changes: average pooling on the way down, and batch normalisation after each ReLU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pathseg.geometry import unet_output_size

ARCHITECTURE_KEYS = ("in_channels", "n_classes", "depth", "wf", "padding", "batch_norm", "up_mode")


class UNet(nn.Module):
    """Segmentation network: class scores for each pixel.

    Parameters
    ----------
    in_channels
        Channels of the input image.
    n_classes
        Number of classes, one output channel each.
    depth
        Number of resolution levels; the deepest has `2**(depth-1)` times coarser pixels.
    wf
        The first level has `2**wf` filters, each further one twice as many.
    padding
        Zero-pad the convolutions so that output and input have the same size, if the sides are multiples of
        `stride`. Without, the output is smaller, see `output_size`.
    batch_norm
        Batch normalisation after each ReLU.
    up_mode
        "upconv" (transposed convolution) or "upsample" (bilinear interpolation and a 1x1 convolution).
    insides
        One output more, after the classes: the logit of what is inside of an object, see `pathseg.labels.insides`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        depth: int = 5,
        wf: int = 6,
        padding: bool = True,
        batch_norm: bool = True,
        up_mode: str = "upconv",
        insides: bool = False,
    ) -> None:
        super().__init__()
        if up_mode not in ("upconv", "upsample"):
            raise ValueError(f"up_mode is {up_mode!r}; use 'upconv' or 'upsample'")
        self.in_channels = in_channels
        self.n_classes = n_classes
        self.depth = depth
        self.wf = wf
        self.padding = padding
        self.batch_norm = batch_norm
        self.up_mode = up_mode
        self.insides = insides
        filters = [2 ** (wf + level) for level in range(depth)]
        self.down_path = nn.ModuleList(
            ConvBlock(before, after, padding, batch_norm)
            for before, after in zip([in_channels, *filters[:-1]], filters, strict=True)
        )
        self.up_path = nn.ModuleList(
            UpBlock(filters[level + 1], filters[level], up_mode, padding, batch_norm)
            for level in reversed(range(depth - 1))
        )
        self.last = nn.Conv2d(filters[0], n_classes + insides, kernel_size=1)

    @property
    def stride(self) -> int:
        """Pixels by which the input must be shifted for the output to be shifted alike."""
        return 2 ** (self.depth - 1)

    @property
    def architecture(self) -> dict[str, Any]:
        """The arguments that make a network of the same shape."""
        return {key: getattr(self, key) for key in ARCHITECTURE_KEYS}

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores (logits).

        Parameters
        ----------
        x
            Images [N, in_channels, H, W], RGB scaled to 0..1.

        Returns
        -------
        Tensor
            Logits [N, n_classes, H', W'], with insides one more.
        """
        skips = []
        for block in self.down_path[:-1]:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.down_path[-1](x)
        for block, skip in zip(self.up_path, reversed(skips), strict=True):
            x = block(x, skip)
        return self.last(x)

    @torch.no_grad()
    def leave_insides(self) -> None:
        """Become the network without the output for insides, if it has one."""
        if self.insides:
            old = self.last
            self.last = nn.Conv2d(old.in_channels, self.n_classes, kernel_size=1)
            for values, had in zip(self.last.parameters(), old.parameters(), strict=True):
                values.copy_(had[: self.n_classes])
            self.insides = False

    def output_size(self, size: int) -> int:
        """Return the side of the output for an input of side `size`, in pixels; 0 if it does not fit."""
        return unet_output_size(size, self.depth, self.padding)


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, ReLU and, if asked for, batch normalisation."""

    def __init__(self, before: int, after: int, padding: bool, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, kernel_size=3, padding=int(padding)), nn.ReLU()]
            if batch_norm:
                layers.append(nn.BatchNorm2d(after))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, after, H', W']."""
        return self.block(x)


class UpBlock(nn.Module):
    """Double the resolution, append the skip connection's channels, and convolve."""

    def __init__(self, before: int, after: int, up_mode: str, padding: bool, batch_norm: bool) -> None:
        super().__init__()
        if up_mode == "upconv":
            self.up: nn.Module = nn.ConvTranspose2d(before, after, kernel_size=2, stride=2)
        else:
            self.up = nn.Sequential(
                nn.Upsample(mode="bilinear", scale_factor=2), nn.Conv2d(before, after, kernel_size=1)
            )
        self.conv_block = ConvBlock(before, after, padding, batch_norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map [N, before, H, W] and a skip map [N, after, H2, W2] to [N, after, H', W']."""
        x = self.up(x)
        return self.conv_block(torch.cat([x, centre_crop(skip, x.shape[-2:])], dim=1))


def centre_crop(x: Tensor, size: torch.Size) -> Tensor:
    """Cut the middle `size` (height, width) out of [N, C, H, W]."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[-2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]


def smallest_input(network: UNet, size: int) -> int:
    """Return the smallest side that `network` takes and whose output has at least `size` pixels."""
    candidate = size
    while network.output_size(candidate) < size:
        candidate += 1
    return candidate


def receptive_radius(network: UNet) -> int:
    """Return how far from an output pixel an input pixel can change it, in pixels.

    The interval of inputs that one period of outputs depends on is followed back through the layers
    (see Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019).
    """
    down = list(network.down_path)
    needed_skips = []
    low, high = 0, network.stride - 1
    for block in reversed(network.up_path):
        low, high = _before_convolutions(block.conv_block, low, high)
        needed_skips.append((low, high))
        # A transposed convolution takes one coarse pixel, bilinear interpolation one more on each side.
        low, high = (low // 2, high // 2) if network.up_mode == "upconv" else ((low - 1) // 2, (high + 1) // 2)
    low, high = _before_convolutions(down[-1], low, high)
    for block, (skip_low, skip_high) in zip(reversed(down[:-1]), reversed(needed_skips), strict=True):
        low, high = min(2 * low, skip_low), max(2 * high + 1, skip_high)
        low, high = _before_convolutions(block, low, high)
    return max(-low, high - (network.stride - 1))


def _before_convolutions(block: ConvBlock, low: int, high: int) -> tuple[int, int]:
    radius = sum(layer.kernel_size[0] // 2 for layer in block.block if isinstance(layer, nn.Conv2d))
    return low - radius, high + radius
