"""Figures of scores."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pathseg.scores.calibration import CALIBRATION_BINS, calibration, expected_calibration_error, threshold_curves
from pathseg.scores.counts import PatientCounts
from pathseg.scores.intervals import OF_PATIENTS
from pathseg.scores.pixels import overall_accuracy
from pathseg.scores.tables import ECE

PART_COLORS = {"validation": "#0072B2", "test": "#D55E00", "test, mean of folds": "#009E73"}
CALIBRATION_LINES = {
    "before": ("validation, not calibrated", "x:"),
    "unseen": ("validation, calibrated on other patients", "+:"),
}


def _parts(patients: PatientCounts) -> list[str]:
    return list(dict.fromkeys(patients.parts))


def draw_confusion(patients: PatientCounts, names: list[str]) -> Figure:
    """Draw the confusion matrix of each part, as shares of the true class."""
    parts = _parts(patients)
    side = 1.6 + 0.9 * len(names)
    figure = Figure(figsize=((side + 1) * len(parts), side + 0.4))
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        matrix = patients.stacked(part).confusion.sum(axis=0)
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


def draw_calibration(patients: PatientCounts, table: pd.DataFrame, calibrations: dict[str, np.ndarray]) -> Figure:
    """Draw how often the model is right where it is so sure, and how often it is so sure.

    Parameters
    ----------
    patients, table
        What was counted, and the scores.
    calibrations
        `Counts.confidence` [256, 2] on the validation patients: `before` calibration and, where there are several
        patients, `unseen`, each patient by a calibration that was fitted without them.
    """
    figure = Figure(figsize=(6, 6))
    reliability, amount = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    reliability.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="perfect")
    for name, (title, style) in CALIBRATION_LINES.items():
        if name in calibrations:
            _, mean, right, _ = calibration(calibrations[name], CALIBRATION_BINS)
            error = expected_calibration_error(calibrations[name])
            reliability.plot(mean, right, style, color="#777777", label=f"{title}: error {error:.3f}")
    errors = table[(table["score"] == ECE) & (table["over"] == "pooled")].set_index("part")["value"]
    parts = _parts(patients)
    for number, part in enumerate(parts):
        confidence = patients.stacked(part).confidence.sum(axis=0)
        edges, mean, right, share = calibration(confidence, CALIBRATION_BINS)
        color, width = PART_COLORS[part], (edges[1] - edges[0]) / len(parts)
        reliability.plot(mean, right, "o-", color=color, label=f"{part}: error {errors[part]:.3f}")
        amount.bar(edges[:-1] + width * number, 100 * share, width * 0.9, align="edge", color=color)
    lowest = 1 / patients.counts[0].confusion.shape[0]
    reliability.set(ylabel="share of pixels that are right", xlim=(max(0, lowest - 0.05), 1), ylim=(0, 1.02))
    reliability.set_title("Is it right as often as it is sure?")
    reliability.legend(loc="lower right")
    amount.set(xlabel="probability of the predicted class", ylabel="pixels (%)")
    return figure


def draw_thresholds(patients: PatientCounts, classes: list[dict[str, Any]]) -> Figure:
    """Draw precision over recall, and Dice over the threshold on the probability, of each class but the background."""
    parts = _parts(patients)
    figure = Figure(figsize=(11, 4.4 * len(parts)))
    for (curve, dice), part in zip(figure.subplots(len(parts), 2, squeeze=False), parts, strict=True):
        histogram = patients.stacked(part).histogram.sum(axis=0)
        for index, class_ in list(enumerate(classes))[1:]:
            values = threshold_curves(histogram[index])
            curve.plot(values["recall"], values["precision"], color=class_["color"], label=class_["name"])
            dice.plot(values["threshold"], values["dice"], color=class_["color"], label=class_["name"])
            best = int(np.nanargmax(np.nan_to_num(values["dice"])))
            dice.plot(values["threshold"][best], values["dice"][best], "o", color=class_["color"])
            dice.annotate(
                f"{values['dice'][best]:.3f} at {values['threshold'][best]:.2f}",
                (values["threshold"][best], values["dice"][best]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
            )
        curve.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        dice.set(xlabel="threshold on the probability", ylabel="Dice", xlim=(0, 1), ylim=(0, 1.08))
        curve.set_title(f"Precision and recall, {part}")
        dice.set_title(f"Dice by threshold, {part}")
        curve.legend(loc="lower left")
    return figure


def draw_patients(per_patient: pd.DataFrame, table: pd.DataFrame, classes: list[dict[str, Any]]) -> Figure:
    """Draw the Dice of each patient, with the mean over patients and, of four patients or more, its 95 % interval."""
    parts = list(dict.fromkeys(per_patient["part"]))
    means = table[(table["score"] == "dice") & (table["over"] == "mean over patients")].set_index(["part", "class"])
    figure = Figure(figsize=(max(6.5, 1.2 + 1.5 * len(parts) * len(classes)), 4.6))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    labels = []
    for number, (part, class_) in enumerate((part, class_) for part in parts for class_ in classes):
        rows = per_patient[(per_patient["part"] == part) & (per_patient["class"] == class_["name"])]
        places = number + rng.uniform(-0.22, 0.22, len(rows))
        axes.scatter(places, rows["dice"], s=22, color=class_["color"], alpha=0.8, linewidth=0, zorder=3)
        mean = means.loc[part, class_["name"]]
        axes.plot([number - 0.3, number + 0.3], [mean["value"]] * 2, color="black", linewidth=1.2)
        if mean["interval"] == OF_PATIENTS:
            axes.plot([number] * 2, [mean["low"], mean["high"]], color="black", linewidth=1.2)
        axes.annotate(
            f"{mean['value']:.3f}", (number + 0.32, mean["value"]), va="center", fontsize=9, annotation_clip=False
        )
        labels.append(f"{class_['name']}\n{part}, {len(rows)}")
    lowest = per_patient["dice"].min()
    axes.set(ylabel="Dice", ylim=(min(0.8, lowest - 0.05), 1.0), xlim=(-0.6, len(labels) - 0.2))
    axes.set_xticks(range(len(labels)), labels)
    of_means = means[means["interval"] == OF_PATIENTS]
    axes.set_title("Dice of each patient, and the mean" + (" with its 95 % interval" if len(of_means) else ""))
    return figure
