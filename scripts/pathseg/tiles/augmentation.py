"""Random changes to batches of training tiles, on the device that trains.

Geometry (mirroring, quarter turns, rotation, scaling, elastic deformation and crop) is one resampling, shared by
image, mask and weights. Colours change as stains do, in optical density, and as cameras do.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pathseg.images.stains import HED_FROM_OD, OD_FROM_HED
from pathseg.labels.values import IGNORE

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


class AugmentationParams(NamedTuple):
    """What is done to each of N tiles, drawn at random.

    Attributes
    ----------
    matrices : Tensor
        From places in the new tile to places in the old one, both from the middle [N, 2, 2].
    offsets : Tensor
        Of the middle, (x, y) in pixels [N, 2].
    nodes : Tensor
        Shifts at the nodes of the coarse grid, (x, y) in pixels [N, 2, n, n].
    stains : Tensor
        Factor and shift of haematoxylin, eosin and the residual [N, 2, 3].
    colors : Tensor
        Factors of brightness, contrast and saturation [N, 3].
    """

    matrices: Tensor
    offsets: Tensor
    nodes: Tensor
    stains: Tensor
    colors: Tensor

    def of(self, part: slice) -> "AugmentationParams":
        """Return what is done to some of the tiles."""
        return AugmentationParams(*(values[part] for values in self))


class Fed(NamedTuple):
    """What a network is fed.

    Attributes
    ----------
    images : Tensor
        float32 [N, 3, h, w] in 0..1.
    masks : Tensor
        int64 [N, h, w]; what was outside the tile is `IGNORE`.
    edges : Tensor or None
        float32 [N, h, w] in 0..1.
    insides : Tensor or None
        int64 [N, h, w], 1 inside of objects; `IGNORE` as in the masks.
    """

    images: Tensor
    masks: Tensor
    edges: Tensor | None
    insides: Tensor | None


def draw_params(count: int, size: int, settings: Augmentation, generator: torch.Generator) -> AugmentationParams:
    """Draw what is done to a batch.

    Parameters
    ----------
    count
        Tiles in the batch, N.
    size
        Side of a tile in pixels.
    settings
        How much to change.
    generator
        Source of all randomness, on the CPU, so that the same state gives the same batch on any device.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(count, *shape, generator=generator) - 1

    angle = torch.deg2rad(settings.rotation * uniform())
    zoom = torch.exp(uniform() * math.log1p(settings.scaling))
    mirror = torch.ones(count)
    if settings.flips:
        angle = angle + math.pi / 2 * torch.randint(0, 4, (count,), generator=generator)
        mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=generator).float()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrices = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).reshape(count, 2, 2)
    # Quarter turns must be exact: what is a rounding error away from zero would interpolate between pixels.
    matrices = torch.where(matrices.abs() < 1e-6, torch.zeros(()), matrices)
    side = settings.crop or size
    offsets = uniform(2) * (size - side) / 2
    if side % 2 == size % 2:
        offsets = offsets.round()
    n_nodes = max(2, round(side / ELASTIC_SPACING) + 1)
    nodes = settings.elastic * torch.randn(count, 2, n_nodes, n_nodes, generator=generator)
    stains = torch.stack([1 + settings.stain * uniform(3), settings.stain / 10 * uniform(3)], dim=1)
    return AugmentationParams(matrices, offsets, nodes, stains, 1 + settings.color * uniform(3))


def augment(
    images: Tensor,
    masks: Tensor,
    edges: Tensor | None,
    settings: Augmentation,
    changes: AugmentationParams,
    insides: Tensor | None = None,
) -> Fed:
    """Change a batch.

    Parameters
    ----------
    images
        uint8 [N, 3, H, W], RGB.
    masks
        uint8 [N, H, W], class indices or `IGNORE`.
    edges
        uint8 [N, H, W], stored edge maps, if there are any.
    settings
        How much to change.
    changes
        What `draw_params` has drawn for these tiles, on their device.
    insides
        uint8 [N, H, W], 1 inside of objects, if they are learned.
    """
    positions = source_positions(images.shape[-1], settings.crop or images.shape[-1], changes, bool(settings.elastic))
    layers = images if edges is None else torch.cat([images, edges[:, None]], dim=1)
    layers = warp_images(layers / 255, positions)
    images, edges = layers[:, :3], None if edges is None else layers[:, 3]
    masks = warp_masks(masks, positions).long()
    insides = None if insides is None else warp_masks(insides, positions).long()
    if settings.stain:
        images = change_stains(images, changes.stains)
    if settings.color:
        images = change_colors(images, changes.colors)
    return Fed(images.clamp_(0, 1), masks, edges, insides)


