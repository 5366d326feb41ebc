"""Write down what a model is, what it was trained on and how good it is, in one page to keep beside it.

Outputs
-------
card : Markdown
    Data, settings, scores with intervals, limits, versions and digests.
"""

import json
import platform
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import tables
import torch

from pathseg import __version__
from pathseg.cohort.plans import with_plan
from pathseg.digests import digest
from pathseg.errors import counted
from pathseg.files import atomic_path, file_digest
from pathseg.logs import start_log
from pathseg.network.checkpoint import Checkpoint, class_names, load_checkpoint
from pathseg.network.unet import ARCHITECTURE_KEYS
from pathseg.table_files import read_table
from pathseg.tiles.database import TileDatabase

LIBRARIES = (torch, np, tables)
SCORES_TEXT = (
    "On whole images of patients that it was not trained on, predicted as slides are and compared at the resolution of "
    "their masks. The area ratio is predicted over true area. Its best epoch was chosen on the validation patients, so "
    "that their scores are a little too good; those of test patients, if there are any, are not. In brackets: 95 % "
    "interval over patients (Student's, with the jackknife's error, on a logit scale); after the word patients, the "
    "lowest and the highest patient, where there are fewer than four or all have the same score."
)
LIMITS_TEXT = (
    "- It has seen only the stains, scanners and tissue of its training patients. Score it on your own before you rely "
    "on it. It is not a medical device."
)
SHOWN = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "area_ratio": "area ratio",
    "object_f1": "object F1",
    "object_dice": "object Dice",
    "object_hausdorff_um": "object Hausdorff (µm)",
    "boundary_f1": "boundary F1",
}


def model_card(
    title: str,
    checkpoint: Checkpoint,
    sha256: str,
    training: list[TileDatabase],
    validation: TileDatabase,
    scores: pd.DataFrame,
    settings: dict[str, Any],
    boundary_um: float,
) -> str:
    """Return the card's text.

    Parameters
    ----------
    title
        Experiment and fold.
    checkpoint, sha256
        The model, and the digest of its file.
    training, validation
        Databases that it was trained on and chosen by.
    scores
        Table of `summarize_scores`.
    settings
        How it was trained.
    boundary_um
        Tolerance of the boundary F1 in µm.
    """
    names = class_names(checkpoint)
    sections = [
        f"# {title}",
        f"A U-Net that finds {', '.join(names)} in stained tissue, trained with pathseg {__version__}.",
        "## Data",
        data_table(training, validation, names),
        resolution_text(checkpoint),
        "## Scores",
        SCORES_TEXT,
        score_lines(scores, names),
        shape_text(scores, boundary_um, (checkpoint["objects"] or {"classes": []})["classes"]),
        calibration_text(checkpoint, names),
        "## Limits",
        limits_text(scores, names),
        "## Settings",
        settings_text(checkpoint, settings),
        *start_text(checkpoint),
        f"The best epoch was {checkpoint['epoch']}.",
        "## Provenance",
        "\n".join(
            [
                f"- model file: SHA-256 `{sha256}`",
                f"- training (settings, network, data, code): `{checkpoint['training_digest']}`",
                f"- tiles as trained on: `{digest([database.digest for database in [*training, validation]])}`",
                f"- Python {platform.python_version()}, "
                + ", ".join(f"{module.__name__} {module.__version__}" for module in LIBRARIES),
            ]
        ),
    ]
    return "\n\n".join(sections) + "\n"


def settings_text(checkpoint: Checkpoint, settings: dict[str, Any]) -> str:
    """Return the network and how it was trained, as JSON."""
    unet = {key: checkpoint[key] for key in ARCHITECTURE_KEYS}
    return f"```json\n{json.dumps({'unet': unet, 'training': settings}, indent=2)}\n```"


def start_text(checkpoint: Checkpoint) -> list[str]:
    """Say which model its training started from, if any, and which weights began anew."""
    start = checkpoint.get("started_from")
    if not start:
        return []
    anew = ", ".join(f"`{name}`" for name in start["not_loaded"]) or "none"
    return [f"Its training started from the model with SHA-256 `{start['sha256']}`; weights that began anew: {anew}."]


