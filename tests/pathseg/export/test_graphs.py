"""Graphs are read back by OpenCV (the engine of QuPath) and by ONNX Runtime, and compared with PyTorch."""

import itertools

import numpy as np
import onnxruntime
import pytest
import torch

from export_networks import network_of, rounded_network, sizes_of
from pathseg.errors import CheckpointError
from pathseg.export import graphs
from pathseg.export.graphs import (
    TOLERANCE,
    WIDENED_FROM,
    ProbabilityGraph,
    export_for_opencv,
    export_graph,
    pictures,
    probabilities_of,
    rounding,
    widen,
)

CASES = list(itertools.product(["upconv", "upsample"], [True, False], [2, 5]))


@pytest.mark.parametrize(("up_mode", "batch_norm", "depth"), CASES)
@pytest.mark.parametrize("padding", [True, False])
def test_a_graph_gives_the_networks_probabilities(tmp_path, up_mode, batch_norm, depth, padding):
    networks = [network_of(depth, up_mode=up_mode, batch_norm=batch_norm, depth=depth, padding=padding)]
    border, side = sizes_of(networks)
    assert export_for_opencv(networks, tmp_path / "m.onnx", side, border) < 1e-4


def test_the_mean_of_networks_is_one_graph(tmp_path):
    networks = [network_of(seed, depth=3) for seed in (0, 1, 2)]
    border, side = sizes_of(networks)
    assert export_for_opencv(networks, tmp_path / "m.onnx", side, border) < 1e-4


def test_a_graph_of_any_size_takes_batches(tmp_path, rng):
    network = network_of(0, depth=3, batch_norm=False)
    export_graph(ProbabilityGraph([network], any_size=True), tmp_path / "m.onnx", 64, any_size=True)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    pixels = rng.integers(0, 256, (2, 3, 96, 128)).astype(np.float32)
    (found,) = session.run(None, {"image": pixels})
    with torch.no_grad():
        wanted = torch.softmax(network(torch.from_numpy(pixels / 255)), dim=1)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    # A side that is no multiple of the stride gives the same pixels, away from the rim.
    (cut,) = session.run(None, {"image": pixels[:, :, :89, :126]})
    assert cut.shape == (2, 3, 89, 126)
    border, _ = sizes_of([network])
    inner = np.s_[..., : 89 - border, : 126 - border]
    np.testing.assert_allclose(cut[inner], found[inner], atol=1e-4)


@pytest.mark.parametrize(("depth", "certain"), [(2, 0), (4, 0), (4, 200)])
def test_what_opencv_would_round_is_written_so_that_it_does_not(tmp_path, depth, certain):
    """Also of a network that is sure of one class in all that is tried: its probabilities do not show it."""
    networks, path = [rounded_network(30, depth=depth)], tmp_path / "m.onnx"
    with torch.no_grad():
        networks[0].last.bias[0] += certain
    border, side = sizes_of(networks)
    export_graph(ProbabilityGraph(networks), path, side)
    narrow = path.stat().st_size
    assert rounding(networks, "m.onnx", side, border) >= WIDENED_FROM
    assert export_for_opencv(networks, path, side, border) < TOLERANCE
    assert path.stat().st_size > 1.4 * narrow


@pytest.mark.parametrize("padding", [True, False])
def test_what_opencv_does_not_round_stays_fast(tmp_path, padding):
    networks, path = [network_of(0, depth=3, padding=padding), network_of(1, depth=2, padding=padding)], tmp_path / "m"
    border, side = sizes_of(networks)
    export_graph(ProbabilityGraph(networks), path, side)
    narrow = path.stat().st_size
    export_for_opencv(networks, path, side, border)
    assert path.stat().st_size == narrow


def test_a_graph_is_tried_on_noise_tissue_and_glass():
    noise, tissue, glass = pictures(64)
    assert all(((picture == picture.round()) & (picture >= 0) & (picture <= 255)).all() for picture in (noise, tissue))
    assert np.ptp(glass) == 0 < np.abs(np.diff(tissue)).mean() < np.abs(np.diff(noise)).mean() / 4
    assert tissue[0, 1].mean() < tissue[0, 0].mean()


@pytest.mark.parametrize("padding", [True, False])
def test_wider_kernels_change_nothing(padding):
    network = network_of(0, depth=3, padding=padding)
    image = torch.rand(1, 3, 96, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(image)
        widen(network)
        assert network.down_path[0].block[0].kernel_size == (3, 5)
        torch.testing.assert_close(network(image), wanted)


def test_a_graph_of_other_weights_is_refused(tmp_path, monkeypatch):
    networks = [network_of(0, depth=2)]
    border, side = sizes_of(networks)
    monkeypatch.setattr(
        graphs, "probabilities_of", lambda _, pixels: probabilities_of([network_of(1, depth=2)], pixels)
    )
    with pytest.raises(CheckpointError, match="differ by"):
        export_for_opencv(networks, tmp_path / "m.onnx", side, border)
