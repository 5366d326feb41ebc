"""Model files of pathseg and of the tutorial, and files that only look like them."""

import zipfile

import numpy as np
import pytest
import torch

from conftest import small_unet
from pathseg.errors import CheckpointError
from pathseg.network.checkpoint import build_network, load_checkpoint, save_checkpoint
from pathseg.network.unet import ARCHITECTURE_KEYS


def tutorial_checkpoint(network):
    """Return what the tutorial's training notebook saves: eleven keys, with NumPy scalars in one of them."""
    return {
        "epoch": 12,
        "model_dict": network.state_dict(),
        "optim_dict": torch.optim.Adam(network.parameters()).state_dict(),
        "best_loss_on_test": {"train": np.float32(0.2), "val": np.float32(0.3)},
        "n_classes": 2,
        "in_channels": 3,
        "padding": True,
        "depth": 3,
        "wf": 2,
        "up_mode": "upconv",
        "batch_norm": True,
    }


def put_scalars_into(path, module):
    """Write a checkpoint again as if its NumPy scalars were of another version's module."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert any(b"numpy._core.multiarray" in content for content in entries.values())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", module.encode()))


@pytest.mark.parametrize("name_of_scalar", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_the_tutorials_file_loads_and_gives_the_same_output(tmp_path, name_of_scalar):
    """NumPy 1 and 2 pickle their scalars under two names."""
    network = small_unet()
    torch.save(tutorial_checkpoint(network), tmp_path / "model.pth")
    put_scalars_into(tmp_path / "model.pth", name_of_scalar)
    checkpoint = load_checkpoint(tmp_path / "model.pth")
    assert checkpoint["best_loss_on_test"]["val"] == np.float32(0.3)
    assert checkpoint["mpp"] is checkpoint["resize"] is checkpoint["classes"] is None
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(build_network(checkpoint, "model.pth")(image), network(image))


def test_ours_comes_back(tmp_path):
    network = small_unet(up_mode="upsample", batch_norm=False)
    saved = network.architecture | {"model_dict": network.state_dict(), "mpp": 0.5, "classes": [{"name": "a"}]}
    save_checkpoint(tmp_path / "best.pt", saved)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded["mpp"] == 0.5
    assert {key: loaded[key] for key in ARCHITECTURE_KEYS} == network.architecture
    assert list(tmp_path.iterdir()) == [tmp_path / "best.pt"]


def test_a_list_is_no_model(tmp_path):
    torch.save([1, 2], tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="lacks"):
        load_checkpoint(tmp_path / "m.pt")
