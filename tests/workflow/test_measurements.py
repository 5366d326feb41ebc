"""Measurements of a study through Snakemake: the delivered table against a count of the test's own."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image, ImageDraw
from shapely.geometry import Polygon, mapping

MM2 = 1e-6
# In finest pixels of the slides, which are 0.5 µm, and twice as fine as the map.
BED = [(60, 40), (440, 80), (380, 360), (90, 330)]


def feature(corners, title):
    """Return a region as QuPath exports it."""
    properties = {"objectType": "annotation", "name": title}
    return {"type": "Feature", "geometry": mapping(Polygon(corners)), "properties": properties}


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """A finished project whose slides of one patient are to be measured in a region of one of them."""
    workflow = finished.copy(tmp_path_factory.mktemp("measured") / "project")
    (workflow.folder / "data/bed.geojson").write_text(json.dumps([feature(BED, "tumour bed")]))
    rows = ["slide\tpatient\tregions", "slide 0.tif\tX\tbed.geojson", "slide 1.tif\tX\t"]
    (workflow.folder / "data/slides.tsv").write_text("\n".join(rows) + "\n")
    margins = {"class": "epithelium", "widths_um": [10, 30], "min_area_um2": 0}
    workflow.configure(measurements={"ratios": [["epithelium", "None"]], "margins": margins})
    return workflow


@pytest.fixture(scope="module")
def measured(project):
    """The table after a run, which has measured alone."""
    assert set(project.planned("measure")) == {"measure_slide", "summarize_measurements", "measure"}
    project.snakemake("measure")
    table = project.folder / "results/slides/default/measurements.tsv"
    return pd.read_csv(table, sep="\t", keep_default_na=False, na_values=["NA"])


def class_map(project, slide):
    """Return the delivered class map."""
    return tifffile.imread(project.folder / f"results/slides/default/{slide}/classes.tif")


def figure(table, level, measure, class_, region, band=""):
    """Return one figure."""
    chosen = table[(table["level"] == level) & (table["measure"] == measure) & (table["region"] == region)]
    (value,) = chosen.loc[(chosen["class"] == class_) & (chosen["band"] == band), "value"]
    return value


def test_areas_and_shares_of_the_region(project, measured):
    classes = class_map(project, "slide 0")
    picture = Image.new("1", classes.shape[::-1])
    ImageDraw.Draw(picture).polygon([(x / 2 - 0.5, y / 2 - 0.5) for x, y in BED], fill=1)
    bed = np.asarray(picture)
    share = (classes[bed] == 1).mean()
    # The drawing of the test's own library has the pixels of the rim too.
    assert figure(measured, "slide", "share of area", "epithelium", "tumour bed") == pytest.approx(share, abs=0.02)
    whole = measured[(measured["level"] == "slide") & (measured["region"] == "tumour bed") & measured["class"].isna()]
    area = whole.loc[(whole["measure"] == "area") & (whole["band"] == ""), "value"].item()
    assert area == pytest.approx(Polygon(BED).area / 4 * MM2, rel=0.01)


def test_a_patient_is_the_sum_of_its_slides(project, measured):
    pixels = sum(np.bincount(class_map(project, f"slide {n}").ravel(), minlength=2) for n in range(2))
    area = figure(measured, "patient", "area", "epithelium", "whole slide")
    assert area == pytest.approx(pixels[1] * MM2, abs=1e-6)
    ratio = figure(measured, "patient", "ratio of areas", "epithelium : None", "whole slide")
    assert ratio == pytest.approx(pixels[1] / pixels[0], rel=1e-4)
    # The region is on one of them.
    of_patient = figure(measured, "patient", "area", "epithelium", "tumour bed")
    assert of_patient == figure(measured, "slide", "area", "epithelium", "tumour bed")


def test_bands_lie_on_their_side_of_the_border(measured):
    assert figure(measured, "all", "share of area", "epithelium", "whole slide", "inside 0-10 µm") > 0.95
    assert figure(measured, "all", "share of area", "epithelium", "whole slide", "outside 0-10 µm") < 0.05


def test_the_report_has_the_table_and_the_figure(project, measured):
    folder = project.folder / "results/slides/default"
    assert (folder / "measurements.png").stat().st_size > 5000
    assert "tumour bed" in (folder / "measurements.html").read_text()


def test_a_changed_region_measures_its_slide_again_and_predicts_nothing(project, measured):
    path = project.folder / "data/bed.geojson"
    path.write_text(json.dumps([feature(BED, "bed")]))
    assert project.planned("measure") == {"measure_slide": 1, "summarize_measurements": 1, "measure": 1}


def test_a_region_of_another_slide_is_refused(project, measured):
    path = project.folder / "data/bed.geojson"
    path.write_text(json.dumps([feature([(9000, 9000), (9100, 9000), (9100, 9100)], "bed")]))
    printed = project.snakemake("measure", check=False)
    assert "bed.geojson: region 'bed' lies outside of the slide, which has 500 x 400 pixels" in printed
    assert "Traceback" not in printed