def source_positions(size: int, side: int, changes: AugmentationParams, elastic: bool) -> Tensor:
    """Return where each pixel of the new tiles is taken from.

    Parameters
    ----------
    size, side
        Sides of the old and the new tiles in pixels.
    changes
        See `draw_params`.
    elastic
        Whether to deform.

    Returns
    -------
    Tensor
        float32 [N, side, side, 2], (x, y) in pixels; a pixel's centre is a whole number.
    """
    grid = centred_grid(side, changes.matrices.device)
    centres = changes.offsets + (size - 1) / 2
    positions = torch.einsum("nij,hwj->nhwi", changes.matrices, grid) + centres[:, None, None, :]
    if elastic:
        along = cubic_weights(changes.nodes.shape[-1], side, positions.device)
        positions += torch.einsum("ncij,iy,jx->nyxc", changes.nodes, along, along)
    return positions


@cache
def centred_grid(side: int, device: torch.device) -> Tensor:
    """Return the places of a tile's pixels, (x, y) from its middle: float32 [side, side, 2]. Kept on the device."""
    axis = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).to(device)


@cache
def cubic_weights(n_nodes: int, side: int, device: torch.device) -> Tensor:
    """Return how much each node of a coarse grid counts at each pixel of a line, cubic: float32 [n_nodes, side].

    Two products with it do for a whole grid what bicubic interpolation does, in a fraction of the time.
    """
    lines = torch.eye(n_nodes).view(1, n_nodes, n_nodes, 1)
    return F.interpolate(lines, size=(side, 1), mode="bicubic", align_corners=True)[0, :, :, 0].to(device)


def warp_images(images: Tensor, positions: Tensor) -> Tensor:
    """Take float32 [N, C, H, W] at positions [N, h, w, 2] (bilinear, mirrored outside): float32 [N, C, h, w]."""
    return F.grid_sample(images, _normalised(positions, images), "bilinear", "reflection", align_corners=False)


def warp_masks(masks: Tensor, positions: Tensor) -> Tensor:
    """Take uint8 [N, H, W] at positions [N, h, w, 2] (nearest, `IGNORE` outside): uint8 [N, h, w]."""
    # Outside, zeros are taken, which stand for `IGNORE` here.
    maps = masks[:, None].float() - IGNORE
    taken = F.grid_sample(maps, _normalised(positions, maps), "nearest", "zeros", align_corners=False)
    return (taken[:, 0] + IGNORE).to(torch.uint8)


def _normalised(positions: Tensor, maps: Tensor) -> Tensor:
    """Return positions (x, y) in pixels of square maps as `grid_sample` takes them, from -1 to 1 across a map."""
    return (2 * positions + 1) / maps.shape[-1] - 1


def change_stains(images: Tensor, stains: Tensor) -> Tensor:
    """Change the strength of each stain of RGB images in 0..1, [N, 3, H, W], by factors and shifts [N, 2, 3].

    Colours are unmixed into haematoxylin, eosin and a residual (Ruifrok and Johnston, 2001), each is scaled and
    shifted, and mixed again, as Tellez et al. (2019, doi 10.1016/j.media.2019.101544) do. A change of a linear
    mixture of logarithms is one 3x3 matrix and a shift.
    """
    unmix, mix = stain_matrices(images.device)
    matrices = unmix @ (stains[:, 0, :, None] * mix)
    # A density is the negative logarithm of what is let through.
    passed = images.clamp(min=1 / 255).log_()
    return mix_channels(passed, matrices.mT, -(stains[:, 1] @ mix)).exp_()


@cache
def stain_matrices(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the matrices from optical density to stains and back, float32 [3, 3]. Kept on the device."""
    unmix, mix = (torch.from_numpy(matrix).float().to(device) for matrix in (HED_FROM_OD, OD_FROM_HED))
    return unmix, mix


def change_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of RGB images in 0..1, [N, 3, H, W], by factors [N, 3].

    Contrast is around the mean of the image, saturation around the mean of each pixel's channels.
    """
    brightness, contrast, saturation = factors.unbind(1)
    grey = torch.full((3, 3), 1 / 3, device=images.device)
    saturated = grey + saturation[:, None, None] * (torch.eye(3, device=images.device) - grey)
    shifts = images.mean(dim=(1, 2, 3)) * (brightness - contrast)
    return mix_channels(images, contrast[:, None, None] * saturated, shifts[:, None].expand(-1, 3))


def mix_channels(images: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """Multiply the channels of each image [N, 3, H, W] by its matrix [N, 3, 3], and add shifts [N, 3]."""
    return torch.baddbmm(shifts[..., None], matrices, images.flatten(2)).view_as(images)
