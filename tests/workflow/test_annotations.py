"""`snakemake annotations`: what is drawn in QuPath becomes samples of patients who keep their part."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.geometry import mapping

from pathseg.tiles.database import TileDatabase


def annotation(geometry, name):
    return {
        "type": "Feature",
        "geometry": mapping(geometry),
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


REGION = annotation(shapely.box(100, 100, 300, 260), "Region*")
GLAND = annotation(shapely.box(140, 140, 240, 220), "epithelium")


@pytest.fixture(scope="module")
def annotated(finished, tmp_path_factory):
    """The finished project, whose slide 0 has a region. Tests must not change it."""
    project = finished.copy(tmp_path_factory.mktemp("annotated") / "project")
    (project.folder / "data/slides.tsv").write_text("slide\tpatient\nslide 0.tif\tBär\nslide 1.tif\tnew\n")
    folder = project.folder / "results/qupath"
    (folder / "annotations").mkdir(parents=True)
    (folder / "pathseg").mkdir()
    (folder / "pathseg/project.json").write_text(json.dumps({"project": "this"}))
    export(project, REGION, GLAND)
    project.table_before = (project.folder / "data/samples.tsv").read_text()
    project.printed = project.snakemake("annotations")
    return project


def export(project, *features, slide="slide 0"):
    path = project.folder / f"results/qupath/annotations/{slide}.geojson"
    mark = {"pathseg": {"project": "this", "slide": slide}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | mark))


def test_a_row_is_added_and_only_its_part_is_cut_again(annotated):
    assert "1 added" in annotated.printed
    table = (annotated.folder / "data/samples.tsv").read_text()
    header, *rows = annotated.table_before.splitlines()
    assert table.splitlines() == [header, *rows, "slide 0\tBär\tslide 0.tif\tannotations/slide 0.geojson\t"]
    part = annotated.parts()["Bär"]
    assert annotated.planned("annotations") == {}
    planned = annotated.planned("databases")
    assert planned == {"split_patients": 1} | ({"build_database": 1} if part != "test" else {}) | {"databases": 1}


def test_nothing_is_known_outside_of_the_region(annotated):
    part = annotated.parts()["Bär"]
    path = f"results/databases/{part}.h5"
    annotated.snakemake(path, "results/cohort/split.tsv")
    with TileDatabase(annotated.folder / path) as database:
        masks = database.read("mask", np.flatnonzero([name == "slide 0" for name in database.samples]))
        # 200 x 160 pixels of 0.5 µm at 1 µm per pixel: each is in a tile at least once.
        assert (masks[masks < 255] == 0).any()
        assert (masks == 1).any()
        assert (masks == 255).mean() > 0.2
    split = pd.read_csv(annotated.folder / "results/cohort/split.tsv", sep="\t", keep_default_na=False)
    (row,) = split[split["sample"] == "slide 0"].to_dict("records")
    assert (row["part"], row["pixels_None"], row["pixels_epithelium"]) == (part, 200 * 160 - 8000, 8000)
    assert annotated.parts()["Bär"] == part


def test_what_is_wrong_is_said_and_the_rest_is_taken(annotated, tmp_path):
    project = annotated.copy(tmp_path / "project")
    export(project, REGION, annotation(shapely.box(150, 150, 200, 200), "necrosis"))
    export(project, REGION, slide="slide 1")
    printed = project.snakemake("annotations", check=False)
    assert "add {name: 'necrosis', mask_value: 256}" in printed
    assert "Traceback" not in printed
    table = (project.folder / "data/samples.tsv").read_text().splitlines()
    assert table[0].endswith("\tpart")
    assert table[-1] == "slide 1\tnew\tslide 1.tif\tannotations/slide 1.geojson\t\ttrain"
    # What was taken stays on record, and is not for the terminal alone.
    assert "run Snakemake again to train with them" in printed
    history = pd.read_csv(project.folder / "data/annotations/history.tsv", sep="\t")
    assert list(history["slide"] + ": " + history["what"]) == ["slide 0: added", "slide 1: added"]
    assert history["date"].str.fullmatch(r"20\d\d-\d\d-\d\d").all()


def test_a_last_region_that_is_gone_is_kept_and_no_reason_to_train(annotated, tmp_path):
    project = annotated.copy(tmp_path / "project")
    export(project, GLAND)
    printed = project.snakemake("annotations")
    assert "what it had is still learned from. To forget it, remove its row" in printed
    assert "regions: 1 kept" in printed
    assert "run Snakemake again" not in printed
    changes = pd.read_csv(project.folder / "results/annotations/changes.tsv", sep="\t")
    assert list(changes["what"]) == ["kept"]
    assert len((project.folder / "data/annotations/history.tsv").read_text().splitlines()) == 2


def test_without_exports_it_is_said_where_they_belong(annotated, tmp_path):
    project = annotated.copy(tmp_path / "project")
    (project.folder / "results/qupath/annotations/slide 0.geojson").unlink()
    printed = project.snakemake("annotations", check=False)
    assert "there are no exported annotations; in QuPath, run the script" in printed
    assert "Traceback" not in printed
