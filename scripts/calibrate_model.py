"""Fit what a trained model's probabilities mean, on whole images of its validation patients.

And note what its training images are like, so that it can be said of a slide whether it is like them.

Outputs
-------
model : PyTorch checkpoint
    The trained model with `calibration`, see `pathseg.network.calibration`, which everything that predicts uses (of
    objects that are told apart also from which probabilities on a pixel is inside of one, and surely so), and
    `reference`, see `pathseg.prediction.reference`.
table : TSV
    How sure the model is, and how often it is right: as it was trained (`before`), calibrated (`after`), and on
    patients each of whom the calibration was fitted without (`unseen`; with one patient there is none).
"""

import itertools
import logging
from typing import Any

import numpy as np
import pandas as pd

from pathseg.cohort.rows import with_files
from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import open_labels
from pathseg.logs import progress, start_log
from pathseg.network.calibration import Calibration
from pathseg.network.checkpoint import Checkpoint, save_checkpoint
from pathseg.network.devices import choose_devices
from pathseg.prediction.calibrating import calibrate, left_out, sample_probabilities, without_weights
from pathseg.prediction.delivery import load_predictor, view_of_model
from pathseg.prediction.describing import describe_training
from pathseg.prediction.inference import Predictor
from pathseg.prediction.insides import choose_probabilities, count_images
from pathseg.scores.calibration import expected_calibration_error
from pathseg.scores.counts import LEVELS
from pathseg.table_files import save_tsv

log = logging.getLogger("pathseg")

# Numbers (pixels times classes) that are sampled in all, and pixels that each image gives at least.
SAMPLED, FROM_EACH = 2**22, 2**8
# The probability nearest to 0 or 1 that has a logarithm.
LOWEST = 1e-7


def sample_images(
    rows: list[dict[str, Any]],
    predictor: Predictor,
    model: Checkpoint,
    settings: dict[str, Any],
    labels: dict[str, Any],
) -> pd.DataFrame:
    """Draw pixels whose class is known from images, as many from each.

    Parameters
    ----------
    rows
        Of the split table.
    predictor, model
        The network, and its checkpoint.
    settings
        `prediction` of the configuration.
    labels
        How masks are read: `classes`, `ignore_value` and `outside` of `open_labels`.

    Returns
    -------
    pandas.DataFrame
        `patient`, `truth`, `weight` (pixels that each stands for), and a column for each logit: 0, 1 ...
    """
    size = max(FROM_EACH, SAMPLED // predictor.n_classes // max(len(rows), 1))
    parts = []
    for number, row in enumerate(progress(rows, "calibrating", unit="image")):
        view = view_of_model(model, open_slide(row["image"], row["mpp"]))
        truth_map = open_labels(row["mask"], view, **labels)
        rng = np.random.default_rng(number)
        probabilities, truth, known = sample_probabilities(view, predictor, settings, truth_map, size, rng)
        part = pd.DataFrame(np.log(np.clip(probabilities, LOWEST, 1)))
        parts.append(part.assign(patient=row["patient"], truth=truth, weight=known / max(len(truth), 1)))
    return pd.concat(parts, ignore_index=True)


def confidences(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count pixels by the probability of the predicted class, in 256 steps, and whether it is right: float [256, 2]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    level = np.floor(255 / shifted.sum(axis=1) + 0.5).astype(int)
    right = logits.argmax(axis=1) == truth
    return np.bincount(2 * level + right, weights, minlength=2 * LEVELS).reshape(LEVELS, 2)


def reliability(sample: pd.DataFrame, start: Calibration) -> tuple[Calibration, dict[str, np.ndarray]]:
    """Fit the calibration, and count confidences before, after, and on patients that it was fitted without.

    Parameters are what `sample_images` returns, and the shifts that need no data; counts are those of `confidences`.
    """
    n_classes = len(start.bias)
    logits = sample[list(range(n_classes))].to_numpy()
    truth, weights, patients = (sample[name].to_numpy() for name in ("truth", "weight", "patient"))
    fitted = calibrate(logits, truth, weights, patients, start)
    counts = {"before": confidences(logits, truth, weights)}
    counts["after"] = confidences(fitted.of_logits(logits), truth, weights)
    for out in left_out(patients):
        others = calibrate(logits[~out], truth[~out], weights[~out], patients[~out], start)
        found = confidences(others.of_logits(logits[out]), truth[out], weights[out])
        counts["unseen"] = counts.get("unseen", 0) + found
    return fitted, counts


def table_of(counts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return confidences [256, 2] as a table: `calibration`, `probability`, pixels that are `wrong` and `right`."""
    return pd.concat(
        pd.DataFrame(
            {"calibration": name, "probability": np.arange(LEVELS) / 255, "wrong": of[:, 0], "right": of[:, 1]}
        )
        for name, of in counts.items()
    )


if __name__ == "__main__":
    start_log(snakemake.log[0])
    params = snakemake.params
    settings = {**params.prediction, **params.machine}
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    (model,), predictor = load_predictor([snakemake.input.model], params.classes, settings, device)
    files = snakemake.input
    rows = with_files(params.rows, files.images, files.masks, files.get("instances") or itertools.repeat(None))
    labels = {"classes": params.classes, "ignore_value": params.ignore_value, "outside": params.outside}
    sample = sample_images(rows, predictor, model, settings, labels)
    fitted, counts = reliability(sample, without_weights(model["class_weights"]))
    errors = {name: round(float(expected_calibration_error(of)), 4) for name, of in counts.items()}
    save_tsv(table_of(counts), snakemake.output.table)
    stored = {"temperature": fitted.temperature, "bias": list(fitted.bias), "errors": errors}
    if model["objects"]:
        _, telling = load_predictor([files.model], params.classes, settings, device, model["objects"]["classes"])
        chosen = choose_probabilities(count_images(rows, telling, model, settings, labels))
        stored |= dict(zip(("inside", "sure"), chosen, strict=True))
        log.info("a pixel is inside of an object from a probability of %g on, and surely so from %g on", *chosen)
    training = [
        row | {"image": image} for row, image in zip(params.training_rows, snakemake.input.training, strict=True)
    ]
    # What images are like is taken from them as they are.
    _, unturned = load_predictor([files.model], params.classes, settings | {"tta": False}, device)
    reference = describe_training(progress(training, "describing", unit="image"), unturned, model, settings)
    save_checkpoint(
        snakemake.output.model, model | {"calibration": stored, "reference": reference and reference.stored()}
    )
    log.info(
        "temperature %.2f, biases %s; calibration error %s, on %d pixels of %d patients",
        fitted.temperature,
        ", ".join(f"{value:+.2f}" for value in fitted.bias),
        ", ".join(f"{value:.3f} {name}" for name, value in errors.items()),
        len(sample),
        sample["patient"].nunique(),
    )
