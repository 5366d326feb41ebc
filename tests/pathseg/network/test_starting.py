import pytest
import torch

from conftest import CLASSES, small_unet
from pathseg.errors import CheckpointError
from pathseg.network.checkpoint import save_checkpoint
from pathseg.network.starting import start_from
from pathseg.network.unet import UNet

TILES = {"mpp": 1.0, "resize": None}
NAMES = [class_["name"] for class_ in CLASSES]


@pytest.fixture
def saved(tmp_path):
    """Save a network and return its path."""

    def save(network, **more):
        content = network.architecture | {"model_dict": network.state_dict()} | more
        save_checkpoint(tmp_path / "m.pt", content)
        return str(tmp_path / "m.pt")

    return save


def test_all_that_fits_is_taken(saved):
    trained, network = small_unet(1), UNet(depth=3, wf=2)
    start = start_from(network, saved(trained, classes=CLASSES, mpp=1.0, training_images=["a"]), NAMES, TILES)
    assert (start.not_loaded, start.images) == ([], ["a"])
    for name, values in network.state_dict().items():
        assert torch.equal(values, trained.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "more", "anew"),
    [
        ({"n_classes": 3}, {}, {"last.weight", "last.bias"}),
        ({}, {"classes": [{"name": "other"}, {"name": "epithelium"}]}, {"last.weight", "last.bias"}),
        ({}, {}, set()),  # as the tutorial's, which names no classes
        ({"padding": False}, {"classes": CLASSES}, set()),
        # The bias alone would fit.
        ({"in_channels": 1}, {"classes": CLASSES}, {f"down_path.0.block.0.{k}" for k in ("weight", "bias")}),
        (
            {"up_mode": "upsample"},
            {"classes": CLASSES},
            {f"up_path.{n}.up.1.{k}" for n in (0, 1) for k in ("weight", "bias")},
        ),
    ],
)
def test_what_does_not_fit_begins_anew_and_is_said(saved, caplog, changes, more, anew):
    trained, network = small_unet(1), UNet(**{"depth": 3, "wf": 2, **changes})
    before = {name: values.clone() for name, values in network.state_dict().items()}
    names = [*NAMES, "third"][: network.n_classes]
    with caplog.at_level("INFO", logger="pathseg"):
        start = start_from(network, saved(trained, **more), names, TILES)
    assert set(start.not_loaded) == anew
    for name, values in network.state_dict().items():
        assert torch.equal(values, (before if name in anew else trained.state_dict())[name]), name
        assert (name in caplog.text) == (name in anew)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 4}, r"of depth 3, and unet has depth 4; set unet: \{depth: 3, wf: 2, batch_norm: true\}"),
        ({"depth": 2, "wf": 3}, "is a network of depth 3 and wf 2, and unet has depth 2 and wf 3"),
        ({"batch_norm": False}, "is a network of batch_norm true, and unet has batch_norm false; set unet"),
    ],
)
def test_another_depth_width_or_normalisation_is_refused(saved, changes, words):
    network = UNet(**{"depth": 3, "wf": 2, **changes})
    before = {name: values.clone() for name, values in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        start_from(network, saved(small_unet()), NAMES, TILES)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_the_calibration_of_a_model_is_not_learned_from(saved):
    trained, network = small_unet(1), UNet(depth=3, wf=2)
    start_from(network, saved(trained, calibration={"temperature": 2.0, "bias": [1.0, -1.0]}), NAMES, TILES)
    assert torch.equal(network.last.bias, trained.last.bias)


def test_another_resolution_is_said(saved, caplog):
    start_from(UNet(depth=3, wf=2), saved(small_unet(), mpp=2.0), NAMES, TILES)
    assert "was trained at mpp 2, and the tiles have 1.0" in caplog.text


@pytest.mark.parametrize(("shrink", "said"), [(5, True), (3, False)])
def test_another_rim_of_objects_is_said(saved, caplog, shrink, said):
    objects = {"classes": NAMES[1:], "shrink": shrink}
    path = saved(small_unet(insides=True), classes=CLASSES, objects=objects)
    network = UNet(depth=3, wf=2, insides=True)
    start_from(network, path, NAMES, TILES | {"objects": objects | {"shrink": 3}})
    assert ("its insides are 5 pixels from the rim, and the tiles' 3" in caplog.text) == said
