"""Play rounds of annotation with given masks as the annotator: squares that are suggested against squares at random.

Usage: PYTHONPATH=scripts python benchmarks/annotation_rounds.py SAMPLES FOLDER [--mpp 0.62] [--seeds 3] [--rounds 5]

SAMPLES is a sample table with masks of all its images, FOLDER where models and results are put. For each seed a third
of the patients are never trained on, and two choose the epoch. All rules begin with the same squares, drawn at random,
and the same model; in each round ten squares are annotated, and training goes on from the model before. Prints, for
each rule and round, the annotated area and the Dice of glands of unseen patients, pooled, mean over the seeds.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import rasterio.features
import shapely
import torch
from shapely.geometry import mapping, shape
from torch import Tensor
from train_unet import Job, train

from pathseg.cohort.settings import load_schema, load_settings
from pathseg.images.masks import read_labels
from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import open_labels
from pathseg.labels.values import IGNORE
from pathseg.network.checkpoint import build_network, load_checkpoint
from pathseg.prediction.comparing import predict_beside
from pathseg.prediction.delivery import load_predictor, view_of_model
from pathseg.prediction.doubt import Doubt, DoubtMap, entropy, map_doubt
from pathseg.prediction.suggesting import STEPS, Candidate, candidates_of, choose
from pathseg.tiles.cutting import LabelSettings, TileSettings, build

MPP, SIDE_UM, EACH_ROUND, VALIDATING = 2.0, 100.0, 10, 2
CPU = torch.device("cpu")
CONFIG = {
    "samples": "x",
    "classes": [{"name": "stroma", "mask_value": 0}, {"name": "gland", "mask_value": 255}],
    "tiles": {"size": 128, "stride": 64, "mpp": MPP},
    "unet": {"depth": 4, "wf": 3},
    "training": {"epochs": 60},
    "experiments": {"first": {}, "next": {"training": {"epochs": 25, "init": "x"}}},
}
SETTINGS = load_settings(CONFIG, load_schema(Path(__file__).parents[1] / "config/schemas/config.schema.yaml"))


class Contradiction(Doubt):
    """How much the ways contradict each other: the mutual information of class and way."""

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Return the entropy of the mean prediction less the mean entropy, float32 [1, height, width]."""
        each = torch.stack(list(self._each_prediction(pixels, height, width)))
        return (entropy(each.mean(dim=0)) - torch.stack([entropy(way) for way in each]).mean(dim=0)).clamp_(min=0)[None]


# What is asked of the model; at random nothing is. "drawn" draws squares, each as probable as it is contradicted.
RULES: dict[str, type[Doubt] | None] = {
    "suggested": Doubt,
    "contradicted": Contradiction,
    "drawn": Contradiction,
    "random": None,
}


class Cohort:
    """The images of a seed, by what they are for, and what is annotated of those to learn from."""

    def __init__(self, samples: Path, mpp: float, seed: int, folder: Path) -> None:
        table = pd.read_csv(samples, sep="\t", dtype={"sample": str, "patient": str})
        patients = np.random.default_rng(seed).permutation(sorted(set(table["patient"])))
        unseen = len(patients) // 3
        parts = dict.fromkeys(patients[:unseen], "test")
        parts |= dict.fromkeys(patients[unseen : unseen + VALIDATING], "val")
        self.rows: dict[str, list[dict[str, Any]]] = {"test": [], "val": [], "train": []}
        for row in table.to_dict("records"):
            part = parts.get(row["patient"], "train")
            files = {key: str(samples.parent / row[key]) for key in ("image", "mask")}
            self.rows[part].append(
                {"sample": row["sample"], "patient": row["patient"], "part": part, "mpp": mpp, "instances": None}
                | files
            )
        self.mpp, self.folder = mpp, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, list[shapely.Polygon]] = {row["sample"]: [] for row in self.rows["train"]}

    def annotate(self, chosen: list[Candidate]) -> None:
        """Annotate squares as the masks have them."""
        for candidate in chosen:
            self.known[candidate.slide].append(candidate.box)

    def area_mm2(self) -> float:
        """Return what is annotated in mm²."""
        return sum(box.area for boxes in self.known.values() for box in boxes) * self.mpp**2 / 1e6

    def build(self, part: str) -> str:
        """Cut the tiles of a part, of training images what is annotated."""
        rows = self.rows[part]
        if part == "train":
            rows = [row | {"mask": self._answer(row)} for row in rows if self.known[row["sample"]]]
        path = self.folder / f"{part}.h5"
        build(path, rows, TileSettings(**SETTINGS["tiles"]), LABELLING, {"complib": "none", "complevel": 1}, 1)
        return str(path)

    def _answer(self, row: dict[str, Any]) -> str:
        """Write the regions of an image as QuPath exports them."""
        mask, features = read_labels(row["mask"]), []
        for box in self.known[row["sample"]]:
            x0, y0, x1, y1 = (int(side) for side in box.bounds)
            part = (mask[y0:y1, x0:x1] > 0).astype(np.uint8)
            shapes = rasterio.features.shapes(part, mask=part > 0, transform=rasterio.Affine(1, 0, x0, 0, 1, y0))
            drawn = [(shape(geometry), "gland") for geometry, _ in shapes]
            features += [_feature(*each) for each in [(box, "Region*"), *drawn]]
        path = self.folder / f"{row['sample']}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return str(path)


