"""Networks as ONNX graphs, from pixels of 0..255 to probabilities, with nothing left to do outside."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pathseg.errors import CheckpointError
from pathseg.network.folding import folded
from pathseg.network.unet import UNet

# QuPath's OpenCV reads this version of ONNX's operators, and so does every runtime of the last years.
OPSET = 17
# How far probabilities of a graph may be from the network's own, in float32.
TOLERANCE = 1e-4
# Kernels are widened if probabilities might be so far off: the pictures that are tried are not all that there are.
WIDENED_FROM = TOLERANCE / 2


class ProbabilityGraph(nn.Module):
    """The mean probability of one or more networks, for images of one size.

    Parameters
    ----------
    networks
        In evaluation mode, with one number of classes; they are not changed.
    any_size
        Whether images are repeated to the right and below until their sides are multiples of the stride. Networks
        without padding take sizes of their own alone.
    widened
        Whether kernels of 3 x 3 pixels get a column of zeros on both sides, see `widen`.
    """

    def __init__(self, networks: list[UNet], any_size: bool = False, widened: bool = False) -> None:
        super().__init__()
        if len({network.padding for network in networks}) > 1:
            raise CheckpointError("models with and without padding do not fit one graph; export one by one")
        self.networks = nn.ModuleList(folded(network) for network in networks)
        if widened:
            widen(self)
        self.step = max(network.stride for network in networks) if any_size and networks[0].padding else 1

    def forward(self, image: Tensor) -> Tensor:
        """Map RGB of 0..255, float32 [1, 3, H, W], to probabilities [1, C, H, W].

        What is further from the rim than the networks' border is what they give inside a larger image. Where a
        network without padding gives nothing, the probabilities are 0.
        """
        rows, columns = image.shape[-2:]
        if self.step > 1:
            image = F.pad(image, (0, -columns % self.step, 0, -rows % self.step), mode="replicate")
        return mean_probability(self.networks, image)[..., :rows, :columns]


def mean_probability(networks: Iterable[nn.Module], image: Tensor) -> Tensor:
    """Return the mean probability of networks, [N, C, H, W]; 0 where one without padding gives nothing."""
    each = []
    for network in networks:
        probabilities = torch.softmax(network(image), dim=1)
        rows, columns = (
            (whole - part) // 2 for whole, part in zip(image.shape[-2:], probabilities.shape[-2:], strict=True)
        )
        each.append(F.pad(probabilities, (columns, columns, rows, rows)) if rows or columns else probabilities)
    return sum(each[1:], each[0]) / len(each) if len(each) > 1 else each[0]


def export_graph(graph: nn.Module, path: Path, side: int, any_size: bool = False) -> None:
    """Write a graph as ONNX.

    Parameters
    ----------
    graph
        What to write.
    path
        File to write.
    side
        Side of the image that the graph takes, in pixels; it must suit all its networks.
    any_size
        Leave the batch and the size open, which OpenCV's reader (QuPath's) does not take, but other runtimes do.
    """
    image = torch.zeros(1, 3, side, side)
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        # The older of PyTorch's two exporters, whose graphs OpenCV reads, warns that it is old.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (image,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["probability"],
            dynamic_axes={"image": axes, "probability": axes} if any_size else None,
        )


def export_for_opencv(networks: list[UNet], path: Path, side: int, border: int) -> float:
    """Write the graph that QuPath runs, and run it in OpenCV, as QuPath does.

    OpenCV's faster convolutions (Winograd's), which QuPath cannot switch off, round more than float32 has to. Where
    it shows, kernels are widened, which takes about three times as long.

    Parameters
    ----------
    networks
        What it is made from.
    path
        File to write.
    side, border
        Side of the image, and how much of its rim does not count, in pixels.

    Returns
    -------
    float
        The largest difference of a probability from the mean of the networks in float32, over three pictures.

    Raises
    ------
    CheckpointError
        If OpenCV cannot read the graph, or the probabilities differ.
    """
    widened = rounding(networks, path.name, side, border) >= WIDENED_FROM
    export_graph(ProbabilityGraph(networks, widened=widened), path, side)
    differences = [
        np.abs(_in_opencv(path, pixels) - probabilities_of(networks, pixels))[..., border:-border, border:-border]
        for pixels in pictures(side)
    ]
    difference = float(np.max(differences))
    if not difference < TOLERANCE:
        raise CheckpointError(
            f"{path.name}: its probabilities differ by {difference:.2g} from the network's own in OpenCV "
            f"{cv2.__version__}; the export failed"
        )
    return difference


@torch.no_grad()
def rounding(networks: list[UNet], name: str, side: int, border: int) -> float:
    """Return how far probabilities can be off by what OpenCV rounds, whatever they are; see `export_for_opencv`.

    It is measured of logits: where a class is certain, which depends on the picture, probabilities show nothing of
    it. If logits are off, some by d more than others, a probability is off by at most d / 4.
    """
    most = 0.0
    with TemporaryDirectory() as folder:
        for network in networks:
            path = Path(folder) / name
            export_graph(folded(network), path, side)
            for pixels in pictures(side):
                off = _in_opencv(path, pixels) - network(torch.from_numpy(pixels / np.float32(255))).numpy()
                rim = border - (side - off.shape[-1]) // 2
                inner = off[..., rim : off.shape[-2] - rim, rim : off.shape[-1] - rim]
                most = max(most, float(np.ptp(inner, axis=1).max()) / 4)
    return most


@torch.no_grad()
def widen(graph: nn.Module) -> None:
    """Put a column of zeros on both sides of each kernel of 3 x 3 pixels, which changes no output.

    OpenCV's Winograd is for kernels of 3 x 3 alone.
    """
    for layer in graph.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.weight = nn.Parameter(F.pad(layer.weight, (1, 1)))
            layer.kernel_size, layer.padding = (3, 5), (int(layer.padding[0]), int(layer.padding[1]) + 1)


def pictures(side: int) -> list[np.ndarray]:
    """Return pictures to compare on: noise, blots in the colours of stains, glass; float32 [1, 3, side, side]."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (side, side, 3)).astype(np.float32)
    blots = cv2.GaussianBlur(noise, (0, 0), 3) - 127.5
    stained = np.clip([200, 150, 190] + blots * 60 / blots.std(), 0, 255).round().astype(np.float32)
    return [np.ascontiguousarray(picture.transpose(2, 0, 1))[None] for picture in (noise, stained, noise * 0 + 243)]


def _in_opencv(path: Path, pixels: np.ndarray) -> np.ndarray:
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
        net.setInput(pixels)
        found: np.ndarray = net.forward()
    except cv2.error as error:
        raise CheckpointError(
            f"{path.name}: OpenCV {cv2.__version__} cannot run it ({error.err or error}), and so cannot QuPath with "
            "the same OpenCV; other runtimes may"
        ) from error
    return found


@torch.no_grad()
def probabilities_of(networks: list[UNet], pixels: np.ndarray) -> np.ndarray:
    """Return what networks give for pixels of 0..255, float32 [1, C, S, S], as they are: what a graph must give."""
    return mean_probability(networks, torch.from_numpy(pixels / np.float32(255))).numpy()
