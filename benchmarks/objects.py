"""Compare ways to tell objects apart, on the patients of a fold that the model was not trained on.

Usage: PYTHONPATH=scripts python benchmarks/objects.py CONFIG RESULTS FOLD

CONFIG and RESULTS are those of a run with `objects`, of which `models/default/FOLD/best.pt` and `databases/FOLD.h5` are
there. Images are predicted as slides are, and compared with their numbered objects at the masks' own pixels.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from evaluate import without_small
from skimage.segmentation import watershed

from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import open_instances
from pathseg.labels.separation import SURE, numbered, reach_of, separate, sureness
from pathseg.prediction.bands import INSIDE
from pathseg.prediction.delivery import load_predictor, predict_view, view_of_model
from pathseg.prediction.inference import Predictor
from pathseg.prediction.scaling import scaled
from pathseg.scores.objects import connected, count_objects, object_scores
from pathseg.tiles.database import TileDatabase

SETTINGS = {"precision": "float32", "tta": False, "tissue": "none", "tissue_holes_um2": 4e6, "tile": None}
# Objects that are smaller are left out, in µm².
LEAST = (0, 200)


def on_the_probabilities(mask: np.ndarray, insides: np.ndarray, _reach: int) -> np.ndarray:
    """Flood the probabilities of insides from their highest places down, as far as the class goes."""
    markers = cv2.connectedComponents((mask & (insides >= INSIDE)).astype(np.uint8), connectivity=4)[1]
    return watershed(-insides.astype(int), markers, mask=mask)


# Functions of where the class is, of 255 times the probability of being inside, and of the reach in pixels.
WAYS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "what is connected": lambda mask, _insides, _reach: connected(mask.astype(np.uint8)),
    "insides": lambda mask, insides, reach: numbered(mask, insides >= INSIDE, reach),
    "insides, surely so somewhere: what is done": lambda mask, insides, reach: separate(
        mask, sureness(insides, INSIDE, 255 * SURE), reach
    ),
    "insides, watershed on their probabilities": on_the_probabilities,
}


def maps_of(row: dict, predictor: Predictor, model: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return where the class is, what is inside, and the true objects of an image [H, W], and the reach in pixels."""
    slide = open_slide(row["image"], row["mpp"])
    view, grid = view_of_model(model, slide), ResampledSlide(slide, 1.0)
    bands = [*scaled(predict_view(view, predictor, SETTINGS), (view.width, view.height), (grid.width, grid.height))]
    classes, insides = (np.concatenate([getattr(band, name) for band in bands]) for name in ("classes", "insides"))
    reach = max(1, round(reach_of(model["objects"]["shrink"]) * view.downsample / grid.downsample))
    return classes == 1, insides, open_instances(row["instances"], grid).indices, reach


def main(config: Path, results: Path, fold: str) -> None:
    """Print the scores of each way."""
    settings = yaml.safe_load(config.read_text())
    name = settings["objects"]["class"]
    path = str(results / f"models/default/{fold}/best.pt")
    resolution = {"mpp": None, "resize": None}
    (model,), predictor = load_predictor([path], [], SETTINGS | resolution, torch.device("cpu"), [name])
    with TileDatabase(results / f"databases/{fold}.h5") as database:
        patients = set(database.patients)
    table = pd.read_csv(settings["samples"], sep="\t", dtype={"patient": str})
    rows = table[table["patient"].isin(patients)].to_dict("records")
    counts = {(way, least): 0 for way in WAYS for least in LEAST}
    for row in rows:
        mask, insides, truth, reach = maps_of(row, predictor, model)
        for way, least in counts:
            found = without_small(WAYS[way](mask, insides, reach), least / row["mpp"] ** 2)
            counts[way, least] += count_objects(truth, found)
    print(f"{len(rows)} images of {len(patients)} patients")
    for (way, least), count in counts.items():
        scores = {key: round(float(value), 3) for key, value in object_scores(count).items()}
        print(f"{way}, from {least} µm²: {scores}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
