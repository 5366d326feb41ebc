"""Image and mask must stay aligned: each pixel of a coordinate image says where it is from."""

import numpy as np
import pytest
import torch

from pathseg.images.stains import OD_FROM_HED
from pathseg.labels.values import IGNORE
from pathseg.tiles.augmentation import (
    Augmentation,
    augment,
    change_colors,
    change_stains,
    cubic_weights,
    draw_params,
    source_positions,
    warp_images,
    warp_masks,
)

PLAIN = {"flips": False, "rotation": 0, "scaling": 0, "elastic": 0, "stain": 0, "color": 0}
SIDE = 96


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def changed_batch(images, masks, settings, state, edges=None):
    """Change a batch at random; without edges, images and masks alone."""
    changed = augment(images, masks, edges, settings, draw_params(len(images), images.shape[-1], settings, state))
    return changed if edges is not None else changed[:2]


def coordinate_batch(count=6):
    """Images whose channels are x, y and 0 (as numbers 0 ... 95), and masks that hold 16-pixel squares of x and y."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    images = torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8)
    masks = (x // 16 + 6 * (y // 16)).to(torch.uint8)
    return images.expand(count, -1, -1, -1).clone(), masks.expand(count, -1, -1).clone()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"flips": True},
        {"rotation": 90},
        {"scaling": 0.5},
        {"elastic": 4},
        {"crop": 64},
        {"flips": True, "rotation": 45, "scaling": 0.3, "elastic": 3, "crop": 48},
    ],
    ids=str,
)
def test_image_and_mask_stay_aligned(change):
    images, masks = coordinate_batch()
    settings = Augmentation(**PLAIN | change)
    for seed in range(4):
        changed, changed_masks = changed_batch(images, masks, settings, generator(seed))
        x, y = (changed[:, channel] * 255 for channel in (0, 1))
        known = changed_masks != IGNORE
        # Bilinear coordinates are exact; at the limits of the squares and the mirrored rim either side is right.
        off_limits = known & (((x + 0.5) % 16 - 8).abs() < 7) & (((y + 0.5) % 16 - 8).abs() < 7)
        expected = torch.div(x + 0.5, 16, rounding_mode="floor") + 6 * torch.div(y + 0.5, 16, rounding_mode="floor")
        assert off_limits.float().mean() > 0.3
        assert (expected == changed_masks)[off_limits].all()


def test_without_changes_tiles_are_as_stored():
    images, masks = coordinate_batch()
    changed, changed_masks = changed_batch(images, masks, Augmentation(**PLAIN), generator())
    torch.testing.assert_close(changed, images.float() / 255, atol=1e-6, rtol=0)
    assert torch.equal(changed_masks, masks.long())


def test_flips_move_whole_pixels():
    images, masks = coordinate_batch(32)
    changed, changed_masks = changed_batch(images, masks, Augmentation(**PLAIN | {"flips": True}), generator())
    torch.testing.assert_close((changed * 255).round(), changed * 255, atol=1e-3, rtol=0)
    assert (changed_masks != IGNORE).all()
    ways = {tuple(mask[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) for mask in changed_masks}
    assert len(ways) == 8


@pytest.mark.parametrize(("size", "crop"), [(96, 48), (96, 47), (95, 47)])
def test_crops_move_whole_pixels(size, crop):
    images, masks = (values[..., :size, :size] for values in coordinate_batch(16))
    changed, changed_masks = changed_batch(images, masks, Augmentation(**PLAIN | {"crop": crop}), generator())
    places = changed[:, :2, 0, 0] * 255
    # Where one side is even and one is odd, no whole number keeps the middle in the middle on average.
    if size % 2 == crop % 2:
        torch.testing.assert_close(places.round(), places, atol=1e-3, rtol=0)
    assert (changed_masks != IGNORE).all()
    assert len(places.round().unique(dim=0)) > 8


def test_what_lies_outside_is_ignored():
    masks = torch.ones(1, 8, 8, dtype=torch.uint8)
    positions = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy"), dim=-1)[None] + 3
    assert (warp_masks(masks, positions) == IGNORE).sum() == 64 - 25


def test_image_is_mirrored_outside():
    images = torch.rand(1, 3, 8, 8)
    positions = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy"), dim=-1)[None] + 1
    torch.testing.assert_close(warp_images(images, positions)[..., 7, 7], images[..., 7, 7])


def test_the_same_state_gives_the_same_batch():
    images, masks = coordinate_batch()
    settings = Augmentation()
    (one, one_mask), (same, same_mask) = (changed_batch(images, masks, settings, generator(5)) for _ in range(2))
    other, _ = changed_batch(images, masks, settings, generator(6))
    assert torch.equal(one, same)
    assert torch.equal(one_mask, same_mask)
    assert not torch.equal(one, other)


def test_deformation_is_as_large_as_asked():
    changes = draw_params(64, 256, Augmentation(**PLAIN | {"elastic": 5}), generator())
    positions, plain = (source_positions(256, 256, changes, elastic) for elastic in (True, False))
    assert 2 < float((positions - plain).std()) < 6


def test_cubic_weights_are_bicubic_interpolation():
    nodes = torch.randn(1, 1, 5, 5)
    expected = torch.nn.functional.interpolate(nodes, size=(256, 256), mode="bicubic", align_corners=True)
    along = cubic_weights(5, 256, torch.device("cpu"))
    torch.testing.assert_close(along.T @ nodes[0, 0] @ along, expected[0, 0], atol=1e-4, rtol=1e-4)


def test_edges_move_with_the_mask():
    images, masks = coordinate_batch()
    settings = Augmentation(**PLAIN | {"flips": True, "rotation": 45, "elastic": 3, "crop": 48})
    _, changed_masks, changed_edges, _ = changed_batch(images, masks, settings, generator(), edges=masks * 4)
    known = changed_masks != IGNORE
    # Interpolated between squares, so that most pixels, not all, have their square's number.
    assert (torch.isclose(changed_edges * 255 / 4, changed_masks.float(), atol=0.01) | ~known).float().mean() > 0.7


def test_insides_move_with_the_mask_and_are_ignored_with_it():
    images, masks = coordinate_batch()
    settings = Augmentation(**PLAIN | {"flips": True, "rotation": 45, "elastic": 3, "crop": 48})
    changes = draw_params(len(images), SIDE, settings, generator())
    changed = augment(images, masks, None, settings, changes, (masks % 2).to(torch.uint8))
    known = changed.masks != IGNORE
    assert known.any()
    assert not known.all()
    assert torch.equal(changed.insides, torch.where(known, changed.masks % 2, IGNORE))


def test_parts_of_a_batch_are_changed_as_in_the_whole():
    images, masks = coordinate_batch()
    settings = Augmentation()
    changes = draw_params(6, SIDE, settings, generator())
    whole = augment(images, masks, None, settings, changes)
    part = augment(images[2:5], masks[2:5], None, settings, changes.of(slice(2, 5)))
    torch.testing.assert_close(part[0], whole[0][2:5])
    assert torch.equal(part[1], whole[1][2:5])


def test_stain_jitter_keeps_glass_and_changes_tissue(tissue_field):
    image = torch.from_numpy(tissue_field[0].copy()).permute(2, 0, 1)[None].float() / 255
    stains = draw_params(8, 32, Augmentation(stain=0.15), generator()).stains
    changed = change_stains(image.expand(8, -1, -1, -1), stains)
    assert 0.005 < float((changed - image).abs().mean()) < 0.15
    glass = change_stains(torch.full((8, 3, 4, 4), 0.99), stains)
    assert float((glass - 0.99).abs().max()) < 0.05


def test_stains_by_hand():
    """Factors and shifts are of the amounts of stain, of which more is darker."""
    amounts, factors = np.array([0.5, 0.3, 0.1]), np.array([1.2, 0.9, 1.1])
    shifts = np.array([0.05, -0.02, 0.01])
    before, after = (np.exp(-mixed @ OD_FROM_HED) for mixed in (amounts, amounts * factors + shifts))
    image = torch.from_numpy(before).float().view(1, 3, 1, 1)
    stains = torch.from_numpy(np.stack([factors, shifts])).float()[None]
    np.testing.assert_allclose(change_stains(image, stains).flatten(), after, atol=1e-5)


def test_without_spread_colours_stay(tissue_field):
    image = torch.from_numpy(tissue_field[0].copy()).permute(2, 0, 1)[None].float() / 255
    changes = draw_params(1, 32, Augmentation(stain=0, color=0), generator())
    torch.testing.assert_close(change_stains(image, changes.stains), image, atol=1e-4, rtol=0)
    torch.testing.assert_close(change_colors(image, changes.colors), image, atol=1e-6, rtol=0)


def test_colours_stay_in_range():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 3, 32, 32), dtype=np.uint8))
    masks = torch.zeros(4, 32, 32, dtype=torch.uint8)
    changed, _ = changed_batch(images, masks, Augmentation(stain=1, color=1), generator())
    assert changed.min() >= 0
    assert changed.max() <= 1
