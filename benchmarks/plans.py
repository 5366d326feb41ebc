"""What the plan reaches beside settings made by hand, in equal times: the demo, its nuclei, a class of 2 %, own data.

Usage: python benchmarks/plans.py FOLDER [--minutes 4] [--trials 0] [--data demo nuclei rare] [--samples TABLE]

Each data set is trained twice for so many minutes by the workflow, on one core: with `samples`, `classes` and `split`
alone (`objects`, too, where they are told apart), and with the settings that were found by hand. `--trials` gives the
plan so many minutes to try out resolutions. TABLE is a sample table with glands, for `--data own`, by hand with the
recipe of docs/objects.md. Prints the scores of unseen patients, of what slides get.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml
from scale import copy_workflow

TWO = [{"name": "other", "mask_value": 0}, {"name": "object", "mask_value": 255}]
SPLIT = {"val": 0.2, "test": 0.2}
# Patients of the data set whose third class is rare.
PATIENTS = 20
GIVEN: dict[str, dict[str, Any]] = {
    "demo": {"samples": "config/samples.tsv", "classes": TWO, "split": SPLIT},
    "nuclei": {
        "samples": "config/samples-nuclei.tsv",
        "classes": TWO,
        "split": SPLIT,
        "objects": {"class": "object"},
    },
    "rare": {
        "samples": "config/samples-rare.tsv",
        "classes": [*TWO[:1], {"name": "nucleus", "mask_value": 128}, {"name": "epithelium", "mask_value": 255}],
        "split": SPLIT,
        "demo": {"epithelium": 0.02},
    },
    "own": {
        "samples": "own.tsv",
        "classes": TWO,
        "split": {"folds": 5},
        "objects": {"class": "object"},
        "prediction": {"min_area_um2": 200},
    },
}
BY_HAND: dict[str, dict[str, Any]] = {
    "demo": {
        "tiles": {"size": 128, "stride": 64, "mpp": 1.0},
        "unet": {"depth": 4, "wf": 4},
        "training": {"batch_size": 8},
    },
    "nuclei": {
        "tiles": {"size": 128, "stride": 128, "mpp": 0.5},
        "objects": {"class": "object", "shrink": 3},
        "unet": {"depth": 3, "wf": 4},
        "training": {"batch_size": 8, "class_weights": "none"},
    },
    "rare": {
        "tiles": {"size": 128, "stride": 64, "mpp": 0.7},
        "unet": {"depth": 4, "wf": 4},
        "training": {"batch_size": 8, "sampling": "classes"},
    },
    "own": {
        "tiles": {"size": 192, "stride": 96, "mpp": 1.5},
        "objects": {"class": "object", "shrink": 6},
        "unet": {"depth": 5, "wf": 4},
        "training": {"batch_size": 8, "class_weights": "none"},
    },
}
SCORES = ("dice", "object_f1", "object_dice")


def write_rare(folder: Path, config: dict[str, Any]) -> None:
    """Draw the demo with little epithelium, and masks of it and of the nuclei beside it; write its table."""
    names = [f"R{number:02d}{field}" for number in range(PATIENTS) for field in "ab"]
    header, drawn = "sample\tpatient\timage\tmask\tmpp\n", "../results/demo"
    table = folder / "config/samples-rare.tsv"

    def write(masks: str) -> None:
        lines = [f"{name}\t{name[:-1]}\t{drawn}/images/{name}.png\t{masks}/{name}.png\t0.5\n" for name in names]
        table.write_text(header + "".join(lines))

    write(f"{drawn}/masks")
    snakemake(folder, config, "demo")
    (folder / "rare").mkdir()
    share = 0.0
    for name in names:
        epithelium, nuclei = (
            cv2.imread(str(folder / f"results/demo/{kind}/{name}.png"), cv2.IMREAD_GRAYSCALE)
            for kind in ("masks", "nuclei")
        )
        mask = np.where(epithelium > 0, 255, np.where(nuclei > 0, 128, 0)).astype(np.uint8)
        share += float((mask == 255).mean()) / len(names)
        cv2.imwrite(str(folder / f"rare/{name}.png"), mask)
    print(f"rare: {share:.1%} of the pixels are epithelium", flush=True)
    write("../rare")


def snakemake(folder: Path, config: dict[str, Any], *targets: str) -> None:
    """Run the workflow in a folder with a configuration."""
    (folder / "own.yaml").write_text(yaml.safe_dump(config))
    options = ["--cores", "1", "--quiet", "all", "--configfile", "own.yaml"]
    command = [sys.executable, "-m", "snakemake", *targets, *options]
    log = folder / "snakemake.log"
    with open(log, "a") as file:
        if subprocess.run(command, cwd=folder, stdout=file, stderr=file).returncode:
            raise SystemExit(f"{folder}: snakemake failed, see {log}")


def play(data: str, how: str, folder: Path, options: argparse.Namespace) -> pd.Series:
    """Train a data set in one way, and return its scores."""
    folder.mkdir(parents=True)
    copy_workflow(folder)
    config = GIVEN[data] | (BY_HAND[data] if how == "by hand" else {})
    config["training"] = config.get("training", {}) | {"minutes": options.minutes}
    if data == "rare":
        write_rare(folder, config)
    if data == "own":
        table = pd.read_csv(options.samples, sep="\t")
        for column in {"image", "mask", "instances"} & set(table):
            table[column] = [str((options.samples.parent / path).resolve()) for path in table[column]]
        table.to_csv(folder / "own.tsv", sep="\t", index=False)
    if how == "planned" and options.trials:
        config["plan"] = {"minutes": options.trials}
    fold = "all_folds" if "folds" in config["split"] else "holdout"
    scores = f"results/validation/default/{fold}/metrics.tsv"
    snakemake(folder, config, scores)
    rows = pd.read_csv(folder / scores, sep="\t")
    wanted = rows["over"].eq("pooled") & rows["score"].isin(SCORES)
    rows = rows[wanted & ~rows["class"].isin(["all", "other"])]
    found = rows.set_index(["part", "class", "score"])["value"]
    print(f"\n{data}, {how}:\n{found.round(3).to_string()}", flush=True)
    return found


def main() -> None:
    """Train and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--trials", type=float, default=0)
    parser.add_argument("--data", nargs="*", choices=list(GIVEN), default=["demo", "nuclei", "rare"])
    parser.add_argument("--samples", type=Path, help="for --data own")
    options = parser.parse_args()
    for data in options.data:
        both = {how: play(data, how, options.folder / f"{data} {how}", options) for how in ("planned", "by hand")}
        table = pd.DataFrame(both)
        table["difference"] = table["planned"] - table["by hand"]
        print(f"\n{data}, {options.minutes:g} minutes each\n{table.round(3).to_string()}", flush=True)


if __name__ == "__main__":
    main()
