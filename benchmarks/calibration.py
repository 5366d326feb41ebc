"""Compare ways to calibrate the models of a cross-validation, on patients whom neither network nor fit has seen.

Usage: PYTHONPATH=scripts python benchmarks/calibration.py CONFIG RESULTS

CONFIG and RESULTS are those of a finished run with folds. Each model is calibrated on all validation patients of its
fold but one, and looked at on that one, at the model's resolution.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from calibrate_model import confidences, sample_images

from pathseg.cohort.settings import load_settings
from pathseg.network.calibration import Calibration
from pathseg.prediction.calibrating import calibrate, fit_calibration, fit_temperature, match_areas, without_weights
from pathseg.prediction.delivery import load_predictor
from pathseg.scores.calibration import expected_calibration_error

SCHEMA = yaml.safe_load((Path(__file__).parents[1] / "config/schemas/config.schema.yaml").read_text())
# Pixels of a model that are looked at.
PIXELS = 120_000


def temperature_alone(sample: list[np.ndarray], start: Calibration) -> Calibration:
    """Undo class weights, and divide by a temperature."""
    logits, truth, weights, _ = sample
    temperature = fit_temperature(logits + np.array(start.bias), truth, weights)
    return Calibration(temperature, tuple(np.array(start.bias) / temperature))


def areas(sample: list[np.ndarray], start: Calibration) -> Calibration:
    """Fit temperature and biases, and match areas as well."""
    return match_areas(fit_calibration(*sample[:3], start), *sample[:3])


# Functions of logits, classes, weights and patients of the pixels, and of the start.
WAYS: dict[str, Callable[[list[np.ndarray], Calibration], Calibration]] = {
    "as trained": lambda _, start: Calibration(1.0, (0.0,) * len(start.bias)),
    "class weights undone, and a temperature": temperature_alone,
    "temperature and biases of the least cross-entropy": lambda sample, start: fit_calibration(*sample[:3], start),
    "the same, then areas": areas,
    "as far as patients agree: what is done": lambda sample, start: calibrate(*sample, start),
}


def samples(config: Path, results: Path) -> Iterator[tuple[pd.DataFrame, Calibration]]:
    """Yield the drawn pixels of each fold, and the start of its calibration."""
    settings = load_settings(yaml.safe_load(config.read_text()), SCHEMA)
    split = pd.read_csv(results / "cohort/split.tsv", sep="\t", dtype={"sample": str, "patient": str})
    table = pd.read_csv(settings["samples"], sep="\t", dtype={"sample": str, "patient": str})
    table = table.drop(columns="mpp", errors="ignore").merge(split[["sample", "part", "mpp"]], on="sample")
    classes = settings["classes"]
    labels = {"classes": classes, "ignore_value": settings.get("ignore_value"), "outside": "ignore"}
    prediction = {**settings["prediction"], "tta": False}
    for fold in sorted(part for part in set(split["part"]) if part.startswith("fold")):
        path = results / "models/default" / fold / "trained.pt"
        (model,), predictor = load_predictor([str(path)], classes, prediction, torch.device("cpu"))
        sample = sample_images(table[table["part"] == fold].to_dict("records"), predictor, model, prediction, labels)
        yield sample.sample(min(PIXELS, len(sample)), random_state=0), without_weights(model["class_weights"])


def main() -> None:
    """Print a line for each way."""
    counts = dict.fromkeys(WAYS, 0)
    areas_of: dict[str, list[np.ndarray]] = {name: [] for name in WAYS}
    for sample, start in samples(Path(sys.argv[1]), Path(sys.argv[2])):
        arrays = [sample[list(range(len(start.bias)))].to_numpy()]
        arrays += [sample[name].to_numpy() for name in ("truth", "weight", "patient")]
        for patient in sorted(set(arrays[3])):
            out = arrays[3] == patient
            logits, truth, weights, _ = (array[out] for array in arrays)
            for name, way in WAYS.items():
                found = way([array[~out] for array in arrays], start)
                counts[name] = counts[name] + confidences(found.of_logits(logits), truth, weights)
                foreground = found.of_logits(logits).argmax(axis=1) > 0
                both = weights @ (foreground & (truth > 0))
                areas_of[name].append(np.array([both, weights @ foreground, weights @ (truth > 0)]))
    print("| | calibration error | Dice of the foreground | typical error of a patient's area |\n|---|---|---|---|")
    for name, of in counts.items():
        both, predicted, true = np.array(areas_of[name]).T
        dice = 2 * both.sum() / (predicted.sum() + true.sum())
        typical = np.exp(np.sqrt((np.log(predicted / true) ** 2).mean())) - 1
        print(f"| {name} | {expected_calibration_error(of):.3f} | {dice:.3f} | {100 * typical:.0f} % |")


if __name__ == "__main__":
    main()
