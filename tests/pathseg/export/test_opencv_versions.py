"""Graphs are run by the OpenCV of each QuPath: 4.10 (QuPath 0.6) and 4.11 (0.7), each in an environment of its own.

The tests of graphs run 4.13 (0.8), which pathseg itself uses.
"""

import itertools

import numpy as np
import pytest
import torch

from environments import environment
from export_networks import network_of, rounded_network, sizes_of
from pathseg.export.graphs import TOLERANCE, export_for_opencv

CASES = list(itertools.product(["upconv", "upsample"], [True, False], range(2, 7)))
RUN = """
import sys
import cv2, numpy as np
assert cv2.__version__ == sys.argv[1], cv2.__version__
for path in sys.argv[2:]:
    with np.load(path) as case:
        net = cv2.dnn.readNetFromONNX(str(case["graph"]))
        net.setInput(case["pixels"])
        inside = slice(case["border"], -case["border"])
        difference = np.abs(net.forward() - case["wanted"])[..., inside, inside].max()
    print(path, difference)
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Files of graphs, pixels, and what PyTorch's own network gives for them: of all kinds of networks."""
    folder, paths = tmp_path_factory.mktemp("graphs"), []
    rng = np.random.default_rng(0)
    networks = [
        network_of(number, up_mode=up_mode, batch_norm=batch_norm, depth=depth, wf=2)
        for number, (up_mode, batch_norm, depth) in enumerate(CASES)
    ]
    for number, network in enumerate([*networks, rounded_network(depth=2), rounded_network(30, depth=5)]):
        border, side = sizes_of([network], 32)
        graph = folder / f"{number}.onnx"
        export_for_opencv([network], graph, side, border)
        pixels = rng.integers(0, 256, (1, 3, side, side)).astype(np.float32)
        with torch.no_grad():
            wanted = torch.softmax(network(torch.from_numpy(pixels / 255)), dim=1).numpy()
        paths.append(folder / f"{number}.npz")
        np.savez(paths[-1], graph=str(graph), pixels=pixels, wanted=wanted, border=border)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("build", ["4.10.0.84", "4.11.0.86"])
def test_qupaths_opencv_gives_the_networks_probabilities(cases, build):
    run = environment(f"opencv-python-headless=={build}", "numpy==2.2.6")
    lines = run("-c", RUN, build.rpartition(".")[0], *cases).splitlines()
    kinds = [*CASES, "rounded, depth 2", "rounded, depth 5"]
    differences = dict(zip(kinds, (float(line.rpartition(" ")[2]) for line in lines), strict=True))
    assert max(differences.values()) < TOLERANCE, differences
