"""Pack an exported model for bioimage.io.

Outputs
-------
package : ZIP
    See `pathseg.export.bioimageio`: the graph of any size, an input and what the same graph gives in
    PyTorch to test it with, and the model cards.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathseg.export.bioimageio import description, trial_pixels, write_package
from pathseg.export.graphs import ProbabilityGraph
from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.network.unet import UNet
from pathseg.prediction.delivery import load_networks

HOW_TO_RUN = """# {name}

A U-Net that pathseg trained. It takes RGB pixels of 0 to 255{resolution} and gives the probability of each class:
{classes}. Scaling, normalisation and softmax are inside. Probabilities count {border} pixels away from the rim
of what it is given (the halo): nearer, it sees padding instead of tissue. Sides are multiples of {stride}, and at
least {side}.

It is for research. It is not a medical device. Its licence is that of whoever trained it.
"""


def documentation(name: str, record: dict[str, Any], cards: list[str]) -> str:
    """Return how to run a model, and its model cards."""
    resolution = f" at {record['mpp']:g} µm per pixel" if record["mpp"] else ""
    numbers = {key: record[key] for key in ("border", "stride", "side")}
    text = HOW_TO_RUN.format(name=name, resolution=resolution, classes=", ".join(record["classes"]), **numbers)
    return "\n".join([text, *cards])


def tried(networks: list[UNet], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image [1, 3, S, S] and what the networks give for it in PyTorch [1, C, S, S], as the graph does."""
    pixels = trial_pixels(side)
    with torch.no_grad():
        return pixels, ProbabilityGraph(networks).eval()(torch.from_numpy(pixels)).numpy()


def npy(array: np.ndarray) -> bytes:
    """Return an array as the content of an NPY file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, models = snakemake.params, list(snakemake.input.models)
    torch.set_num_threads(snakemake.threads)
    record = json.loads(Path(snakemake.input.record).read_text(encoding="utf-8"))
    checkpoints, networks = load_networks(models, params.classes, params.resolution)
    pixels, probabilities = tried(networks, record["side"])
    name = f"{snakemake.wildcards.experiment} {snakemake.wildcards.fold}"
    cards = [Path(path).read_text(encoding="utf-8") for path in snakemake.input.cards]
    files = {
        "model.onnx": Path(snakemake.input.graph).read_bytes(),
        "test_input.npy": npy(pixels),
        "test_output.npy": npy(probabilities),
        "documentation.md": documentation(name, record, cards).encode(),
    }
    with atomic_path(snakemake.output.package) as path:
        write_package(path, description(name, record, files), files)
    log.info("%s", snakemake.output.package)
