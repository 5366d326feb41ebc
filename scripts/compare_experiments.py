"""Set the scores of all experiments side by side.

Outputs
-------
table, table_html : TSV and HTML
    A row for each part, class and experiment: Dice with its interval, and other scores, pooled over the pixels. All are
    compared at the resolution of the masks, whatever the resolution of the models is.
figure, figure_svg : PNG and SVG
    Dice of each experiment with its interval.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.table_files import save_table

SCORES = ["iou", "precision", "recall", "area_ratio", "object_f1", "object_dice", "object_hausdorff_um", "boundary_f1"]


def comparison(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of `summarize_scores`, by experiment, into one with a row for each part, class and experiment."""
    rows = []
    for experiment, table in tables.items():
        for (part, class_), scores in table.groupby(["part", "class"], sort=False):
            if class_ == "all":
                continue
            pooled = scores[scores["over"] == "pooled"].set_index("score")
            means = scores[scores["over"] != "pooled"].set_index("score")
            row: dict[str, Any] = {"part": part, "class": class_, "experiment": experiment}
            row["patients"] = int(pooled["patients"].iloc[0])
            for key, name in (("value", "dice"), ("low", "dice_low"), ("high", "dice_high")):
                row[name] = pooled.loc["dice", key]
            row["dice_mean_over_patients"] = means.loc["dice", "value"]
            rows.append(row | {score: pooled["value"].get(score, np.nan) for score in SCORES})
    order = {experiment: number for number, experiment in enumerate(tables)}
    table = pd.DataFrame(rows)
    keys = ["part", "class", "experiment"]
    return table.sort_values(keys, key=lambda column: column.map(order) if column.name == "experiment" else column)


def draw_comparison(table: pd.DataFrame, classes: list[dict[str, Any]]) -> Figure:
    """Draw the pooled Dice of each experiment: a panel for each part, a line for each experiment."""
    parts, experiments = sorted(set(table["part"]), reverse=True), list(dict.fromkeys(table["experiment"]))
    figure = Figure(figsize=(5.5 * len(parts) + 1, 1.9 + 0.5 * len(experiments)))
    panels = figure.subplots(1, len(parts), squeeze=False, sharex=True, sharey=True)[0]
    for axes, part in zip(panels, parts, strict=True):
        for number, class_ in enumerate(classes):
            rows = table[(table["part"] == part) & (table["class"] == class_["name"])].set_index("experiment")
            rows = rows.reindex(experiments)
            places = np.arange(len(experiments)) + 0.18 * (number - (len(classes) - 1) / 2)
            axes.hlines(places, rows["dice_low"], rows["dice_high"], color=class_["color"])
            axes.plot(rows["dice"], places, "o", color=class_["color"], label=class_["name"])
        axes.set(xlabel="pooled Dice, 95 % interval over patients", title=part)
        axes.set_yticks(range(len(experiments)), experiments)
        axes.set_ylim(len(experiments) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(classes)))
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, params = snakemake.output, snakemake.params
    tables = [pd.read_csv(path, sep="\t") for path in snakemake.input.metrics]
    table = comparison(dict(zip(params.experiments, tables, strict=True)))
    save_table(table, output.table, output.table_html)
    figure = draw_comparison(table, params.classes)
    save_figure(figure, output.figure)
    save_figure(figure, output.figure_svg)
    log.info("%s: %d experiments", output.table, len(params.experiments))
