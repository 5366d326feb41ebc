"""Model files of pathseg and of the tutorial, and files that only look like them."""

import resource
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import small_unet
from pathseg.errors import CheckpointError
from pathseg.network.checkpoint import build_network, load_checkpoint, save_checkpoint
from pathseg.network.unet import ARCHITECTURE_KEYS
from pathseg.table_files import table_page


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
    saved = network.architecture | {
        "model_dict": network.state_dict(),
        "mpp": 0.5,
        "classes": [{"name": "a"}, {"name": "b"}],
    }
    save_checkpoint(tmp_path / "best.pt", saved)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded["mpp"] == 0.5
    assert {key: loaded[key] for key in ARCHITECTURE_KEYS} == network.architecture
    assert list(tmp_path.iterdir()) == [tmp_path / "best.pt"]


def test_a_list_is_no_model(tmp_path):
    torch.save([1, 2], tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="lacks"):
        load_checkpoint(tmp_path / "m.pt")


def saved(path, **changes):
    """Write a small model with changed fields."""
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "mpp": 1.0, "classes": named("a", "b")}
    torch.save(content | changes, path)
    return path


def named(*names):
    """Return classes of these names."""
    return [{"name": name} for name in names]


HOSTILE = "<img src=x onerror=alert(1)>"
ODD = [0, -1, 2**40, 2.0, 0.5, True, "4", None, [3], {}, float("nan"), float("inf"), torch.ones(1)]


@pytest.mark.parametrize(
    "key", ["depth", "wf", "n_classes", "in_channels", "padding", "batch_norm", "up_mode", "classes"]
)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_field_of_any_other_kind_is_refused(tmp_path, key, value):
    kept = {"padding": [True], "batch_norm": [True], "classes": [None], "wf": [0]}
    if any(value is good for good in kept.get(key, [])):
        assert load_checkpoint(saved(tmp_path / "m.pt", **{key: value}))[key] is value
        return
    with pytest.raises(CheckpointError, match=f"m.pt: is refused: its {key}"):
        load_checkpoint(saved(tmp_path / "m.pt", **{key: value}))


@pytest.mark.parametrize(
    "objects",
    [
        *(value for value in ODD if value is not None),
        {"classes": ["b"]},
        {"classes": "b", "shrink": 3},
        {"classes": ["b"], "shrink": 0},
        {"classes": ["b"], "shrink": 3.0},
        {"classes": ["b"], "shrink": 10**9},
        {"classes": ["a"], "shrink": 3},
        {"classes": [["b"]], "shrink": 3},
    ],
    ids=repr,
)
def test_objects_that_are_none_are_refused(tmp_path, objects):
    with pytest.raises(CheckpointError, match="its objects"):
        load_checkpoint(saved(tmp_path / "m.pt", objects=objects))


@pytest.mark.parametrize("key", ["mpp", "resize", "tile_size"])
@pytest.mark.parametrize("value", [-1, 0, 1e-4, 1e6, float("nan"), float("inf"), 10**400, True, "1.0", [1.0], (1.0,)])
def test_a_size_that_is_none_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=f"its {key} is"):
        load_checkpoint(saved(tmp_path / "m.pt", **{key: value}))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (named((HOSTILE,), "b"), "its class a tuple is not a text"),
        (named("a", 5), "5 is not a text"),
        (["a", "b"], "are not a list of what each class is"),
        (named("a", "b", "c"), "has 2 outputs and names 3 classes"),
        (named("a"), "has 2 outputs and names 1 classes"),
        (named("a", "a"), "same name"),
        (named("a", "A"), "same name"),
        (named("a", "x\ny"), "U\\+000A"),
        (named("a", "=HYPERLINK(1)"), "begins with ="),
        ([{}, {}], "None is not a text"),
    ],
)
def test_classes_that_would_break_what_is_written_are_refused(tmp_path, classes, words):
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved(tmp_path / "m.pt", classes=classes))


def test_a_name_with_html_is_text_in_a_page(tmp_path):
    loaded = load_checkpoint(saved(tmp_path / "m.pt", classes=named("a", HOSTILE)))
    rows = [class_["name"] for class_ in loaded["classes"]] + [(HOSTILE,), {HOSTILE: HOSTILE}]
    page = table_page("t", pd.DataFrame({"class": pd.Series(rows, dtype=object)}))
    assert page.count("&lt;img") == 4
    assert "<img" not in page


@pytest.mark.parametrize("weights", [[], {"a": 1}, {1: torch.ones(1)}, {"a": torch.ones(2).to_sparse()}, torch.ones(1)])
def test_weights_that_are_none_are_refused(tmp_path, weights):
    with pytest.raises(CheckpointError, match="its weight"):
        load_checkpoint(saved(tmp_path / "m.pt", model_dict=weights))


def test_sizes_are_compared_before_a_large_network_is_made(tmp_path):
    """A file of a few kilobytes that names a network of 70 GB is refused at once, in little memory."""
    path = saved(tmp_path / "m.pt", depth=8, wf=8)
    loaded = load_checkpoint(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="do not fit the architecture"):
        build_network(loaded, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_weights_of_another_precision_are_taken(tmp_path):
    network = small_unet()
    doubled = {name: values.double() for name, values in network.state_dict().items()}
    loaded = build_network(load_checkpoint(saved(tmp_path / "m.pt", model_dict=doubled)), "m.pt")
    assert torch.equal(loaded.last.weight, network.last.weight)