LABELLING = LabelSettings(SETTINGS["classes"], None, "ignore")


def _feature(polygon: shapely.Polygon, name: str) -> dict[str, Any]:
    return {"type": "Feature", "geometry": mapping(polygon), "properties": {"classification": {"name": name}}}


def train_on(cohort: Cohort, name: str, init: str | None, seed: int) -> str:
    """Train, from a model if there is one, and return the new one."""
    experiment = SETTINGS["experiments"]["next" if init else "first"]
    folder = cohort.folder / name
    job = Job(
        training=[cohort.build("train")],
        validation=cohort.build("val"),
        unet=experiment["unet"],
        settings=experiment["training"] | {"seed": seed},
        classes=SETTINGS["classes"],
        code="",
        output={key: str(folder / key) for key in ("history", "tensorboard")} | {"model": str(folder / "best.pt")},
        state=str(folder / ".state"),
        log=str(folder / "log"),
        init=init,
    )
    train(CPU, job)
    return job.output["model"]


def choose_by(rule: str, cohort: Cohort, model: str | None, seed: int) -> list[Candidate]:
    """Choose the squares of a round."""
    torch.manual_seed(seed)
    candidates: list[Candidate] = []
    for row in cohort.rows["train"]:
        slide = open_slide(row["image"], row["mpp"])
        measure = RULES[rule]
        if model and measure:
            checkpoint = load_checkpoint(model)
            view = view_of_model(checkpoint, slide)
            predictor = measure([build_network(checkpoint, model)], CPU, torch.float32, tta=True)
            found = map_doubt(view, MPP, view.downsample, predictor, round(SIDE_UM / STEPS / MPP), None, None)
        else:
            found = random_map(slide.width * cohort.mpp, slide.height * cohort.mpp, cohort.mpp)
        known = shapely.union_all(cohort.known[row["sample"]])
        count = found.sums.size if rule == "drawn" else EACH_ROUND
        candidates += candidates_of(row["sample"], row["patient"], found, known, count)
    if rule == "drawn":
        # The highest of numbers that are divided by exponential ones are a sample drawn without putting back.
        waits = np.random.default_rng(seed).exponential(size=len(candidates))
        candidates = [replace(each, score=each.score / wait) for each, wait in zip(candidates, waits, strict=True)]
    return choose(candidates, EACH_ROUND)


def random_map(width_um: float, height_um: float, mpp: float) -> DoubtMap:
    """Return a map of random numbers of an image that is tissue everywhere."""
    side = SIDE_UM / STEPS
    size = int(height_um // side), int(width_um // side)
    return DoubtMap(torch.rand(size).double().numpy(), np.full(size, side**2), side, side / mpp)


def dice_of_unseen(cohort: Cohort, path: str) -> float:
    """Return the pooled Dice of unseen patients at the model's resolution."""
    settings = SETTINGS["prediction"] | {"precision": "float32", "tissue": "none"}
    (model,), predictor = load_predictor([path], SETTINGS["classes"], settings, CPU)
    both = total = 0
    for row in cohort.rows["test"]:
        view = view_of_model(model, open_slide(row["image"], row["mpp"]))
        labels = open_labels(row["mask"], view, SETTINGS["classes"], None, "ignore")
        for truth, band in predict_beside(labels, view, view, predictor, settings):
            found, true = band.classes == 1, truth == 1
            found &= truth != IGNORE
            both, total = both + int((found & true).sum()), total + int(found.sum() + true.sum())
    return 2 * both / total


def play(samples: Path, mpp: float, seed: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Play all rounds of all rules with a seed."""
    results = []
    first = Cohort(samples, mpp, seed, folder / f"{seed}")
    start = choose_by("random", first, None, seed)
    first.annotate(start)
    begun_with = train_on(first, "0", None, seed)
    for rule in RULES:
        cohort, model = Cohort(samples, mpp, seed, folder / f"{seed}-{rule}"), begun_with
        cohort.annotate(start)
        for number in range(rounds + 1):
            if number:
                cohort.annotate(choose_by(rule, cohort, model, 100 * seed + number))
                model = train_on(cohort, str(number), model, seed)
            row = {"seed": seed, "rule": rule, "round": number, "mm2": cohort.area_mm2()}
            results.append(row | {"dice": dice_of_unseen(cohort, model)})
            print(results[-1], flush=True)
    return results


def main() -> None:
    """Play, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mpp", type=float, default=0.62)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    results: list[dict[str, Any]] = []
    for seed in range(1, options.seeds + 1):
        results += play(options.samples, options.mpp, seed, options.rounds, options.folder)
    table = pd.DataFrame(results)
    table.to_csv(options.folder / "rounds.tsv", sep="\t", index=False)
    mean = table.pivot_table(["mm2", "dice"], "round", "rule").round(3)
    print(mean.to_string())


if __name__ == "__main__":
    main()
