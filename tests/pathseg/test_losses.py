import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pathseg.labels import IGNORE
from pathseg.losses import class_weights, soft_dice_loss, weighted_cross_entropy


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
    assert float(weighted_cross_entropy(logits, masks, weights, factors)) == pytest.approx(total / count, rel=1e-5)


def test_ignored_pixels_change_nothing():
    logits, masks = torch.randn(1, 2, 8, 8), torch.ones(1, 8, 8, dtype=torch.int64)
    masks[:, 4:] = IGNORE
    changed = logits.clone()
    changed[:, :, 4:] += torch.randn(1, 2, 4, 8)
    for loss in (lambda x: weighted_cross_entropy(x, masks, torch.ones(2)), lambda x: soft_dice_loss(x, masks)):
        assert float(loss(logits)) == pytest.approx(float(loss(changed)))


def test_a_batch_without_known_pixels_gives_zero():
    masks = torch.full((1, 8, 8), IGNORE)
    assert float(weighted_cross_entropy(torch.randn(1, 2, 8, 8), masks, torch.ones(2))) == 0
    assert float(soft_dice_loss(torch.randn(1, 2, 8, 8), masks)) == 0


def test_dice_of_right_and_wrong():
    masks = torch.zeros(1, 16, 16, dtype=torch.int64)
    masks[:, :, 8:] = 1
    right = 20 * F.one_hot(masks, 2).movedim(-1, 1).float()
    assert float(soft_dice_loss(right, masks)) < 0.01
    assert float(soft_dice_loss(-right, masks)) > 0.98


def test_class_weights():
    pixels = torch.tensor([75.0, 25.0])
    torch.testing.assert_close(class_weights("balanced", pixels), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(class_weights("none", pixels), torch.ones(2))
    torch.testing.assert_close(class_weights([1.0, 3.0], pixels), torch.tensor([0.5, 1.5]))
