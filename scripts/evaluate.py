"""Score a model on the whole images of patients that it was not trained on; each pixel counts once.

Outputs
-------
metrics : TSV
    Dice, IoU, precision, recall, specificity and accuracy of each class, by part (validation, test): `pooled` over
    all pixels, and as the `mean over patients`.
per_patient : TSV
    The same for each patient.
confusion : PNG
    Confusion matrix of each part.
"""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pathseg.checkpoint import Checkpoint, build_network, load_checkpoint
from pathseg.devices import choose_devices, compute_type
from pathseg.figures import save_figure
from pathseg.files import atomic_path
from pathseg.inference import Predictor, predict_bands
from pathseg.label_maps import LabelMap, open_labels
from pathseg.labels import IGNORE
from pathseg.logs import progress, start_log
from pathseg.metrics import class_scores, confusion_matrix, overall_accuracy
from pathseg.resample import ResampledSlide
from pathseg.resolution import model_downsample
from pathseg.slides import open_slide

# Side in pixels, about, of the parts that are predicted if something in them is known.
SQUARE = 64
SCORES = ["dice", "iou", "precision", "recall", "specificity", "accuracy"]


def image_confusion(
    row: dict[str, Any],
    predictor: Predictor,
    checkpoint: Checkpoint,
    classes: list[dict[str, Any]],
    ignore_value: int | None,
    outside: str,
) -> np.ndarray:
    """Predict an image of the split table at the model's resolution and compare it with its mask: int64 [C, C]."""
    slide = open_slide(row["image"])
    view = ResampledSlide(slide, model_downsample(checkpoint, slide, row["mpp"]))
    labels = open_labels(row["mask"], view, classes, ignore_value, outside)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for band in predict_bands(view, predictor, None, known_part(labels, view)):
        truth = labels.read(0, band.y, view.width, len(band.classes))
        confusion += confusion_matrix(truth, band.classes, len(classes))
    return confusion


def known_part(labels: LabelMap, view: ResampledSlide) -> np.ndarray:
    """Return in which parts of the view something is known, so that no more is predicted: bool [h, w]."""
    n_rows, n_columns = (-(-side // SQUARE) for side in (view.height, view.width))
    # The first pixel of each part; the parts are as large as each other, as `Coverage` takes them to be.
    tops, lefts = (
        np.ceil(np.arange(n) * side / n - 0.5).astype(int)
        for n, side in ((n_rows, view.height), (n_columns, view.width))
    )
    known = np.zeros((n_rows, n_columns), bool)
    for row, (top, bottom) in enumerate(itertools.pairwise([*tops, view.height])):
        strip = labels.read(0, top, view.width, bottom - top) != IGNORE
        known[row] = np.logical_or.reduceat(strip.any(axis=0), lefts)
    return known


def score_table(confusions: pd.Series, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn the confusion matrices of patients into tables.

    Parameters
    ----------
    confusions
        Confusion matrices [C, C], indexed by (part, patient).
    names
        Names of the classes.

    Returns
    -------
    overall, per_patient : pandas.DataFrame
        See the module's description.
    """
    patients, overall = [], []
    for (part, patient), confusion in confusions.items():
        patients.append(class_scores(confusion, names).assign(part=part, patient=patient))
    per_patient = pd.concat(patients, ignore_index=True)
    for part, matrices in confusions.groupby(level="part", sort=False):
        count = len(matrices)
        pooled = class_scores(matrices.sum(), names)
        mean = per_patient[per_patient["part"] == part].groupby("class", sort=False)[SCORES].mean().reset_index()
        mean["pixels"] = pooled["pixels"]
        overall.append(pooled.assign(part=part, patients=count, over="pooled"))
        overall.append(mean.assign(part=part, patients=count, over="mean over patients"))
    columns = ["part", "over", "patients", "class", "pixels", *SCORES]
    return pd.concat(overall, ignore_index=True)[columns], per_patient[["part", "patient", "class", "pixels", *SCORES]]


def draw_confusion(confusions: pd.Series, names: list[str]) -> Figure:
    """Draw the confusion matrix of each part, as shares of the true class."""
    parts = confusions.groupby(level="part", sort=False).sum()
    side = 1.6 + 0.9 * len(names)
    figure = Figure(figsize=((side + 1) * len(parts), side + 0.4))
    for axes, (part, matrix) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(share.shape):
            color = "white" if share[row, column] > 60 else "black"
            axes.text(column, row, f"{share[row, column]:.1f} %", ha="center", va="center", color=color)
        axes.set(
            xticks=range(len(names)),
            yticks=range(len(names)),
            xlabel="predicted",
            ylabel="true",
            title=f"{part}: {100 * overall_accuracy(matrix):.1f} % right",
        )
        axes.set_xticklabels(names, rotation=30, ha="right")
        axes.set_yticklabels(names)
        axes.grid(visible=False)
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    checkpoint = load_checkpoint(snakemake.input.model)
    predictor = Predictor([build_network(checkpoint, snakemake.input.model)], device, compute_type("auto", device))
    split = pd.read_csv(snakemake.input.split, sep="\t", dtype={"sample": str, "patient": str})
    rows = split[split["part"].isin(params.parts)].replace({np.nan: None}).to_dict("records")
    names = [class_["name"] for class_ in params.classes]
    confusions: dict[tuple[str, str], np.ndarray] = {}
    for row in progress(rows, "scoring", unit="image"):
        key = (row["part"], row["patient"])
        confusion = image_confusion(row, predictor, checkpoint, params.classes, params.ignore_value, params.outside)
        confusions[key] = confusions.get(key, 0) + confusion
    index = pd.MultiIndex.from_tuples(list(confusions), names=["part", "patient"])
    by_patient = pd.Series(list(confusions.values()), index=index)
    overall, per_patient = score_table(by_patient, names)
    for table, path in ((overall, output.metrics), (per_patient, output.per_patient)):
        with atomic_path(path) as temporary:
            table.round(4).to_csv(temporary, sep="\t", index=False, na_rep="NA")
    save_figure(draw_confusion(by_patient, names), output.confusion)
    for part in params.parts:
        scores = overall[(overall["part"] == part) & (overall["over"] == "pooled")]
        text = ", ".join(f"{name} {dice:.3f}" for name, dice in zip(scores["class"], scores["dice"], strict=True))
        log.info("%s: pooled Dice %s", part, text)
