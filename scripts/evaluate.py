"""Compare what models deliver with the masks of patients that they were not trained on: whole images, each pixel once.

Images are predicted as slides are, by `pathseg.prediction.delivery`, and compared at the resolution of the truth.

Outputs
-------
counts : NPZ
    What the scores are computed from, by patient, see `pathseg.scores.counts`; and of each image whether the model was
    to be trusted on it, as is said of slides.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathseg.cohort.rows import with_files
from pathseg.errors import ImageError
from pathseg.files import file_digest
from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import check_instances, open_instances, open_labels
from pathseg.labels.separation import reach_of, separate
from pathseg.labels.values import IGNORE
from pathseg.logs import progress, start_log
from pathseg.network.checkpoint import Checkpoint, class_names
from pathseg.network.devices import choose_devices
from pathseg.prediction.comparing import grid_of_truth, is_small, predict_beside
from pathseg.prediction.delivery import load_predictor, view_of_model
from pathseg.prediction.inference import Predictor
from pathseg.prediction.reference import reference_of
from pathseg.prediction.traits import Traits
from pathseg.prediction.trust import judge
from pathseg.scores.counts import Counts, PatientCounts, one_or_both
from pathseg.scores.images import image_row
from pathseg.scores.objects import OBJECT_COUNTS, connected, count_boundary, count_objects, true_objects

log = logging.getLogger("pathseg")


@dataclass(frozen=True)
class Scoring:
    """How images are scored; the fields are those of the configuration.

    Attributes
    ----------
    objects
        Classes whose objects are told apart.
    min_area_um2
        Smaller ones of these are not delivered.
    """

    classes: list[dict[str, Any]]
    ignore_value: int | None
    outside: str
    boundary_um: float
    objects: Sequence[str] = ()
    min_area_um2: float = 0.0


def refuse_copies(rows: list[dict[str, Any]], models: list[Checkpoint]) -> None:
    """Stop if an image to score is one that a model was trained on, or another one to score, whatever its name.

    Validation patients choose the epoch and are what probabilities are fitted to, so that a copy among the test's would
    be no test; and a copy under another patient is a patient less than is said.

    Raises
    ------
    ImageError
        With the first such image.
    """
    known = {image: "an image that the model was trained on" for model in models for image in model["training_images"]}
    for row in rows:
        content, name = file_digest(row["image"]), f"sample {row['sample']!r} of patient {row['patient']!r}"
        if content in known:
            raise ImageError(
                f"{row['image']}: {name} is a copy of {known[content]}; scores would be too good, or too sure. Take "
                "one out of the sample table and run again"
            )
        known[content] = f"the image of {name}"


def count_image(
    row: dict[str, Any], predictor: Predictor, model: Checkpoint, settings: dict[str, Any], scoring: Scoring
) -> tuple[Counts, Traits]:
    """Predict an image of the sample table as it is delivered, and compare it with its mask at the mask's resolution.

    Return what was counted, and what the image is like where it was predicted.

    Parameters
    ----------
    row
        Of the sample table.
    predictor, model
        The networks, and the checkpoint of one of them.
    settings
        `prediction` of the configuration.
    scoring
        How to score.
    """
    slide = open_slide(row["image"], row["mpp"])
    view = view_of_model(model, slide)
    grid = grid_of_truth(row["mask"], view)
    labels = open_labels(row["mask"], grid, scoring.classes, scoring.ignore_value, scoring.outside)
    counts, traits = Counts.zeros(len(scoring.classes)), predictor.watch(view)
    # Of objects and outlines all of an image must be in memory.
    small, numbers = is_small(grid), None
    if small and row["instances"]:
        numbers = open_instances(row["instances"], grid).indices
        check_instances(row["instances"], row["mask"], numbers, labels.read(0, 0, grid.width, grid.height))
    strips = []
    for truth, band in predict_beside(labels, grid, view, predictor, settings):
        known = truth != IGNORE
        counts.add_pixels(truth[known], band.classes[known], band.probabilities[:, known], band.tissue[known])
        if small:
            strips.append((truth, band.classes, *([band.inside()] if scoring.objects else [])))
    if not small:
        log.warning("%s: is too large (%d x %d) for scores of objects", row["image"], grid.width, grid.height)
        counts.too_large += 1
        return counts, traits
    truth, predicted, *insides = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    mpp = slide.mpp and slide.mpp * grid.downsample
    told_apart: dict[int, np.ndarray] = {}
    if scoring.objects:
        # As far on the ground as in the model's pixels.
        reach = max(1, round(reach_of(model["objects"]["shrink"]) * view.downsample / grid.downsample))
        least = scoring.min_area_um2 / mpp**2 if mpp else 0
        names = [class_["name"] for class_ in scoring.classes]
        for index in map(names.index, scoring.objects):
            told_apart[index] = without_small(separate(predicted == index, insides[0], reach), least)
    add_shapes(counts, truth, predicted, numbers, mpp, scoring.boundary_um, told_apart)
    return counts, traits


def without_small(numbers: np.ndarray, least: float) -> np.ndarray:
    """Leave out objects, int [H, W], that have fewer than `least` pixels."""
    return np.where((np.bincount(numbers.ravel()) >= least)[numbers], numbers, 0)


def add_shapes(
    counts: Counts,
    truth: np.ndarray,
    predicted: np.ndarray,
    numbers: np.ndarray | None,
    mpp: float | None,
    boundary_um: float,
    told_apart: dict[int, np.ndarray] | None = None,
) -> None:
    """Count objects and outlines of each class but the background.

    Parameters
    ----------
    counts
        To add to.
    truth, predicted
        Class indices [H, W], `IGNORE` in the truth.
    numbers
        Numbers of the true objects [H, W]; None to take what is connected.
    mpp
        µm per pixel, or None: then distances are not scored.
    boundary_um
        Distance within which outlines are near each other.
    told_apart
        Numbers of the predicted objects [H, W] of classes whose objects are told apart; of others they are what is
        connected.
    """
    known = truth != IGNORE
    counts.area_mm2 += known.sum() * mpp**2 / 1e6 if mpp else np.nan
    for index in range(1, len(counts.confusion)):
        true_mask, predicted_mask = truth == index, (predicted == index) & known
        true = true_objects(true_mask, numbers)
        objects = np.where(known, told_apart[index], 0) if index in (told_apart or {}) else connected(predicted_mask)
        found = dict(zip(OBJECT_COUNTS, count_objects(true, objects), strict=True))
        for side in ("true", "predicted"):
            found[f"{side}_hausdorff"] *= mpp or 0
            found[f"{side}_near_area"] *= mpp is not None
        counts.objects[index] += list(found.values())
        if mpp:
            counts.boundary[index] += count_boundary(true_mask, predicted_mask, known, boundary_um / mpp)


if __name__ == "__main__":
    start_log(snakemake.log[0])
    params = snakemake.params
    settings = {**params.prediction, **params.machine}
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    paths = list(snakemake.input.models)
    models, predictor = load_predictor(paths, params.classes, settings, device, params.objects)
    references = [reference_of(model, path) for model, path in zip(models, paths, strict=True)]
    names = class_names(models[0])
    objects = (params.objects or (), params.min_area_um2 or 0.0)
    scoring = Scoring(params.classes, params.ignore_value, params.outside, params.boundary_um, *objects)
    files = snakemake.input
    rows = with_files(params.rows, files.images, files.masks, files.get("instances", []))
    refuse_copies(rows, models)
    by_patient: dict[tuple[str, str], Counts] = {}
    images: list[dict[str, Any]] = []
    for row in progress(rows, "scoring", unit="image"):
        key = params.parts[row["part"]], row["patient"]
        counts, traits = count_image(row, predictor, models[0], settings, scoring)
        by_patient[key] = by_patient[key] + counts if key in by_patient else counts
        who = {"sample": row["sample"], "patient": row["patient"], "part": key[0], "fold": snakemake.wildcards.fold}
        images.append(who | image_row(counts, judge(references, traits, names), names))
    parts, patients = (list(names) for names in zip(*by_patient, strict=True))
    objects = one_or_both({"instances" if row["instances"] else "components" for row in rows})
    PatientCounts(parts, patients, list(by_patient.values()), objects, images).save(snakemake.output.counts)
    log.info("scored %d images of %d patients", len(rows), len(patients))
