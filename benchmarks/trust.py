"""Does the word warn? Images of unseen patients, changed as laboratories differ, and what is said of them.

Usage: PYTHONPATH=scripts python benchmarks/trust.py DATA [--model best.pt] [--epochs 50] [--table out.tsv]

DATA is a folder with `glas`, the 59 GlaS images, their masks and `samples.tsv`, and `slides`, a scan of another tissue.
This is not part of `make bench`, because the images may not be given on. A model is trained as users train it; then
each image of the unseen patients is changed in many ways, and predicted, described and scored by the code that does so
for slides and scores. Limits come from the model's training patients alone; no change has part in them.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from equal_time import CONFIG, MODEL, read_samples, run_workflow
from evaluate import Scoring, count_image
from scipy.stats import mannwhitneyu, spearmanr

from pathseg.images.slides import open_slide
from pathseg.network.devices import choose_devices
from pathseg.prediction.delivery import load_predictor
from pathseg.prediction.reference import reference_of
from pathseg.prediction.trust import judge

MPP = 0.62
UNSEEN = ["P02", "P04", "P06", "P09", "P12"]
SETTINGS = {"tile": None, "tissue": "none", "tissue_holes_um2": 4e6, "precision": "float32", "tta": False}
SETTINGS |= {"mpp": None, "resize": None}
# A Dice that falls by more is a failure.
FALL = 0.1
# Parts of the scan of another tissue, of the size of a GlaS image.
PARTS = 8

# A change makes of uint8 [H, W, 3] RGB another picture.
Change = Callable[[np.ndarray], np.ndarray]


def stain(factors: tuple[float, float, float]) -> Change:
    """Multiply optical density in red, green and blue."""
    return lambda rgb: np.clip(255 * (np.maximum(rgb, 1) / 255) ** np.array(factors) + 0.5, 0, 255).astype(np.uint8)


def hue(degrees: float) -> Change:
    """Turn the hue."""

    def change(rgb: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL).astype(int)
        hsv[..., 0] = (hsv[..., 0] + round(degrees * 256 / 360)) % 256
        return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)

    return change


def blur(microns: float) -> Change:
    """Blur with a Gaussian of this standard deviation."""
    return lambda rgb: cv2.GaussianBlur(rgb, (0, 0), microns / MPP)


def jpeg(quality: int) -> Change:
    """Compress and decompress."""
    return lambda rgb: cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def brightness(factor: float) -> Change:
    """Multiply the light."""
    return lambda rgb: np.clip(rgb * factor + 0.5, 0, 255).astype(np.uint8)


def unchanged(rgb: np.ndarray) -> np.ndarray:
    """Return it as it is."""
    return rgb


# What is done, and the µm per pixel that are said then.
CHANGES: dict[str, tuple[Change, float]] = {
    "unchanged": (unchanged, MPP),
    **{f"stain x {f}": (stain((f, f, f)), MPP) for f in (0.4, 0.6, 0.8, 1.3, 1.7, 2.2)},
    "eosin-like stain": (stain((0.6, 1.2, 1.0)), MPP),
    "haematoxylin-like stain": (stain((1.5, 1.0, 0.8)), MPP),
    **{f"hue {d:+d} degrees": (hue(d), MPP) for d in (-60, -30, -15, 15, 30, 60)},
    **{f"blur {s} um": (blur(s), MPP) for s in (1, 2, 3, 4)},
    **{f"JPEG {q}": (jpeg(q), MPP) for q in (20, 40, 60)},
    **{f"brightness x {f}": (brightness(f), MPP) for f in (0.5, 0.7, 0.85, 1.2)},
    "um per pixel halved": (unchanged, MPP / 2),
    "um per pixel doubled": (unchanged, MPP * 2),
}


def train(samples: pd.DataFrame, epochs: int, threads: int, keep: Path) -> None:
    """Run the workflow up to the calibrated model, and keep that."""
    with tempfile.TemporaryDirectory() as name:
        config, target = CONFIG | {"training": {"epochs": epochs}}, f"results/models/{MODEL}/best.pt"
        keep.write_bytes(run_workflow(samples, Path(name), config, target, threads).read_bytes())


def pictures(samples: pd.DataFrame, scan: Path) -> Iterator[dict[str, Any]]:
    """Yield pictures of each unseen image, changed in each way, and of another tissue, which has no gland."""
    for row in samples.to_dict("records"):
        rgb, truth = cv2.imread(row["image"])[..., ::-1], cv2.imread(row["mask"], cv2.IMREAD_GRAYSCALE)
        for name, (change, mpp) in CHANGES.items():
            picture = np.ascontiguousarray(change(np.ascontiguousarray(rgb)))
            yield {"image": row["sample"], "change": name, "rgb": picture, "truth": truth, "mpp": mpp}
    slide = open_slide(str(scan))
    rng = np.random.default_rng(0)
    for number in range(PARTS):
        side = [round(n * MPP / slide.mpp) for n in (775, 522)]
        x, y = (
            int(rng.integers(0, whole - part)) for whole, part in zip((slide.width, slide.height), side, strict=True)
        )
        rgb = slide.read_level(0, x, y, *side)
        truth = np.zeros(rgb.shape[:2], np.uint8)
        yield {"image": f"scan {number}", "change": "another tissue", "rgb": rgb, "truth": truth, "mpp": slide.mpp}


def measure(picture: dict[str, Any], model: dict[str, Any], predictor: Any, reference: Any, folder: Path) -> dict:
    """Predict a picture; return its Dice, and what is said of it."""
    paths = {key: str(folder / f"{key}.png") for key in ("image", "mask")}
    cv2.imwrite(paths["image"], picture["rgb"][..., ::-1])
    cv2.imwrite(paths["mask"], picture["truth"])
    row = paths | {"mpp": picture["mpp"], "instances": None}
    counts, traits = count_image(row, predictor, model, SETTINGS, Scoring(CONFIG["classes"], None, "ignore", 5.0))
    confusion = counts.confusion
    dice = 2 * confusion[1, 1] / max(confusion[1].sum() + confusion[:, 1].sum(), 1)
    said = judge([reference], traits, ["other", "gland"])
    shown = {key: said[key] for key in ("word", "shift", "sharpness", "blurred_share", "ink_share", "reason")}
    groups = {f"shift_{group}": value for group, value in said["shifts"].items()}
    return {
        "image": picture["image"],
        "change": picture["change"],
        "dice": dice,
        "expected": said["expected_dice"]["gland"],
        "score": said["excess"],
        **shown,
        **groups,
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each change."""
    return table.groupby("change", sort=False).agg(
        dice=("dice", "mean"),
        expected=("expected", "mean"),
        fell=("fell", "sum"),
        n=("dice", "size"),
        score=("score", "median"),
        colour=("shift_colour", "median"),
        sharpness=("shift_sharpness", "median"),
        features=("shift_features", "median"),
        unusual=("word", lambda words: (words != "usual").mean()),
        do_not=("word", lambda words: (words == "do not trust").mean()),
    )


