"""From the sums of slides to what a study reports: one long table, and a figure.

A patient's share, density or ratio is that of the sums over the patient's slides. That of all is the mean over
patients, with the interval of `pathseg.scores.intervals`.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pathseg.errors import ConfigError
from pathseg.measurements.slide import WHOLE_SLIDE
from pathseg.scores.intervals import interval_of_mean

SUMS = ["area_mm2", "objects"]
PLACE = ["region", "band"]
# Measures with their units, and the scale on which patients differ (see `pathseg.scores.intervals.interval`).
AREA, SHARE, COUNT, DENSITY = "area", "share of area", "objects", "objects per area"
AREA_RATIO, COUNT_RATIO = "ratio of areas", "ratio of objects"
UNITS = {AREA: "mm2", SHARE: "", COUNT: "", DENSITY: "1/mm2", AREA_RATIO: "", COUNT_RATIO: ""}
SCALES = dict.fromkeys(UNITS, "positive") | {SHARE: "share"}
COLUMNS = ["level", "slide", "patient", *PLACE, "class", "measure", "unit", "value", "low", "high", "interval", "count"]
# Regions and classes that the figure shows at most.
MOST_REGIONS, MOST_CLASSES = 6, 12


def study_table(sums: pd.DataFrame, ratios: list[list[str]]) -> pd.DataFrame:
    """Return one row for each figure.

    Parameters
    ----------
    sums
        Of all slides: `slide`, `patient`, `region`, `band`, `class`, `area_mm2`, `objects`.
    ratios
        Pairs of classes, of which the first is divided by the second.

    Returns
    -------
    pandas.DataFrame
        `level` ("slide", "patient" or "all"), `slide` and `patient` (missing where it is of several), `region`, `band`,
        `class` (missing for all classes together; of a ratio both), `measure`, `unit`, `value`, and of all patients
        `low`, `high`, `interval` ("95 %" or "range") and `count`, the patients that have the value.

    Raises
    ------
    ConfigError
        If the model has no such class.
    """
    order = {name: number for number, name in enumerate(dict.fromkeys(sums["class"]))}
    for name in sorted({name for pair in ratios for name in pair} - set(sums["class"])):
        raise ConfigError(f"measurements.ratios: {name!r} is no class of the model; use any of {', '.join(order)}")
    slides = _measured(sums, ["slide", "patient"], ratios, order)
    patients = _measured(sums, ["patient"], ratios, order)
    table = pd.concat(
        [slides.assign(level="slide"), patients.assign(level="patient"), _over_patients(patients).assign(level="all")],
        ignore_index=True,
    )
    table["unit"] = table["measure"].map(UNITS)
    return table.reindex(columns=COLUMNS).astype({"count": "Int64"})


def _measured(sums: pd.DataFrame, of: list[str], ratios: list[list[str]], order: dict[str, int]) -> pd.DataFrame:
    """Measure what is summed up over each group of slides."""
    keys = [*of, *PLACE]
    each = sums.groupby([*keys, "class"], sort=False, as_index=False)[SUMS].agg(_sum)
    whole = each.groupby(keys, sort=False, as_index=False)["area_mm2"].sum()
    joined = each.merge(whole, on=keys, suffixes=("", "_whole"))
    parts = [
        whole.assign(measure=AREA, value=whole["area_mm2"]),
        joined.assign(measure=AREA, value=joined["area_mm2"]),
        joined.assign(measure=SHARE, value=_divided(joined["area_mm2"], joined["area_mm2_whole"])),
    ]
    counted = joined[joined["objects"].notna()]
    parts += [
        counted.assign(measure=COUNT, value=counted["objects"]),
        counted.assign(measure=DENSITY, value=_divided(counted["objects"], counted["area_mm2_whole"])),
    ]
    for first, second in ratios:
        two = each[each["class"] == first].merge(each[each["class"] == second], on=keys, suffixes=("", "_second"))
        two["class"] = f"{first} : {second}"
        parts.append(two.assign(measure=AREA_RATIO, value=_divided(two["area_mm2"], two["area_mm2_second"])))
        both = two[two["objects"].notna() & two["objects_second"].notna()]
        parts.append(both.assign(measure=COUNT_RATIO, value=_divided(both["objects"], both["objects_second"])))
    table = pd.concat(parts, ignore_index=True)[[*keys, "class", "measure", "value"]]
    places = {place: number for number, place in enumerate(dict.fromkeys(map(tuple, sums[keys].to_numpy().tolist())))}
    table["_place"] = [places[tuple(row)] for row in table[keys].to_numpy().tolist()]
    # First what is of all classes, then each, then ratios.
    table["_class"] = table["class"].map(lambda name: order.get(name, len(order))).where(table["class"].notna(), -1)
    return table.sort_values(["_place", "_class"], kind="stable").drop(columns=["_place", "_class"])


def _sum(values: pd.Series) -> float:
    """Add up; what is missing everywhere stays missing."""
    return float(values.sum(min_count=1))


def _divided(above: pd.Series, below: pd.Series) -> pd.Series:
    """Divide; by nothing is missing."""
    return above / below.where(below > 0)


def _over_patients(patients: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each figure over patients, with its interval."""
    rows = []
    keys = [*PLACE, "class", "measure"]
    for key, group in patients.groupby(keys, sort=False, dropna=False):
        values = group["value"].to_numpy(float)
        mean, found = interval_of_mean(values, SCALES[str(key[-1])])
        rows.append(
            dict(zip(keys, key, strict=True))
            | {"value": mean, "low": found.low, "high": found.high, "interval": found.kind}
            | {"count": int((~np.isnan(values)).sum())}
        )
    return pd.DataFrame(rows)


