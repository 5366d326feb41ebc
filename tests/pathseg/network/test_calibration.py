"""A calibration in model files and networks."""

import pytest
import torch

from conftest import small_unet
from pathseg.errors import CheckpointError
from pathseg.network.calibration import Calibration, calibrate
from pathseg.network.checkpoint import build_network, load_checkpoint, save_checkpoint


def test_it_is_part_of_the_network_and_costs_nothing(tmp_path):
    network = small_unet(n_classes=3)
    calibration = {"temperature": 1.7, "bias": [0.3, -0.5, 0.2], "errors": {"before": 0.1}}
    file = network.architecture | {"model_dict": network.state_dict(), "mpp": 1.0}
    save_checkpoint(tmp_path / "old.pt", file)
    save_checkpoint(tmp_path / "new.pt", file | {"calibration": calibration})
    old, new = (build_network(load_checkpoint(tmp_path / name), name) for name in ("old.pt", "new.pt"))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(old(image), network(image))
    bias = torch.tensor(calibration["bias"])[:, None, None]
    torch.testing.assert_close(new(image), network(image) / 1.7 + bias)
    assert [type(layer) for layer in new.modules()] == [type(layer) for layer in old.modules()]


def test_insides_have_a_calibration_of_their_own():
    """What had the probability from which on a pixel is inside has one half then."""
    image, network = torch.rand(1, 3, 32, 32), small_unet(insides=True)
    with torch.inference_mode():
        before = network(image)
        calibrate(network, Calibration(2.0, (0.5, -0.5)))
        after = network(image)
        assert torch.equal(after[:, 2], before[:, 2])
        assert not torch.isclose(after[:, :2], before[:, :2]).any()
        # So that some are inside, and some of these surely.
        stretch = 6 / before[:, 2].std()
        network.last.weight[2:] *= stretch
        network.last.bias[2:] = (network.last.bias[2:] - before[:, 2].mean()) * stretch + 1
        before = network(image)
        calibrate(network, Calibration(1.0, (0.0, 0.0), inside=0.7, sure=0.97))
        shifted = network(image)
    assert torch.equal(shifted[:, :2], after[:, :2])
    for wanted, had in ((0.5, 0.7), (0.9, 0.97)):
        assert torch.equal(shifted[:, 2].sigmoid() >= wanted, before[:, 2].sigmoid() >= had)
        assert 0.05 < (shifted[:, 2].sigmoid() >= wanted).float().mean() < 0.95


def test_calibrating_a_network_changes_its_last_layer_alone():
    network = small_unet()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    calibrate(network, Calibration(2.0, (0.5, -0.5)))
    changed = [name for name, values in network.state_dict().items() if not torch.equal(values, before[name])]
    assert changed == ["last.weight", "last.bias"]


@pytest.mark.parametrize(
    "stored",
    [
        3,
        {"temperature": 1.0},
        {"temperature": 0.0, "bias": [0.0, 0.0]},
        {"temperature": 1.0, "bias": [0.0]},
        {"temperature": 1.0, "bias": [0.0, 0.0], "inside": 1.0},
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(stored):
    network = small_unet()
    checkpoint = network.architecture | {"model_dict": network.state_dict(), "calibration": stored}
    with pytest.raises(CheckpointError, match=r"m\.pt: its calibration"):
        build_network(checkpoint, "m.pt")