def main() -> None:
    """Train, change, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, help="a model that was trained so before; made if it is not there")
    parser.add_argument("--unseen", nargs="+", default=UNSEEN)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    samples = read_samples(options.data / "glas", options.unseen)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = options.model or folder / "best.pt"
        if not path.exists():
            train(samples, options.epochs, options.threads, path)
        (device,) = choose_devices(0, options.threads)
        (model,), predictor = load_predictor([str(path)], CONFIG["classes"], SETTINGS, device)
        reference = reference_of(model, str(path))
        unseen = samples[samples["part"] == "test"]
        scan = options.data / "slides" / "CMU-1-Small-Region.svs"
        table = pd.DataFrame(
            [measure(picture, model, predictor, reference, folder) for picture in pictures(unseen, scan)]
        )
    before = table[table["change"] == "unchanged"].set_index("image")["dice"]
    # Another tissue has no gland to be found: what is found there is wrong.
    table["fell"] = table["image"].map(before).fillna(1) - table["dice"] > FALL
    if options.table:
        table.to_csv(options.table, sep="\t", index=False)
    print(summary(table).round(3).to_string())
    as_they_are, fell = table[table["change"] == "unchanged"], table[table["fell"]]
    auroc = mannwhitneyu(fell["score"], as_they_are["score"]).statistic / len(fell) / len(as_they_are)
    print(f"AUROC of {len(fell)} that fell against {len(as_they_are)} unchanged: {auroc:.3f}")
    print(f"unchanged that are not usual: {(as_they_are['word'] != 'usual').mean():.3f}")
    print(f"rank correlation of expected and true Dice: {spearmanr(table['expected'], table['dice']).statistic:.3f}")


if __name__ == "__main__":
    main()