def draw_study(table: pd.DataFrame, colors: dict[str, str]) -> Figure:
    """Draw the share of each class but the first in each region, by patient, and densities where objects are counted.

    Parameters
    ----------
    table
        Of `study_table`.
    colors
        Of the classes, in their order.
    """
    names = list(colors)[1 : MOST_CLASSES + 1]
    table = table[table["class"].isin(names) & (table["band"] == "")]
    regions = list(dict.fromkeys(table["region"]))
    # Drawn regions are what was asked for; the slide is what there is else.
    regions = [name for name in regions if name != WHOLE_SLIDE][:MOST_REGIONS] or [WHOLE_SLIDE]
    measures = [measure for measure in (SHARE, DENSITY) if (table["measure"] == measure).any()]
    height = 1.1 + (0.45 * len(names) + 0.8) * len(regions)
    figure = Figure(figsize=(6.5 * len(measures), height))
    grid = figure.subplots(len(regions), len(measures), squeeze=False, sharex="col", sharey=True)
    for row, region in zip(grid, regions, strict=True):
        for axes, measure in zip(row, measures, strict=True):
            chosen = table[(table["region"] == region) & (table["measure"] == measure)]
            _draw_patients(axes, chosen, names, colors, 100 if measure == SHARE else 1)
            axes.set_title(region if axes is row[0] else "", loc="left")
    for axes, measure in zip(grid[-1], measures, strict=True):
        axes.set_xlabel("share of the area in %" if measure == SHARE else "objects per mm²")
        axes.set_xlim(left=0)
    figure.suptitle(
        "Dots are patients; lines are their mean and its 95 % interval, or the range of fewer than four", fontsize=10
    )
    return figure


def _draw_patients(axes: Axes, table: pd.DataFrame, names: list[str], colors: dict[str, str], factor: float) -> None:
    """Draw a row of dots for each class, and the mean over them."""
    for place, name in enumerate(names):
        of_class = table[table["class"] == name]
        values = of_class.loc[of_class["level"] == "patient", "value"].dropna().to_numpy() * factor
        # Side by side, so that equal values are seen.
        shifts = place + 0.25 * (np.arange(len(values)) % 5 - 2) / 2
        axes.plot(values, shifts, "o", color=colors[name], alpha=0.6, markersize=5, markeredgewidth=0)
        of_all = of_class.loc[of_class["level"] == "all", ["value", "low", "high"]].to_numpy(float) * factor
        for mean, *ends in of_all:
            axes.plot([mean, mean], [place - 0.38, place + 0.38], color="black", linewidth=2)
            # Of one patient there are no ends, and NaN is not drawn.
            axes.plot(ends, [place, place], color="black", linewidth=1)
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticklabels(names)
    axes.grid(visible=False, axis="y")
