import pytest

from conftest import small_unet
from pathseg.network.optimisation import decay_of, make_optimizer


def test_biases_and_norms_do_not_decay():
    network = small_unet()
    optimizer = make_optimizer(network, 0.1, 0.5)
    decay = {id(values): group["weight_decay"] for group in optimizer.param_groups for values in group["params"]}
    for name, values in network.named_parameters():
        assert decay[id(values)] == (0.5 if values.ndim == 4 else 0.0), name


def test_after_a_half_life_the_past_counts_half():
    assert decay_of(100, 10_000) ** 100 == pytest.approx(0.5)
    assert decay_of(100, 0) == 0.1
    assert decay_of(0, 10_000) == 0
