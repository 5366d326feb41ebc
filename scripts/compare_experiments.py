"""Set the scores of all experiments side by side, on the same patients.

Outputs
-------
table, table_html : TSV and HTML
    A row for each part, class and experiment: Dice with its interval, its difference to the first experiment with the
    interval of that difference, and other scores, pooled over the pixels. All are compared at the resolution of the
    masks, whatever the resolution of the models is.
figure, figure_svg : PNG and SVG
    Dice of each experiment, and how it differs from the first, with their intervals.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pathseg.errors import DatabaseError, counted
from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.scores.counts import PatientCounts, pooled
from pathseg.scores.intervals import NONE, OF_PATIENTS, RANGE, Interval
from pathseg.scores.tables import PartScores
from pathseg.table_files import save_table

SCORES = ["iou", "precision", "recall", "area_ratio"]
SCORES += ["object_f1", "object_dice", "object_hausdorff_um", "aji", "pq", "object_count_ratio", "boundary_f1"]
INTERVAL_TEXT = {OF_PATIENTS: "95 % interval over patients", RANGE: "lowest and highest patient", NONE: "one patient"}


def comparison(experiments: dict[str, PatientCounts], names: list[str]) -> pd.DataFrame:
    """Score all experiments.

    Parameters
    ----------
    experiments
        What was counted, by experiment; the others are compared with the first, patient by patient.
    names
        Names of the classes.

    Returns
    -------
    pandas.DataFrame
        A row for each part, class and experiment. `difference` is of the pooled Dice, `mean_difference` of the mean
        over patients; what their ends are, `interval` says, as of `dice_low` and `dice_high`.

    Raises
    ------
    DatabaseError
        If experiments were scored on different patients.
    """
    patients = {name: sorted(zip(counts.parts, counts.patients, strict=True)) for name, counts in experiments.items()}
    first = next(iter(experiments))
    for name in experiments:
        if patients[name] != patients[first]:
            raise DatabaseError(
                f"experiments {first} and {name} were scored on different patients; delete their counts.npz under "
                "results/validation and run again"
            )
    rows = []
    for part in sorted({part for part, _ in patients[first]}):
        scores = {name: PartScores(counts, part, names) for name, counts in experiments.items()}
        rows += [_row(part, class_, name, scores, first) for class_ in names for name in experiments]
    return pd.DataFrame(rows)


def _row(part: str, class_: str, experiment: str, scores: dict[str, PartScores], first: str) -> dict[str, Any]:
    own = scores[experiment]
    dice, found = own.pooled_interval(class_, "dice")
    row: dict[str, Any] = {"part": part, "class": class_, "experiment": experiment, "patients": own.count}
    row |= _with_ends("dice", dice, found)
    row |= {"interval": found.kind, "dice_mean_over_patients": own.mean_interval(class_, "dice")[0]}
    for name, compare in (("difference", own.pooled_difference), ("mean_difference", own.mean_difference)):
        value, ends = compare(scores[first], class_, "dice")
        # Its own difference is not measured.
        row |= _with_ends(name, value, ends) if experiment != first else _with_ends(name, np.nan, NOTHING)
    return row | {score: own.together.get((class_, score), np.nan) for score in SCORES}


NOTHING = Interval(np.nan, np.nan, NONE)


def _with_ends(name: str, value: float, found: Interval) -> dict[str, float]:
    return {name: value, f"{name}_low": found.low, f"{name}_high": found.high}


def draw_comparison(table: pd.DataFrame, classes: list[dict[str, Any]]) -> Figure:
    """Draw the pooled Dice of each experiment, and how it differs from the first: a row of panels for each part."""
    parts, experiments = sorted(set(table["part"]), reverse=True), list(dict.fromkeys(table["experiment"]))
    shown = ["dice", "difference"] if len(experiments) > 1 else ["dice"]
    figure = Figure(figsize=(6 * len(shown) + 1, (1.5 + 0.5 * len(experiments)) * len(parts) + 0.4))
    panels = figure.subplots(len(parts), len(shown), squeeze=False, sharex="col", sharey=True)
    for row, part in zip(panels, parts, strict=True):
        rows = table[table["part"] == part]
        ends = " and ".join(INTERVAL_TEXT[kind] for kind in dict.fromkeys(rows["interval"]))
        for axes, column in zip(row, shown, strict=True):
            _draw_panel(axes, rows, column, experiments, classes)
            what = "pooled Dice" if column == "dice" else f"difference to {experiments[0]}"
            axes.set(xlabel=f"{what}, {ends}", title=f"{part}, {counted(rows['patients'].iloc[0], 'patient')}")
        row[0].set_yticks(range(len(experiments)), experiments)
        row[0].set_ylim(len(experiments) - 0.5, -0.5)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(classes)))
    return figure


def _draw_panel(
    axes: Axes, table: pd.DataFrame, column: str, experiments: list[str], classes: list[dict[str, Any]]
) -> None:
    """Draw the values of a column with their ends: a line for each experiment, a colour for each class."""
    if column == "difference":
        axes.axvline(0, color="#999999", linestyle="--", linewidth=1)
    for number, class_ in enumerate(classes):
        rows = table[table["class"] == class_["name"]].set_index("experiment").reindex(experiments)
        places = np.arange(len(experiments)) + 0.18 * (number - (len(classes) - 1) / 2)
        for kind, style in ((OF_PATIENTS, "-"), (RANGE, ":")):
            of_kind = (rows["interval"] == kind).to_numpy()
            ends = rows.loc[of_kind, f"{column}_low"], rows.loc[of_kind, f"{column}_high"]
            axes.hlines(places[of_kind], *ends, color=class_["color"], linestyle=style)
        axes.plot(rows[column], places, "o", color=class_["color"], label=class_["name"])


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, params = snakemake.output, snakemake.params
    names = [class_["name"] for class_ in params.classes]
    # As many files for each experiment, one experiment after another.
    paths = np.reshape(snakemake.input.counts, (len(params.experiments), -1))
    experiments = {
        experiment: pooled(PatientCounts.load(path) for path in of_experiment)
        for experiment, of_experiment in zip(params.experiments, paths, strict=True)
    }
    table = comparison(experiments, names)
    save_table(table, output.table, output.table_html)
    figure = draw_comparison(table, params.classes)
    save_figure(figure, output.figure)
    save_figure(figure, output.figure_svg)
    log.info("%s: %d experiments", output.table, len(params.experiments))
