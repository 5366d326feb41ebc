"""How fast databases are built and read, and how fast an epoch is: the tutorial's way and pathseg, side by side.

Usage: python benchmarks/training.py [--tiles 96] [--wf 2 4]. `make bench` runs it.

The tutorial's way is written here after its description: one process that compresses tile by tile (zlib, level 6); a
file that is opened anew for each tile of 500 pixels, from which 256 are cut after augmentation on the CPU; SciPy's
dilation for each tile; float32, batches of 3, Adam.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tables
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.util import view_as_windows
from torch import nn

from pathseg.network.devices import choose_devices
from pathseg.network.optimisation import TrainingSettings
from pathseg.network.precision import autocast
from pathseg.network.state import StateFolder
from pathseg.network.training import Trainer
from pathseg.network.unet import UNet
from pathseg.tiles.augmentation import Augmentation
from pathseg.tiles.batches import Tiles
from pathseg.tiles.cutting import LabelSettings, TileSettings, cut_all
from pathseg.tiles.database import DatabaseWriter, TileDatabase
from pathseg_demo.synthesis import draw_field, draw_patient

CLASSES = [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}]
SETTINGS = TrainingSettings(
    epochs=10, batch_size=8, learning_rate=2e-3, warmup_epochs=1, weight_decay=0.01, gradient_clip=1, ema_half_life=2,
    class_weights="balanced", edges="dilation", edge_weight=1.1, edge_width=2, edge_w0=10, dice_weight=1,
    patience=None, precision="auto", seed=1, augmentation=Augmentation(),
)  # fmt: skip
FILTERS = [("none", 1), ("blosc2:lz4", 5), ("blosc2:zstd", 3), ("zlib", 6)]


def write_images(folder: Path, count: int) -> list[dict[str, object]]:
    """Write synthetic images of 1000 pixels with masks, and return their rows of a split table."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        image, mask = draw_field(draw_patient(rng), 1000, 1000, rng)
        names = {"image": str(folder / f"{number}.png"), "mask": str(folder / f"{number}_mask.png")}
        cv2.imwrite(names["image"], image[..., ::-1])
        cv2.imwrite(names["mask"], mask.astype(np.uint8) * 255)
        rows.append({"sample": str(number), "patient": str(number), "instances": None, "mpp": None, **names})
    return rows


