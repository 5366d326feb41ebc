"""A package is read and its model run by bioimage.io's own library, in an environment of its own."""

import json
import zipfile

import numpy as np
import pytest
from package_model import documentation, npy, tried

from environments import environment
from export_networks import network_of, sizes_of
from pathseg.export.bioimageio import description, identifiers, trial_pixels, write_package
from pathseg.export.graphs import ProbabilityGraph, export_graph

CHECK = """
import sys
from bioimageio.core import load_description_and_test
done = load_description_and_test(sys.argv[1])
# A package of the right format whose output is another has the status "valid-format".
if done.validation_summary.status != "passed":
    sys.exit(done.validation_summary.format())
print(done.validation_summary.status, done.format_version, done.weights.onnx.opset_version)
"""


def packed(tmp_path, name="default holdout", mpp=0.5, **architecture):
    """A package of a random network, and what is in it."""
    networks = [network_of(seed, depth=3, **architecture) for seed in range(2)]
    border, side = sizes_of(networks, 32)
    export_graph(ProbabilityGraph(networks, any_size=True), tmp_path / "m.onnx", side, any_size=True)
    record = {"classes": ["stroma", "gland: a+", "3"], "mpp": mpp, "side": side, "border": border, "stride": 4}
    pixels, probabilities = tried(networks, side)
    files = {
        "model.onnx": (tmp_path / "m.onnx").read_bytes(),
        "test_input.npy": npy(pixels),
        "test_output.npy": npy(probabilities),
        "documentation.md": documentation(name, record, ["# Card\n"]).encode(),
    }
    content = description(name, record, files)
    write_package(tmp_path / "p.zip", content, files)
    return tmp_path / "p.zip", content, probabilities


def test_what_is_in_a_package(tmp_path):
    path, content, probabilities = packed(tmp_path)
    with zipfile.ZipFile(path) as package:
        assert json.loads(package.read("bioimageio.yaml")) == content
        assert package.read("documentation.md").decode().endswith("# Card\n")
    again = path.read_bytes()
    assert packed(tmp_path)[0].read_bytes() == again
    space = content["outputs"][0]["axes"][2]
    assert (space["halo"], space["scale"]) == (sizes_of([network_of(0, depth=3)], 32)[0], 0.5)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    # The networks answer differently in different places, so that a test of them says something.
    assert probabilities.std(axis=(0, 2, 3)).max() > 0.003
    assert identifiers(["stroma", "gland: a+", "gland: a-", "3"]) == ["stroma", "gland__a__1", "gland__a__2", "_3"]


def test_trial_pixels_are_pixels():
    pixels = trial_pixels(64)
    assert (pixels.dtype, pixels.shape) == (np.float32, (1, 3, 64, 64))
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    assert (pixels == np.rint(pixels)).all()


@pytest.mark.slow
def test_bioimageio_runs_it(tmp_path):
    run = environment("bioimageio.core==0.11.0", "pydantic==2.12.5", "onnxruntime==1.32.0")
    for number, options in enumerate(({}, {"mpp": None, "name": "Bär: x", "padding": False, "batch_norm": False})):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run("-c", CHECK, packed(folder, **options)[0]).splitlines()[-1].endswith(" 17")
