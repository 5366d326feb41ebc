"""Turn the counts of one model, or of the models of all folds together, into tables and figures of scores.

Outputs
-------
metrics, metrics_html : TSV and HTML
    Each score of each class, on the validation patients and on the test patients: pooled over all pixels, and as the
    mean over patients, with 95 % intervals over patients.
per_patient, per_patient_html : TSV and HTML
    The scores of each patient.
trust, trust_html : TSV and HTML
    Of each image whether the model was to be trusted on it, by what is said of slides, and how well it was predicted.
confusion, calibration, thresholds, patients : PNG and SVG
    Confusion matrix; reliability diagram, before and after calibration; precision, recall and Dice over thresholds;
    Dice of each patient.
"""

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.scores.counts import PatientCounts, pooled
from pathseg.scores.figures import draw_calibration, draw_confusion, draw_patients, draw_thresholds
from pathseg.scores.images import image_table, words_lines
from pathseg.scores.tables import of_objects, patient_table, score_table
from pathseg.table_files import read_table, save_table


def read_calibrations(paths: list[str]) -> dict[str, np.ndarray]:
    """Add up the tables of `calibrate_model`: `before`, `after` and perhaps `unseen`, each float [256, 2]."""
    together = pd.concat(read_table(path, ["probability", "wrong", "right"]) for path in paths)
    tables = together.groupby(["calibration", "probability"], sort=False)[["wrong", "right"]].sum()
    return {name: table.to_numpy() for name, table in tables.groupby(level="calibration", sort=False)}


def figures_of(
    patients: PatientCounts,
    table: pd.DataFrame,
    per_patient: pd.DataFrame,
    classes: list[dict[str, Any]],
    calibrations: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Draw all figures, by name; `calibrations` are what `read_calibrations` returns, [256, 2] each."""
    return {
        "confusion": draw_confusion(patients, [class_["name"] for class_ in classes]),
        "calibration": draw_calibration(patients, table, calibrations),
        "thresholds": draw_thresholds(patients, classes),
        "patients": draw_patients(per_patient, table, classes),
    }


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, classes = snakemake.output, snakemake.params.classes
    names = [class_["name"] for class_ in classes]
    patients = pooled(PatientCounts.load(path) for path in snakemake.input.counts)
    table, per_patient = score_table(patients, names), patient_table(patients, names)
    table["objects"] = [patients.objects if of_objects(score) else "" for score in table["score"]]
    save_table(table, output.metrics, output.metrics_html)
    save_table(per_patient, output.per_patient, output.per_patient_html)
    images = image_table(patients.images)
    lines = words_lines(images)
    save_table(images, output.trust, output.trust_html, above=f"<p>{'<br>'.join(map(escape, lines))}</p>")
    calibrations = read_calibrations(snakemake.input.calibrations)
    for name, figure in figures_of(patients, table, per_patient, classes, calibrations).items():
        for ending in ("png", "svg"):
            save_figure(figure, output[f"{name}_{ending}"])
    dice = table[(table["score"] == "dice") & (table["over"] == "pooled")]
    for part, rows in dice.groupby("part", sort=False):
        text = ", ".join(f"{row['class']} {row['value']:.3f}" for _, row in rows.iterrows())
        log.info("%s: pooled Dice %s", part, text)
    for line in lines:
        log.info(line)