def data_table(training: list[TileDatabase], validation: TileDatabase, names: list[str]) -> str:
    """Return a table of patients, images, tiles and pixels of each class."""
    lines = ["| | patients | images | tiles | " + " | ".join(f"{name}, Mpx" for name in names) + " |"]
    lines.append("|---" * (4 + len(names)) + "|")
    for title, databases in (("training", training), ("validation", [validation])):
        patients = {patient for database in databases for patient in database.patients}
        images = sum(len(database.source_digests) for database in databases)
        pixels = sum(database.class_pixels for database in databases)
        cells = [title, len(patients), images, sum(map(len, databases)), *(f"{value / 1e6:.2f}" for value in pixels)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def resolution_text(checkpoint: Checkpoint) -> str:
    """Say at which resolution the model works."""
    if checkpoint["mpp"]:
        return f"It works at {checkpoint['mpp']:g} µm per pixel; slides are brought to that."
    return f"It works on images brought to {checkpoint['resize']:g} times their size, whatever their pixel size is."


def score_lines(scores: pd.DataFrame, names: list[str]) -> str:
    """Return a table of the pooled scores: a row for each part and class."""
    pooled = scores[scores["over"] == "pooled"].set_index(["part", "class", "score"])
    lines = ["| part | class | " + " | ".join(SHOWN.values()) + " |", "|---" * (2 + len(SHOWN)) + "|"]
    for part in dict.fromkeys(scores["part"]):
        patients = int(pooled.loc[part]["patients"].iloc[0])
        for name in names:
            cells = [_cell(pooled, (part, name, score)) for score in SHOWN]
            lines.append(f"| {part}, {counted(patients, 'patient')} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(pooled: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in pooled.index or pd.isna(pooled.loc[key, "value"]):
        return ""
    row, digits = pooled.loc[key], 1 if key[2].endswith("_um") else 3
    ends = f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
    interval = {"95 %": f" ({ends})", "range": f" (patients {ends})"}
    return f"{row['value']:.{digits}f}{interval.get(row['interval'], '')}"


def shape_text(scores: pd.DataFrame, boundary_um: float, told_apart: list[str]) -> str:
    """Say how objects and outlines were scored."""
    kinds = {
        "instances": "numbered by hand",
        "components": "what is connected in the mask",
        "both": "numbered by hand where the sample table names such images, otherwise what is connected in the mask",
    }
    objects = scores.loc[scores["score"].str.startswith("object"), "objects"].iloc[0]
    found = f", and what is told apart of {', '.join(told_apart)}" if told_apart else ""
    return (
        f"Objects are {kinds[objects]}; predicted ones, what is connected{found}. "
        f"Outlines count within {boundary_um:g} µm."
    )


def calibration_text(checkpoint: Checkpoint, names: list[str]) -> str:
    """Say what was done to make probabilities mean what they say, and what it changed."""
    calibration = checkpoint["calibration"]
    biases = ", ".join(f"{name} {value:+.2f}" for name, value in zip(names, calibration["bias"], strict=True))
    errors = calibration["errors"]
    text = (
        f"Its probabilities are calibrated on the validation patients: temperature {calibration['temperature']:.2f}, "
        f"biases {biases}. Calibration error at the model's resolution: {errors['before']:.3f} as trained, "
        f"{errors['after']:.3f} calibrated"
    )
    if "unseen" in errors:
        text += f", {errors['unseen']:.3f} on validation patients whom a calibration was fitted without."
    else:
        text += ", on the same patient; with several, it would be known for unseen ones."
    if "inside" in calibration:
        text += (
            f" A pixel is inside of an object from a probability of {calibration['inside']:g} on, and surely so from "
            f"{calibration['sure']:g} on."
        )
    return text


def limits_text(scores: pd.DataFrame, names: list[str]) -> str:
    """Return what to be careful about, as far as it can be known from the numbers."""
    lines = [LIMITS_TEXT]
    for part, rows in scores.groupby("part", sort=False):
        count = int(rows["patients"].iloc[0])
        if count < 10:
            lines.append(
                f"- The {part} scores are of {counted(count, 'patient')} only, which says little about the next."
            )
    calibration = scores[(scores["score"] == "ece") & (scores["over"] == "pooled")]
    if scores["images_too_large"].max() > 0:
        lines.append(
            f"- {scores['images_too_large'].max():.0f} images are too large for scores of objects and outlines, which "
            "are of the others."
        )
    lost = scores[(scores["score"] == "lost_in_search") & (scores["over"] == "pooled") & (scores["class"] == "all")]
    if lost["value"].max() > 0.001:
        lines.append(
            f"- The search for tissue takes {100 * lost['value'].max():.1f} % of what is not {names[0]} for glass; if "
            "that is too much, give masks of the tissue, or set `prediction: {tissue: none}`."
        )
    worst = calibration["value"].max()
    if worst > 0.05:
        lines.append(f"- Its probabilities are off by {worst:.2f} on average; do not read them as they stand.")
    return "\n".join(lines)


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, wildcards = snakemake.params, snakemake.wildcards
    with ExitStack() as stack:
        training = [stack.enter_context(TileDatabase(path)) for path in snakemake.input.training]
        validation = stack.enter_context(TileDatabase(snakemake.input.validation))
        text = model_card(
            f"{wildcards.experiment}, {wildcards.fold}",
            load_checkpoint(snakemake.input.model),
            file_digest(snakemake.input.model),
            training,
            validation,
            read_table(snakemake.input.metrics, ["patients", "value", "low", "high", "images_too_large"]),
            with_plan(params.training, snakemake.input.get("plan"), "experiments", wildcards.experiment, "training"),
            params.boundary_um,
        )
    with atomic_path(snakemake.output.card) as temporary:
        temporary.write_text(text, encoding="utf-8")
    log.info("%s", snakemake.output.card)
