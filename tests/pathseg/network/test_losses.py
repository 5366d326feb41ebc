import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from pathseg.labels.values import IGNORE
from pathseg.network.losses import class_weights, cut_to, edge_band, soft_dice_loss, weighted_cross_entropy


@pytest.mark.parametrize("width", [1, 2, 5])
def test_edge_band_is_what_dilation_adds(rng, width):
    mask = ndimage.gaussian_filter(rng.random((64, 80)), 4) > 0.5
    expected = ndimage.binary_dilation(mask, iterations=width) & ~mask
    band = edge_band(torch.from_numpy(mask[None].astype(np.int64)), width)[0].numpy()
    np.testing.assert_array_equal(band, expected)


def test_touching_objects_of_two_classes_have_an_edge_between_them():
    mask = torch.ones(1, 8, 8, dtype=torch.int64)
    mask[:, :, 4:] = 2
    band = edge_band(mask, 1)[0]
    assert band[:, 3:5].all()
    assert not band[:, :3].any()
    assert not band[:, 5:].any()


def test_ignored_pixels_have_no_edge():
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, :, 4:] = IGNORE
    assert not edge_band(mask, 2).any()


def test_cross_entropy_by_hand(rng):
    logits = torch.randn(2, 3, 8, 8)
    masks = torch.from_numpy(rng.integers(0, 3, (2, 8, 8)))
    masks[0, :2] = IGNORE
    weights = torch.tensor([0.5, 1.0, 1.5])
    factors = torch.from_numpy(rng.random((2, 8, 8)).astype(np.float32)) + 1
    total, count = 0.0, 0
    for n, y, x in np.ndindex(2, 8, 8):
        if masks[n, y, x] == IGNORE:
            continue
        loss = -torch.log_softmax(logits[n, :, y, x], 0)[masks[n, y, x]] * weights[masks[n, y, x]]
        total += float(loss) * float(factors[n, y, x])
        count += 1
    assert float(weighted_cross_entropy(F.log_softmax(logits, 1), masks, weights, factors)) == pytest.approx(
        total / count, rel=1e-5
    )


def test_ignored_pixels_change_nothing():
    logits, masks = torch.randn(1, 2, 8, 8), torch.ones(1, 8, 8, dtype=torch.int64)
    masks[:, 4:] = IGNORE
    changed = logits.clone()
    changed[:, :, 4:] += torch.randn(1, 2, 4, 8)
    one, other = F.log_softmax(logits, 1), F.log_softmax(changed, 1)
    for loss in (lambda x: weighted_cross_entropy(x, masks, torch.ones(2)), lambda x: soft_dice_loss(x, masks)):
        assert float(loss(one)) == pytest.approx(float(loss(other)))


def test_a_batch_without_known_pixels_gives_zero():
    masks = torch.full((1, 8, 8), IGNORE)
    log_probabilities = F.log_softmax(torch.randn(1, 2, 8, 8), 1)
    assert float(weighted_cross_entropy(log_probabilities, masks, torch.ones(2))) == 0
    assert float(soft_dice_loss(log_probabilities, masks)) == 0


def test_dice_of_right_and_wrong():
    masks = torch.zeros(1, 16, 16, dtype=torch.int64)
    masks[:, :, 8:] = 1
    right = 20 * F.one_hot(masks, 2).movedim(-1, 1).float()
    assert float(soft_dice_loss(F.log_softmax(right, 1), masks)) < 0.01
    assert float(soft_dice_loss(F.log_softmax(-right, 1), masks)) > 0.98


def test_class_weights():
    pixels = torch.tensor([75.0, 25.0])
    torch.testing.assert_close(class_weights("balanced", pixels), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(class_weights("none", pixels), torch.ones(2))
    torch.testing.assert_close(class_weights([1.0, 3.0], pixels), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(class_weights([1, 3], pixels), torch.tensor([0.5, 1.5]))


def test_cutting_to_unpadded_output():
    maps = torch.arange(36).reshape(1, 6, 6)
    assert torch.equal(cut_to(maps, torch.zeros(1, 2, 2, 2)), maps[:, 2:4, 2:4])
