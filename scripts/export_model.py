"""Write a model, or the mean of several, for other programs.

Outputs
-------
graph : ONNX
    From RGB of 0..255, float32 [1, 3, S, S], to probabilities [1, C, S, S], which are right inside the border. For
    OpenCV, and so for QuPath.
graph_any_size : ONNX
    The same for batches and images of any size (of a network without padding, of the sizes that it takes).
classifier : JSON
    A pixel classifier that QuPath runs by itself, see `pathseg.export.qupath`. Without one that fits: the reason.
record : JSON
    What the graphs take and give, what they were made from, and how far OpenCV's probabilities are from the network's.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch

from pathseg import __version__
from pathseg.colors import colors_of
from pathseg.export.graphs import ProbabilityGraph, export_for_opencv, export_graph
from pathseg.export.qupath import pixel_classifier, why_no_classifier
from pathseg.files import atomic_path, file_digest
from pathseg.logs import start_log
from pathseg.network.checkpoint import class_names
from pathseg.network.unet import UNet
from pathseg.prediction.delivery import load_networks
from pathseg.prediction.inference import Predictor


def sizes(networks: list[UNet], tile: int) -> tuple[int, int]:
    """Return the side of the image that a graph takes, and the border inside which its probabilities are right.

    Parameters
    ----------
    networks
        What the graph is made from.
    tile
        Pixels a side that should be left inside the border; rounded up to what the networks take.
    """
    predictor = Predictor(networks, torch.device("cpu"), torch.float32)
    return predictor.input_side(tile), predictor.border


def export(
    networks: list[UNet],
    names: list[str],
    colors: list[str],
    mpp: float | None,
    settings: dict[str, Any],
    uri: str,
    paths: dict[str, Path],
) -> dict[str, Any]:
    """Write the graphs and the classifier, and return what the record says of them.

    Parameters
    ----------
    networks
        In evaluation mode, with one number of classes and one kind of padding.
    names, colors
        Of the classes; colours as #rrggbb.
    mpp
        µm per pixel that the networks see, or None.
    settings
        `export` of the configuration.
    uri
        Where the graph will be.
    paths
        Where to write `graph`, `graph_any_size` and `classifier`.
    """
    side, border = sizes(networks, settings["tile"])
    difference = export_for_opencv(networks, paths["graph"], side, border)
    export_graph(ProbabilityGraph(networks, any_size=True), paths["graph_any_size"], side, any_size=True)
    reason = why_no_classifier(networks, mpp)
    content = (
        {"pathseg": reason}
        if reason
        else pixel_classifier(names, colors, mpp, side - 2 * border, border, uri, settings["ignore_background"])
    )
    paths["classifier"].write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {
        "classes": names,
        "mpp": mpp,
        "side": side,
        "border": border,
        "stride": max(network.stride for network in networks),
        "opencv": cv2.__version__,
        "largest_difference": difference,
        "qupath": reason or "written",
    }


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files = snakemake.params, list(snakemake.input.models)
    torch.set_num_threads(snakemake.threads)
    models, networks = load_networks(files, params.classes, params.resolution)
    names = class_names(models[0])
    with ExitStack() as stack:
        paths = {key: stack.enter_context(atomic_path(path)) for key, path in snakemake.output.items()}
        uri = Path(snakemake.output.graph).resolve().as_uri()
        colors = colors_of(names, params.classes)
        record = export(networks, names, colors, models[0]["mpp"], params.settings, uri, paths)
        record |= {
            "models": [{"file": file, "sha256": file_digest(file)} for file in files],
            "pathseg_version": __version__,
        }
        paths["record"].write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info(
        "%s: probabilities in OpenCV %s differ by at most %.1e; QuPath's classifier: %s",
        snakemake.output.graph,
        cv2.__version__,
        record["largest_difference"],
        record["qupath"],
    )