def tutorial_build(rows: list[dict[str, object]], path: Path, size: int, stride: int, pad: int = 0) -> int:
    """Build a database as the tutorial does, and return how many tiles it has."""
    with tables.open_file(str(path), "w") as file:
        filters = tables.Filters(complevel=6, complib="zlib")
        images, masks = (
            file.create_earray("/", name, tables.UInt8Atom(), (0, *shape), filters=filters, chunkshape=(1, *shape))
            for name, shape in (("img", (size, size, 3)), ("mask", (size, size)))
        )
        for row in rows:
            image = cv2.cvtColor(cv2.imread(row["image"]), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(row["mask"]) / 255
            image, mask = (np.pad(array, [(pad, pad), (pad, pad), (0, 0)], mode="reflect") for array in (image, mask))
            for node, array in ((images, image), (masks, mask)):
                windows = view_as_windows(array, (size, size, 3), stride)
                for tile in windows.reshape(-1, size, size, 3):
                    node.append((tile if node is images else tile[..., 0].astype(np.uint8))[None])
        return len(images)


def pathseg_build(
    rows: list[dict[str, object]], path: Path, size: int, stride: int, complib: str, complevel: int, threads: int
) -> int:
    """Build a database as the workflow does, and return how many tiles it has."""
    cutting = TileSettings(size=size, stride=stride, mpp=None, resize=1.0, pad=0, min_tissue=0, edge_sigma=None)
    attributes = {"classes": ["stroma", "epithelium"], "mpp": None, "resize": 1.0, "tile_size": size}
    with DatabaseWriter(path, size, 2, complib=complib, complevel=complevel, attributes=attributes) as writer:
        for source, digest, chunks in cut_all(rows, cutting, LabelSettings(CLASSES, None, "ignore"), threads):
            writer.add_source(digest, source.pixels)
            for arrays, corners in chunks:
                writer.append(source.row, arrays, corners, source.view.downsample)
        return writer.close()


def tutorial_item(path: Path, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read and change a tile as the tutorial does: image [256, 256, 3], mask and edge weight [256, 256]."""
    with tables.open_file(str(path)) as file:
        image, mask = file.root.img[index], file.root.mask[index]
    weight = ndimage.binary_dilation(mask == 1, iterations=2) & ~mask.astype(bool)
    layers = [image, mask, weight.astype(np.uint8)]
    for axis in (0, 1):
        if rng.random() < 0.5:
            layers = [np.flip(layer, axis) for layer in layers]
    hsv = cv2.cvtColor(np.ascontiguousarray(layers[0]), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + rng.integers(-25, 1)) % 180
    layers[0] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    size = mask.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-90, 90), 1)
    methods = (cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_NEAREST)
    layers = [
        cv2.warpAffine(np.ascontiguousarray(layer), matrix, (size, size), flags=method)
        for layer, method in zip(layers, methods, strict=True)
    ]
    y, x = rng.integers(0, size - 256 + 1, 2)
    image, mask, weight = (layer[y : y + 256, x : x + 256] for layer in layers)
    return image, mask, weight


def tutorial_epoch(network: UNet, path: Path, n_tiles: int, available: int) -> float:
    """Train on so many tiles as the tutorial does, and return the seconds."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters())
    started = time.perf_counter()
    order = rng.permutation(max(n_tiles, available))[:n_tiles] % available
    tutorial_steps(network, optimizer, path, order, torch.ones(2), rng)
    return time.perf_counter() - started


def tutorial_steps(
    network: UNet,
    optimizer: torch.optim.Optimizer,
    path: Path,
    order: np.ndarray,
    class_weights: torch.Tensor,
    rng: np.random.Generator,
) -> None:
    """Train on tiles in the given order as the tutorial does."""
    network.train()
    for start in range(0, len(order), 3):
        items = [tutorial_item(path, int(index), rng) for index in order[start : start + 3]]
        images, masks, weights = (torch.from_numpy(np.stack(layers)) for layers in zip(*items, strict=True))
        logits = network(images.permute(0, 3, 1, 2).float() / 255)
        loss = F.cross_entropy(logits, masks.long(), class_weights, reduction="none") * 1.1 ** weights.float()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


def trainer_of(network: UNet, path: Path, device: torch.device, folder: Path) -> Trainer:
    """Return a trainer on a database, which also serves for validation."""
    tiles = Tiles([TileDatabase(path)])
    return Trainer(network, tiles, tiles, SETTINGS, ["stroma", "epithelium"], device, StateFolder(folder / "state", {}))


def bare_steps(trainer: Trainer, n_tiles: int) -> float:
    """Repeat optimiser steps on one batch that is there already, and return the seconds."""
    batch = trainer.training.read(np.arange(SETTINGS.batch_size))
    images = (batch.images.float() / 255).to(trainer.device, memory_format=torch.channels_last)
    masks = batch.masks.long().to(trainer.device)
    trainer.network.train()
    started = time.perf_counter()
    for _ in range(n_tiles // SETTINGS.batch_size):
        with autocast(trainer.device, trainer.dtype):
            logits = trainer.network(images)
        loss = F.cross_entropy(logits.float(), masks, ignore_index=255)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trainer.optimizer.step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def convolutions_alone(trainer: Trainer, rounds: int = 3) -> float:
    """Return the seconds that the convolutions of a step take, forward and backward: what no change around them saves.

    Each is repeated on its own, so that its input is at hand.
    """
    calls: list[tuple[nn.Module, torch.Size]] = []
    layers = [layer for layer in trainer.network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(lambda *call: calls.append((call[0], call[1][0].shape))) for layer in layers]
    side = trainer.training.databases[0].attributes["tile_size"]
    with torch.no_grad():
        trainer.network(torch.zeros(SETTINGS.batch_size, 3, side, side, device=trainer.device))
    for hook in hooks:
        hook.remove()
    total = 0.0
    for layer, shape in calls:
        x = torch.rand(shape, dtype=trainer.dtype, device=trainer.device).to(memory_format=torch.channels_last)
        x.requires_grad_(layer is not layers[0])
        total += min(one_call(layer, x, trainer) for _ in range(rounds + 1))
    return total


def one_call(layer: nn.Module, x: torch.Tensor, trainer: Trainer) -> float:
    """Return the seconds of one layer, forward and backward, without adding gradients to those of an earlier call."""
    wanted = [values for values in (x, *layer.parameters()) if values.requires_grad]
    started = time.perf_counter()
    with autocast(trainer.device, trainer.dtype):
        output = layer(x)
    torch.autograd.grad(output, wanted, output.detach())
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def pathseg_epoch(trainer: Trainer, n_tiles: int) -> tuple[float, float]:
    """Train an epoch and validate, as the workflow does; return the seconds that so many tiles take, of each."""
    times = []
    for run in (trainer._train_epoch, trainer._validate):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * n_tiles / len(trainer.training))
        trainer.step = 0
    return times[0], times[1]


def compare_databases(folder: Path, threads: int) -> None:
    """Measure building and reading, and print a table."""
    rows = write_images(folder, 6)
    size, stride = 256, 128
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    count = tutorial_build(rows, folder / "tutorial256.h5", size, stride)
    build = (time.perf_counter() - started) / count
    order = rng.integers(0, count, 200)
    started = time.perf_counter()
    for index in order:
        with tables.open_file(str(folder / "tutorial256.h5")) as file:
            _ = file.root.img[index], file.root.mask[index]
    read = (time.perf_counter() - started) / len(order)
    megabytes = size_of(folder / "tutorial256.h5") / count
    print(f"\ndatabases of 256-pixel tiles, {threads} threads; tiles a second, and the size of one")
    rates = f"build {1 / build:6.0f}/s          read {1 / read:7.0f}/s"
    print(f"  {'tutorial (zlib 6)':<28} {rates}          {megabytes:.3f} MiB")
    for complib, complevel in FILTERS:
        path = folder / f"{complib.replace(':', '')}.h5"
        started = time.perf_counter()
        ours = pathseg_build(rows, path, size, stride, complib, complevel, threads)
        our_build = (time.perf_counter() - started) / ours
        with TileDatabase(path) as database:
            order = rng.integers(0, ours, 400)
            started = time.perf_counter()
            for batch in np.array_split(order, 50):
                _ = database.read("img", batch), database.read("mask", batch)
            our_read = (time.perf_counter() - started) / len(order)
        name = f"pathseg ({complib}{'' if complib == 'none' else f' {complevel}'})"
        built = f"build {1 / our_build:6.0f}/s ({build / our_build:5.1f} x)"
        print(
            f"  {name:<28} {built} read {1 / our_read:7.0f}/s ({read / our_read:5.1f} x) {size_of(path) / ours:.3f} MiB"
        )


def size_of(path: Path) -> float:
    """Return the size of a file in MiB."""
    return path.stat().st_size / 2**20


def compare_epochs(folder: Path, wf: int, n_tiles: int, rounds: int, device: torch.device) -> None:
    """Measure one width of network, and print a table."""
    times: dict[str, list[float]] = {"tutorial": [], "epoch": [], "bare": [], "validation": []}
    torch.manual_seed(0)
    trainer = trainer_of(UNet(depth=5, wf=wf), folder / "none.h5", device, folder)
    bare_steps(trainer, 16)
    with tables.open_file(str(folder / "tutorial500.h5")) as file:
        available = len(file.root.img)
    for _ in range(rounds):
        times["tutorial"].append(tutorial_epoch(UNet(depth=5, wf=wf), folder / "tutorial500.h5", n_tiles, available))
        times["bare"].append(bare_steps(trainer, n_tiles))
        epoch, validation = pathseg_epoch(trainer, n_tiles)
        times["epoch"].append(epoch)
        times["validation"].append(validation)
    rate = {name: n_tiles / min(values) for name, values in times.items()}
    rate["convolutions"] = SETTINGS.batch_size / convolutions_alone(trainer)
    print(f"\ntraining, depth 5, wf {wf}, {torch.get_num_threads()} threads, {trainer.dtype} ({n_tiles} tiles)")
    print(f"  tutorial            {rate['tutorial']:7.1f} tiles/s")
    print(
        f"  pathseg, epoch      {rate['epoch']:7.1f} tiles/s: {rate['epoch'] / rate['tutorial']:.1f} x the tutorial's"
    )
    print(f"  bare steps          {rate['bare']:7.1f} tiles/s: an epoch runs at {rate['epoch'] / rate['bare']:.0%}")
    print(f"  convolutions alone  {rate['convolutions']:7.1f} tiles/s")
    print(f"  pathseg, validation {rate['validation']:7.1f} tiles/s")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--wf", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args()
    device = choose_devices(options.gpus, options.threads)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_databases(folder, options.threads)
        tutorial_build(write_images(folder, 4), folder / "tutorial500.h5", 500, 250, 250)
        for wf in options.wf:
            compare_epochs(folder, wf, options.tiles, options.rounds, device)


if __name__ == "__main__":
    main()
