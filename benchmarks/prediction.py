"""How fast a 16-megapixel image is predicted: the tutorial's way, MONAI's sliding window, and pathseg, side by side.

Usage: python benchmarks/prediction.py [--rounds 2] [--threads 2]. `make bench` runs it.

All use the same trained weights. From file to file: the tutorial's way reads a PNG and writes a PNG, pathseg reads
the same PNG and writes `classes.tif` with its pyramid (and, on a line of its own, outlines too). In memory: MONAI and
pathseg turn an array into an array of probabilities.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from pipeline import keep_answer, outline
from skimage.util import view_as_windows

from pathseg.images.pyramids import PyramidWriter
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.images.views import ArrayView
from pathseg.labels.values import IGNORE
from pathseg.memory import give_back_memory
from pathseg.network.devices import choose_devices
from pathseg.network.precision import autocast, prediction_type
from pathseg.network.unet import UNet
from pathseg.prediction.inference import Predictor, predict_bands
from pathseg.tiles.augmentation import Augmentation, augment, draw_params
from pathseg_demo.synthesis import draw_field, draw_patient

SIDE = 4096
COLORS = ["#999999", "#0072b2"]


def draw_image() -> tuple[np.ndarray, np.ndarray]:
    """Return synthetic tissue, uint8 [4096, 4096, 3], and its epithelium: one field of 2048 pixels and its mirrors."""
    rng = np.random.default_rng(1)
    quarter, mask = draw_field(draw_patient(rng), SIDE // 2, SIDE // 2, rng)
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    return np.concatenate([half, half[::-1]]), mask


def train(network: UNet, image: np.ndarray, mask: np.ndarray, steps: int) -> UNet:
    """Train so that the network gives regions and not noise."""
    rng, generator = np.random.default_rng(2), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    network.train().to(memory_format=torch.channels_last)
    for _ in range(steps):
        corners = rng.integers(0, len(mask) - 256, (8, 2))
        images = np.stack([image[y : y + 256, x : x + 256] for y, x in corners])
        masks = np.stack([mask[y : y + 256, x : x + 256] for y, x in corners]).astype(np.uint8)
        tiles = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks), None
        inputs, truth, *_ = augment(*tiles, Augmentation(), draw_params(8, 256, Augmentation(), generator))
        logits = network(inputs.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), truth, ignore_index=IGNORE).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def tutorial(network: UNet, source: Path, target: Path) -> None:
    """Predict as the tutorial's output script does: float32 tiles of 256 at half overlap, centres kept."""
    tile, stride, batch = 256, 128, 10
    image = cv2.cvtColor(cv2.imread(str(source)), cv2.COLOR_BGR2RGB)
    rows, columns = (int(np.ceil(side / stride) * stride) for side in image.shape[:2])
    padded = np.pad(
        image,
        [
            (stride // 2, rows - image.shape[0] + stride // 2),
            (stride // 2, columns - image.shape[1] + stride // 2),
            (0, 0),
        ],
        mode="reflect",
    )
    windows = view_as_windows(padded, (tile, tile, 3), step=stride)
    shape = windows.shape[:2]
    windows = windows.reshape(-1, tile, tile, 3)
    output = np.zeros((0, 2, tile, tile))
    for start in range(0, len(windows), batch):
        part = torch.from_numpy(windows[start : start + batch].transpose(0, 3, 1, 2) / 255).float()
        output = np.append(output, network(part).numpy(), axis=0)
    centre = slice(stride // 2, -(stride // 2))
    kept = output[:, :, centre, centre].argmax(axis=1).reshape(*shape, stride, stride)
    joined = np.concatenate(np.concatenate(kept, axis=1), axis=1)[: image.shape[0], : image.shape[1]]
    cv2.imwrite(str(target), (joined * 255).astype(np.uint8))


def pathseg_classes(predictor: Predictor, source: Path, target: Path) -> None:
    """Predict from file to class map with pyramid."""
    view = ResampledSlide(open_slide(source), 1.0)
    with PyramidWriter(target, view.width, view.height, 0.5, COLORS) as writer:
        for band in predict_bands(view, predictor, None, None):
            writer.append(band.classes)


def pathseg_all(predictor: Predictor, source: Path, target: Path) -> None:
    """Predict from file to class map and outlines."""
    view = ResampledSlide(open_slide(source), 1.0)
    outline(keep_answer(view, predict_bands(view, predictor, None, None), target.parent), target.with_suffix(".gz"))


def pathseg_array(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    """Predict an array: uint8 [C, H, W]."""
    return np.concatenate([b.probabilities for b in predict_bands(ArrayView(image), predictor, None, None)], axis=1)


@torch.inference_mode()
def monai(network: UNet, image: np.ndarray, overlap: float, mode: str, fast: bool) -> np.ndarray:
    """Predict an array with MONAI: float32 [C, H, W]."""
    device = torch.device("cpu")
    dtype = prediction_type("auto", network, device) if fast else torch.float32
    inputs = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        if not fast:
            return torch.softmax(network(tiles), dim=1)
        with autocast(device, dtype):
            return torch.softmax(network(tiles.contiguous(memory_format=torch.channels_last)).float(), dim=1)

    return sliding_window_inference(inputs, (256, 256), 8, predict, overlap=overlap, mode=mode)[0].numpy()


def bare_rate(network: UNet, predictor: Predictor) -> float:
    """Return million pixels per second of the network alone, as it is, on a resident tile as large as ours."""
    height, width = (side + 2 * predictor.border for side in predictor.kept_size(SIDE, None))
    device = predictor.device
    tile = torch.rand(1, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(device, predictor.dtype):
        network(tile)
        started = time.perf_counter()
        for _ in range(3):
            network(tile)
        return 3 * height * width / 1e6 / (time.perf_counter() - started)


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes, in a process that does not hold what others have left."""
    give_back_memory(0)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(image: np.ndarray, mask: np.ndarray, wf: int, rounds: int, folder: Path, device: torch.device) -> None:
    """Measure one width of network and print a table."""
    torch.manual_seed(0)
    network = train(UNet(depth=5, wf=wf), image, mask, steps=300 if wf < 4 else 150)
    predictor = Predictor([network], device, prediction_type("auto", network, device))
    plain = UNet(depth=5, wf=wf)
    plain.load_state_dict(network.state_dict())
    plain.eval()
    source, target = folder / "image.png", folder / "out.tif"
    cv2.imwrite(str(source), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    ways = {
        "tutorial, file to file": lambda: tutorial(plain, source, folder / "out.png"),
        "pathseg, file to file": lambda: pathseg_classes(predictor, source, target),
        "pathseg, file to file, with outlines": lambda: pathseg_all(predictor, source, target),
        "MONAI, float32, overlap 0.25": lambda: monai(plain, image, 0.25, "constant", fast=False),
        "MONAI, our precision, overlap 0.25": lambda: monai(network, image, 0.25, "constant", fast=True),
        "MONAI, our precision, gaussian 0.5": lambda: monai(network, image, 0.5, "gaussian", fast=True),
        "pathseg, array": lambda: pathseg_array(predictor, image),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    bare = []
    pathseg_array(predictor, image[:1024])
    for _ in range(rounds):
        for name, run in ways.items():
            times[name].append(seconds(run))
        bare.append(bare_rate(network, predictor))
    rates = {name: SIDE**2 / 1e6 / statistics.median(values) for name, values in times.items()}
    height, width = predictor.kept_size(SIDE, None)
    halo = (height + 2 * predictor.border) * (width + 2 * predictor.border) / (height * width)
    print(f"\ndepth 5, wf {wf}, {torch.get_num_threads()} threads, {predictor.dtype}, kept tile {height} x {width}")
    for name, rate in rates.items():
        ours = rates["pathseg, file to file"] if "file" in name else rates["pathseg, array"]
        print(f"  {name:<40} {rate:6.2f} Mpx/s   pathseg is {ours / rate:5.2f} times as fast")
    share = rates["pathseg, array"] * halo / statistics.median(bare)
    print(f"  border adds {halo - 1:.0%}; counting it, {share:.0%} of the bare network's rate")
    exact = Predictor([plain], device, torch.float32)
    fast, slow = (pathseg_array(one, image).argmax(0) for one in (predictor, exact))
    overlap = 2 * (fast[: len(mask), : len(mask)] * mask).sum() / (fast[: len(mask), : len(mask)].sum() + mask.sum())
    print(f"  class as in float32: {(fast == slow).mean():.3%} of the pixels (Dice with the truth {overlap:.2f})")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wf", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args()
    (device,) = choose_devices(0, options.threads)
    image, mask = draw_image()
    with tempfile.TemporaryDirectory() as folder:
        for wf in options.wf:
            compare(image, mask, wf, options.rounds, Path(folder), device)


if __name__ == "__main__":
    main()
