"""How good a model is after the same time of training: the tutorial's way and pathseg, on patients that neither saw.

Usage: PYTHONPATH=scripts python benchmarks/equal_time.py GLAS [--epochs 110] [--unseen P02 P04 P06 P09]

GLAS is a folder with the 59 GlaS images, their masks and `samples.tsv` (columns sample, patient, image, mask). This is
not part of `make bench`, because the images may not be given on. pathseg runs as its users run it, with the recipe of
docs/training.md; the tutorial's way, with its own settings, then gets the seconds that training took. Neither knows
the unseen patients: pathseg chooses its epoch on a fifth of the others. The tutorial's way takes its last epoch of all
other patients, and is spared its seams: it predicts images whole.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import yaml
from scale import copy_workflow
from training import tutorial_build, tutorial_steps

from pathseg.network.devices import choose_devices
from pathseg.network.unet import UNet
from pathseg.scores.pixels import confusion_matrix, pixel_scores

CONFIG = {
    "samples": "samples.tsv",
    "classes": [{"name": "other", "mask_value": 0}, {"name": "gland", "mask_value": 255}],
    "split": {"val": 0.2},
    "tiles": {"size": 160, "stride": 80, "mpp": 2.0},
    "unet": {"depth": 5, "wf": 4},
}
MODEL = "default/holdout"


def read_samples(folder: Path, unseen: list[str]) -> pd.DataFrame:
    """Read the sample table, with absolute paths and the unseen patients fixed as test patients."""
    samples = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)
    for column in ("image", "mask"):
        samples[column] = [str(folder.resolve() / name) for name in samples[column]]
    samples["mpp"] = "0.62"
    samples["part"] = ["test" if patient in unseen else "" for patient in samples["patient"]]
    return samples[["sample", "patient", "image", "mask", "mpp", "part"]]


def run_workflow(samples: pd.DataFrame, folder: Path, config: dict[str, Any], target: str, threads: int) -> Path:
    """Run a copy of the workflow in a folder up to a file, and return that."""
    copy_workflow(folder)
    samples.to_csv(folder / "samples.tsv", sep="\t", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", target, "--cores", str(threads), "--configfile", "config.yaml"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / target


def pathseg_way(samples: pd.DataFrame, folder: Path, epochs: int, threads: int) -> tuple[float, float]:
    """Run the workflow; return the seconds of its training and the gland Dice of the unseen patients."""
    config, target = CONFIG | {"training": {"epochs": epochs}}, f"results/validation/{MODEL}/metrics.tsv"
    table = run_workflow(samples, folder, config, target, threads)
    seconds = pd.read_csv(folder / f"results/benchmarks/train_unet/{MODEL.replace('/', '.')}.tsv", sep="\t")["s"].sum()
    scores = pd.read_csv(table, sep="\t")
    chosen = scores.query("part == 'test' and `class` == 'gland' and score == 'dice' and over == 'pooled'")
    return float(seconds), float(chosen["value"].iloc[0])


def tutorial_way(samples: pd.DataFrame, folder: Path, seconds: float) -> tuple[int, float]:
    """Train for so many seconds as the tutorial does; return the epochs, and the gland Dice of the unseen patients."""
    unseen = samples["part"] == "test"
    database = folder / "tutorial.h5"
    count = tutorial_build(samples[~unseen].to_dict("records"), database, 500, 250, 250)
    masks = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) == 255 for path in samples[~unseen]["mask"]]
    share = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    torch.manual_seed(0)
    network, rng = UNet(depth=5, wf=2), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters())
    weights = torch.tensor([share, 1 - share], dtype=torch.float32)
    started, tiles = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        # Looks at the clock every hundred batches.
        for order in np.array_split(rng.permutation(count), max(1, count // 300)):
            tutorial_steps(network, optimizer, database, order, weights, rng)
            tiles += len(order)
            if time.monotonic() - started >= seconds:
                break
    matrix = np.zeros((2, 2))
    for row in samples[unseen].to_dict("records"):
        predicted, truth = predict_whole(network.eval(), row["image"]), cv2.imread(row["mask"], cv2.IMREAD_GRAYSCALE)
        matrix += confusion_matrix((truth == 255).astype(np.uint8), predicted, 2)
    return tiles // count, float(pixel_scores(matrix)["dice"][1])


@torch.no_grad()
def predict_whole(network: UNet, path: str) -> np.ndarray:
    """Return the class of each pixel of an image, uint8 [H, W]."""
    image = torch.from_numpy(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None].float() / 255
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 16, 0, -height % 16), mode="reflect")
    return network(padded).argmax(dim=1)[0, :height, :width].to(torch.uint8).numpy()


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glas", type=Path)
    parser.add_argument("--unseen", nargs="+", default=["P02", "P04", "P06", "P09"])
    parser.add_argument("--epochs", type=int, default=110)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    choose_devices(0, options.threads)
    samples = read_samples(options.glas, options.unseen)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, ours = pathseg_way(samples, folder, options.epochs, options.threads)
        print(f"pathseg: {options.epochs} epochs in {seconds / 60:.1f} minutes, gland Dice {ours:.3f}")
        epochs, theirs = tutorial_way(samples, folder, seconds)
        print(f"the tutorial's way: {epochs} epochs in the same time, gland Dice {theirs:.3f}")


if __name__ == "__main__":
    main()
