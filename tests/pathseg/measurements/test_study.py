"""The long table: sums over slides of a patient, means and intervals over patients."""

import numpy as np
import pandas as pd
import pytest

from pathseg.measurements.study import draw_study, study_table
from pathseg.scores.intervals import interval_of_mean

AREAS = {("s1", "A"): (1.0, 2.0, 1.0), ("s2", "A"): (1.0, 0.0, 3.0), ("s3", "B"): (2.0, 1.0, 1.0)}
OBJECTS = {"s1": 10, "s2": 2, "s3": 8}


@pytest.fixture
def sums():
    """Three slides of two patients, measured whole and in one region that is half of it."""
    rows = []
    for (slide, patient), areas in AREAS.items():
        for region, share in (("whole slide", 1), ("bed", 0.5)):
            for name, area in zip(("glass", "tumour", "stroma"), areas, strict=True):
                count = OBJECTS[slide] * share if name == "tumour" else np.nan
                rows.append((slide, patient, region, "", name, area * share, count))
    columns = ["slide", "patient", "region", "band", "class", "area_mm2", "objects"]
    return pd.DataFrame(rows, columns=columns)


def value(table, level, measure, class_=None, region="bed", **of):
    """Return the one figure that this is."""
    chosen = table[(table["level"] == level) & (table["measure"] == measure) & (table["region"] == region)]
    chosen = chosen[chosen["class"].isna()] if class_ is None else chosen[chosen["class"] == class_]
    for column, name in of.items():
        chosen = chosen[chosen[column] == name]
    (row,) = chosen.to_dict("records")
    return row


def test_figures_are_of_the_sums(sums):
    table = study_table(sums, [["tumour", "stroma"]])
    assert value(table, "slide", "area", slide="s1")["value"] == 2.0
    assert value(table, "slide", "share of area", "tumour", slide="s1")["value"] == 0.5
    assert value(table, "slide", "objects per area", "tumour", slide="s1")["value"] == 2.5
    assert value(table, "slide", "ratio of areas", "tumour : stroma", slide="s1")["value"] == 2.0
    # Of both slides of the patient together, not the mean of theirs.
    assert value(table, "patient", "share of area", "tumour", patient="A")["value"] == 0.25
    assert value(table, "patient", "objects", "tumour", patient="A")["value"] == 6
    assert value(table, "patient", "objects per area", "tumour", patient="A")["value"] == 1.5
    assert value(table, "patient", "ratio of areas", "tumour : stroma", patient="A")["value"] == 0.5
    assert not (table["measure"] == "ratio of objects").any()
    assert set(table.loc[table["measure"] == "objects", "class"]) == {"tumour"}


def test_all_is_the_mean_over_patients_with_its_interval(sums):
    table = study_table(sums, [])
    all_of_it = value(table, "all", "share of area", "tumour")
    assert all_of_it["value"] == pytest.approx((0.25 + 0.25) / 2)
    assert (all_of_it["interval"], all_of_it["count"]) == ("range", 2)
    many = pd.concat([sums.assign(slide=f"x{n}", patient=f"P{n}") for n in range(6)])
    many["area_mm2"] *= np.random.default_rng(1).uniform(0.5, 2, len(many))
    table = study_table(many, [])
    chosen = table[(table["measure"] == "share of area") & (table["class"] == "stroma") & (table["region"] == "bed")]
    values = chosen.loc[chosen["level"] == "patient", "value"].to_numpy()
    mean, interval = interval_of_mean(values, "share")
    row = value(table, "all", "share of area", "stroma")
    assert (row["value"], row["low"], row["high"]) == pytest.approx((mean, interval.low, interval.high))
    assert (row["interval"], row["count"]) == ("95 %", 6)


def test_by_nothing_is_missing(sums):
    sums.loc[sums["class"] == "stroma", "area_mm2"] = 0
    table = study_table(sums, [["tumour", "stroma"]])
    assert table.loc[table["measure"] == "ratio of areas", "value"].isna().all()
    assert value(table, "all", "ratio of areas", "tumour : stroma")["count"] == 0


def test_the_order_is_that_of_slides_regions_and_classes(sums):
    table = study_table(sums, [["tumour", "stroma"]])
    slides = table[table["level"] == "slide"]
    assert list(dict.fromkeys(slides["slide"])) == ["s1", "s2", "s3"]
    first = slides[slides["slide"] == "s1"]
    assert list(dict.fromkeys(first["region"])) == ["whole slide", "bed"]
    assert list(dict.fromkeys(first["class"].dropna())) == ["glass", "tumour", "stroma", "tumour : stroma"]


def test_the_figure_has_what_was_drawn_and_the_slide_else(sums):
    colors = {"glass": "#999999", "tumour": "#0072B2", "stroma": "#D55E00"}
    figure = draw_study(study_table(sums, []), colors)
    assert figure.axes[0].get_title("left") == "bed"
    assert len(figure.axes) == 2
    whole = sums[sums["region"] == "whole slide"].assign(objects=np.nan)
    assert len(draw_study(study_table(whole, []), colors).axes) == 1
