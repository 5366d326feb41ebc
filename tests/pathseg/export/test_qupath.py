"""A pixel classifier is run over an image as QuPath runs it, by the stand-in of tests/as_qupath.py."""

import cv2
import numpy as np
import pytest
import torch

from as_qupath import classify_as_qupath
from export_networks import network_of, sizes_of
from pathseg.colors import packed
from pathseg.export.graphs import ProbabilityGraph, export_graph
from pathseg.export.qupath import pixel_classifier
from pathseg.images.views import ArrayView
from pathseg.prediction.inference import Predictor, predict_bands

NAMES, COLORS, TILE = ["stroma", "gland", "nerve"], ["#999999", "#0072b2", "#d55e00"], 64


@torch.no_grad()
def as_sure_as_trained(network, image):
    """Spread the logits of a network: QuPath compares bytes, so that near ties would fall either way."""
    logits = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].flatten(1)
    scale = 20 / logits.std(dim=1)
    network.last.weight *= scale[:, None, None, None]
    network.last.bias.copy_(scale * (network.last.bias - logits.mean(dim=1)))
    return network


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
def test_qupath_gives_the_class_map_of_pathseg(tmp_path, rng, up_mode):
    image = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (8 * TILE, 5 * TILE))
    network = as_sure_as_trained(network_of(3, depth=3, up_mode=up_mode), image)
    border, side = sizes_of([network], TILE)
    export_graph(ProbabilityGraph([network]), tmp_path / "m.onnx", side)
    classifier = pixel_classifier(NAMES, COLORS, 1.0, TILE, border, f"file:{tmp_path}/m.onnx")
    found = classify_as_qupath(classifier, image)
    predictor = Predictor([network], torch.device("cpu"), torch.float32)
    wanted = np.concatenate([band.classes for band in predict_bands(ArrayView(image), predictor, None, None)])
    assert len(np.unique(wanted)) > 1
    inner = np.s_[border:-border, border:-border]
    assert (found[inner] == wanted[inner]).mean() > 0.999


def test_fields_that_qupath_reads():
    classifier = pixel_classifier(NAMES, COLORS, 0.5, 512, 96, "file:/m.onnx", ignore_background=True)
    metadata, dnn = classifier["metadata"], classifier["op"]["op"]["ops"][0]
    assert metadata["inputResolution"]["pixelWidth"] == {"value": 0.5, "unit": "\u00b5m"}
    assert metadata["classificationLabels"]["0"] == {"name": "Ignore*", "color": [153, 153, 153]}
    assert metadata["outputChannels"][1] == {"name": "gland", "color": packed("#0072b2")}
    assert dnn["model"]["scale"] == 1.0
    assert dnn["outputNames"] == []
    assert dnn["padding"] == {"x1": 96, "x2": 96, "y1": 96, "y2": 96}


def test_colours_are_packed_as_java_does():
    # Color.RED.getRGB() and Color.WHITE.getRGB().
    assert packed("#ff0000") == -65536
    assert packed("#ffffff") == -1
