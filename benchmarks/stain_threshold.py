"""How far colour alone goes on the demo cohort: the Dice of a threshold on the haematoxylin channel.

Run after `make run`, beside its results: python benchmarks/stain_threshold.py
The threshold is the best one for the training patients; the scores are of the test patients, as the network's are.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from skimage.color import rgb2hed
from skimage.filters import gaussian

SAMPLES, SPLIT = "config/samples.tsv", "results/cohort/split.tsv"
SMOOTHING = (0, 4, 8)


def haematoxylin(path: str, sigma: float) -> np.ndarray:
    """Return the haematoxylin channel of an image [H, W], smoothed by `sigma` pixels."""
    return gaussian(rgb2hed(cv2.imread(path)[..., ::-1])[..., 0], sigma)


def dice(chosen: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice score of two bool arrays."""
    return 2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())


def main() -> None:
    """Print the Dice of each smoothing."""
    split = pd.read_csv(SPLIT, sep="\t").merge(pd.read_csv(SAMPLES, sep="\t"), on=["sample", "patient"])
    for column in ("image", "mask"):
        split[column] = f"{Path(SAMPLES).parent}/" + split[column]
    for sigma in SMOOTHING:
        values, truths = {}, {}
        for part in ("train", "test"):
            rows = split[split["part"] == part]
            values[part] = np.stack([haematoxylin(path, sigma) for path in rows["image"]])
            truths[part] = np.stack([cv2.imread(path, cv2.IMREAD_GRAYSCALE) > 0 for path in rows["mask"]])
        thresholds = np.quantile(values["train"], np.linspace(0.02, 0.98, 49))
        best = max(thresholds, key=lambda threshold: dice(values["train"] > threshold, truths["train"]))
        print(f"smoothed by {sigma} pixels: Dice {dice(values['test'] > best, truths['test']):.3f} on test patients")


if __name__ == "__main__":
    main()
