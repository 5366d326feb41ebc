import numpy as np
import pytest
import torch

from pathseg.network.probabilities import argmax, softmax


@pytest.mark.parametrize("n_classes", [1, 2, 3, 7])
def test_probabilities_are_those_of_pytorch(n_classes):
    logits = torch.randn(n_classes, 5, 6, generator=torch.Generator().manual_seed(0)) * 9
    torch.testing.assert_close(softmax(logits), torch.softmax(logits, dim=0))


@pytest.mark.parametrize("n_classes", [1, 2, 3, 7])
def test_of_equals_the_first_is_taken(rng, n_classes):
    scores = rng.integers(0, 3, (n_classes, 30, 30), dtype=np.uint8)
    np.testing.assert_array_equal(argmax(torch.from_numpy(scores)), scores.argmax(axis=0))
