"""Random changes to batches of training tiles, on the device that trains.

Geometry (mirroring, quarter turns, rotation, scaling, elastic deformation and crop) is one resampling, shared by
image, mask and weights. Colours change as stains do, in optical density, and as cameras do.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pathseg.labels import IGNORE
from pathseg.stains import HED_FROM_OD, OD_FROM_HED

# Distance in pixels of the nodes of the coarse grid of random shifts, from which the elastic deformation is
# interpolated: wider than a nucleus, which keeps its shape.
ELASTIC_SPACING = 64


@dataclass(frozen=True)
class Augmentation:
    """How much tiles are changed; the fields are those of `training.augmentation` in the configuration."""

    flips: bool = True
    rotation: float = 30.0
    scaling: float = 0.2
    elastic: float = 4.0
    stain: float = 0.15
    color: float = 0.1
    crop: int | None = None


def augment(images: Tensor, masks: Tensor, settings: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change a batch at random.

    Parameters
    ----------
    images
        uint8 [N, 3, H, W], RGB.
    masks
        uint8 [N, H, W], class indices or `IGNORE`.
    settings
        How much to change.
    generator
        Source of all randomness, on the CPU: the same state gives the same batch on any device.

    Returns
    -------
    images : Tensor
        float32 [N, 3, h, w] in 0..1.
    masks : Tensor
        int64 [N, h, w]; what was outside the tile is `IGNORE`.
    """
    side = settings.crop or images.shape[-1]
    positions = random_positions(len(images), images.shape[-2:], side, settings, generator).to(images.device)
    images = warp_images(images.float() / 255, positions)
    masks = warp_masks(masks, positions).long()
    if settings.stain:
        images = jitter_stain(images, settings.stain, generator)
    if settings.color:
        images = jitter_color(images, settings.color, generator)
    return images.clamp_(0, 1), masks


def random_positions(
    count: int, size: tuple[int, int], side: int, settings: Augmentation, generator: torch.Generator
) -> Tensor:
    """Choose where each output pixel is taken from.

    Parameters
    ----------
    count
        Tiles in the batch, N.
    size
        Height and width of the tiles in pixels.
    side
        Side of the square that is cut out, in pixels.
    settings, generator
        See `augment`.

    Returns
    -------
    Tensor
        float32 [N, side, side, 2], (x, y) in pixels; a pixel's centre is a whole number.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle = torch.deg2rad(uniform(-settings.rotation, settings.rotation))
    zoom = torch.exp(uniform(-1, 1) * math.log1p(settings.scaling))
    mirror = torch.ones(count)
    if settings.flips:
        angle = angle + math.pi / 2 * torch.randint(0, 4, (count,), generator=generator)
        mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=generator).float()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).reshape(count, 2, 2)
    # Quarter turns must be exact: what is a rounding error away from zero would interpolate between pixels.
    matrix = torch.where(matrix.abs() < 1e-6, torch.zeros(()), matrix)
    height, width = size
    offset = torch.stack([uniform(-1, 1) * (width - side) / 2, uniform(-1, 1) * (height - side) / 2], dim=1)
    if side % 2 == width % 2:
        offset = offset.round()
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]) + offset
    axis = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    positions = torch.einsum("nij,hwj->nhwi", matrix, torch.stack([x, y], dim=-1)) + centre[:, None, None, :]
    if settings.elastic:
        n_nodes = max(2, round(side / ELASTIC_SPACING) + 1)
        nodes = settings.elastic * torch.randn(count, 2, n_nodes, n_nodes, generator=generator)
        shifts = F.interpolate(nodes, size=(side, side), mode="bicubic", align_corners=True)
        positions = positions + shifts.permute(0, 2, 3, 1)
    return positions


def warp_images(images: Tensor, positions: Tensor) -> Tensor:
    """Take float32 [N, C, H, W] at positions [N, h, w, 2] (bilinear, mirrored outside): float32 [N, C, h, w]."""
    size = torch.tensor([images.shape[-1], images.shape[-2]], device=images.device)
    normalised = (2 * positions + 1) / size - 1
    return F.grid_sample(images, normalised, mode="bilinear", padding_mode="reflection", align_corners=False)


def warp_masks(masks: Tensor, positions: Tensor) -> Tensor:
    """Take uint8 [N, H, W] at positions [N, h, w, 2] (nearest, `IGNORE` outside): uint8 [N, h, w]."""
    height, width = masks.shape[1:]
    x, y = torch.floor(positions + 0.5).long().unbind(-1)
    outside = (x < 0) | (y < 0) | (x >= width) | (y >= height)
    flat = y.clamp_(0, height - 1) * width + x.clamp_(0, width - 1)
    taken = masks.flatten(1).gather(1, flat.flatten(1)).view_as(flat)
    return taken.masked_fill(outside, IGNORE)


def jitter_stain(images: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Change the strength of each stain of RGB images in 0..1, [N, 3, H, W].

    Colours are unmixed into haematoxylin, eosin and a residual (Ruifrok and Johnston, 2001), each is scaled and
    shifted, and mixed again, as Tellez et al. (2019, doi 10.1016/j.media.2019.101544) do. A change of a linear
    mixture of logarithms is one 3x3 matrix and a shift.
    """
    count, device = len(images), images.device
    scale = 1 + spread * (2 * torch.rand(count, 3, generator=generator) - 1)
    shift = spread / 10 * (2 * torch.rand(count, 3, generator=generator) - 1)
    unmix, mix = torch.from_numpy(HED_FROM_OD).float(), torch.from_numpy(OD_FROM_HED).float()
    matrix = unmix @ (scale[:, :, None] * mix)
    offset = shift @ mix
    density = -torch.log(images.clamp(min=1 / 255))
    density = torch.einsum("nchw,ncd->ndhw", density, matrix.to(device)) + offset.to(device)[:, :, None, None]
    return torch.exp(-density)


def jitter_color(images: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of RGB images in 0..1, [N, 3, H, W]."""
    factors = 1 + spread * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.to(images.device)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean * brightness
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * saturation
