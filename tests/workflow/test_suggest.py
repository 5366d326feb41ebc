"""`snakemake suggest`: regions to annotate next, and how they come into a QuPath project."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity

from pathseg.labels.geojson import read_annotations
from pathseg.labels.regions import cut_to
from qupath_files import run_script

pytestmark = pytest.mark.slow

FOLDER = "results/suggestions/default"


def suggested(project):
    return pd.read_csv(project.folder / FOLDER / "suggestions.tsv", sep="\t")


def patients_in(project, part):
    return [patient for patient, there in project.parts().items() if there == part]


def give_patients(project, *patients):
    lines = [f"slide {number}.tif\t{patient}" for number, patient in enumerate(patients)]
    (project.folder / "data/slides.tsv").write_text("\n".join(["slide\tpatient", *lines]) + "\n")


@pytest.fixture(scope="module")
def with_suggestions(finished, tmp_path_factory):
    """The finished project with suggestions on its two slides. Tests must not change it."""
    project = finished.copy(tmp_path_factory.mktemp("suggested") / "project")
    give_patients(project, patients_in(project, "train")[0], "new")
    project.configure(suggestions={"count": 4, "side_um": 40})
    project.plan = project.planned("suggest")
    project.printed = project.snakemake("suggest")
    return project


def test_nothing_else_runs(with_suggestions):
    assert with_suggestions.plan == {"map_doubt": 2, "suggest_regions": 1, "suggest": 1}
    assert with_suggestions.planned("suggest") == {}


def test_the_table_and_the_files_say_the_same(with_suggestions):
    table = suggested(with_suggestions)
    assert len(table) == 4
    assert set(table["slide"]) == {"slide 0", "slide 1"}
    assert list(table["doubt"]) == sorted(table["doubt"], reverse=True)
    assert (table["doubt"] > 0).all()
    assert (table["tissue"] >= 0.5).all()
    assert (table["area_um2"] == 40**2).all()
    for slide, rows in table.groupby("slide"):
        content = json.loads((with_suggestions.folder / FOLDER / f"{slide}.geojson").read_text())
        regions = [f for f in content["features"] if f["properties"]["classification"]["name"] == "Region*"]
        boxes = {f["properties"]["name"]: shapely.geometry.shape(f["geometry"]).bounds for f in regions}
        assert boxes == {
            f"to do {row.suggestion}": (row.x, row.y, row.x + row.width, row.y + row.height)
            for row in rows.itertuples()
        }


def test_what_is_predicted_is_in_the_regions(with_suggestions):
    for number in range(2):
        annotations = read_annotations(with_suggestions.folder / FOLDER / f"slide {number}.geojson")
        boxes = [annotation.polygon for annotation in annotations if annotation.name == "Region*"]
        path = with_suggestions.folder / f"results/slides/default/slide {number}/annotations.geojson.gz"
        inside = [part for box in boxes for part in cut_to(read_annotations(path), [box])]
        written = [annotation for annotation in annotations if annotation.name != "Region*"]
        assert [part.polygon.area for part in written] == [part.polygon.area for part in inside]
        assert {part.name for part in written} <= {"epithelium"}


def test_the_sheet_shows_them(with_suggestions):
    sheet = cv2.imread(str(with_suggestions.folder / FOLDER / "suggestions.png"))
    # The colour of the class, as an outline, and tissue.
    blue = np.abs(sheet.astype(int) - (0xB2, 0x72, 0x00)[::1]).max(axis=-1) < 12
    assert blue.sum() > 200
    assert sheet.std() > 20


def test_held_out_patients_and_what_is_annotated_are_left_out(with_suggestions, tmp_path):
    project = with_suggestions.copy(tmp_path / "project")
    held_out = patients_in(project, "test")[0]
    give_patients(project, held_out, "new")
    first = suggested(project)
    known = first[first["slide"] == "slide 1"].iloc[0]
    box = shapely.box(known.x, known.y, known.x + known.width, known.y + known.height)
    feature = {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(box),
        "properties": {"classification": {"name": "Region*"}},
    }
    (project.folder / "results/qupath/annotations").mkdir(parents=True)
    export = project.folder / "results/qupath/annotations/slide 1.geojson"
    export.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    project.snakemake("annotations")
    project.snakemake("--touch", "predict")
    project.snakemake("suggest")
    table = suggested(project)
    assert set(table["slide"]) == {"slide 1"}
    for row in table.itertuples():
        assert shapely.box(row.x, row.y, row.x + row.width, row.y + row.height).distance(box) >= 0.5 * known.width - 1
    assert json.loads((project.folder / FOLDER / "slide 0.geojson").read_text())["features"] == []


def test_patients_must_be_known(with_suggestions, tmp_path):
    project = with_suggestions.copy(tmp_path / "project")
    (project.folder / "data/slides.tsv").write_text("slide\nslide 0.tif\nslide 1.tif\n")
    printed = project.snakemake("suggest", check=False)
    assert "there is no slide to suggest anything on" in printed
    assert "Traceback" not in printed


def test_they_come_into_the_project_of_qupath_and_back_when_done(with_suggestions, tmp_path):
    project = with_suggestions.copy(tmp_path / "project")
    project.snakemake("qupath")
    folder = project.folder / "results/qupath"
    data = folder / "data/1/data.json"
    assert "objects of default" in run_script(folder, "Import suggestions")
    assert "has the suggestions of default already" in run_script(folder, "Import suggestions")
    content = json.loads(data.read_text())
    file = project.folder / FOLDER / "slide 0.geojson"
    assert content["objects"] == json.loads(file.read_text())["features"]
    run_script(folder, "Export all annotations")
    assert "are still to do" in project.snakemake("annotations")
    assert not (project.folder / "data/annotations").exists()

    # The pathologist takes away all that is in the first region, and says that it is done.
    first, *others = content["objects"]
    first["properties"]["name"] = "done"
    box = shapely.geometry.shape(first["geometry"])
    kept = [first, *(f for f in others if not box.covers(shapely.geometry.shape(f["geometry"])))]
    data.write_text(json.dumps(content | {"objects": kept}))
    # A new round brings what is new, and nothing back into a region that is there.
    features = json.loads(file.read_text())["features"]
    moved = shapely.affinity.translate(box, 10_000, 0)
    new = json.loads(json.dumps(first | {"geometry": shapely.geometry.mapping(moved)}))
    new["id"] = "11111111-2222-3333-4444-555555555555"
    beside = json.loads(json.dumps(first | {"id": "22222222-2222-3333-4444-555555555555"}))
    within = json.loads(json.dumps(others[0] | {"id": "33333333-2222-3333-4444-555555555555"}))
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [*features, new, beside, within]}))
    printed = run_script(folder, "Import suggestions", open_image=1)
    known = sum(f["properties"]["classification"]["name"] == "Region*" for f in features)
    assert f"1 objects of default, without {known + 1} regions that lie on some that are there" in printed
    assert json.loads(data.read_text())["objects"] == [*kept, new]
    data.write_text(json.dumps(content | {"objects": kept}))
    run_script(folder, "Export all annotations")
    project.snakemake("annotations")
    annotations = read_annotations(project.folder / "data/annotations/slide 0.geojson")
    assert next(a.title for a in annotations if a.name == "Region*") == "done"
    changes = pd.read_csv(project.folder / "results/annotations/changes.tsv", sep="\t")
    assert list(changes["what"]) == ["added"]


def test_predictions_do_not_lie_in_regions_and_no_outline_lies_there_twice(with_suggestions, tmp_path):
    project = with_suggestions.copy(tmp_path / "project")
    project.snakemake("qupath")
    folder = project.folder / "results/qupath"
    data = [folder / f"data/{number}/data.json" for number in (1, 2)]
    suggested = [
        json.loads((project.folder / FOLDER / f"slide {number}.geojson").read_text())["features"] for number in range(2)
    ]
    run_script(folder, "Import suggestions")
    assert "that reach into regions" in run_script(folder, "Import all predictions")
    for number, path in enumerate(data):
        objects = json.loads(path.read_text())["objects"]
        boxes = [
            shapely.geometry.shape(f["geometry"])
            for f in objects
            if f["properties"]["classification"]["name"] == "Region*"
        ]
        predicted = objects[len(suggested[number]) :]
        assert objects[: len(suggested[number])] == suggested[number]
        assert not any(box.intersection(shapely.geometry.shape(f["geometry"])).area for box in boxes for f in predicted)
        path.unlink()
    run_script(folder, "Import all predictions")
    assert "the predictions are there already" in run_script(folder, "Import suggestions")
    for number, path in enumerate(data):
        objects = json.loads(path.read_text())["objects"]
        regions = [f for f in suggested[number] if f["properties"]["classification"]["name"] == "Region*"]
        assert objects[-len(regions) :] == regions
        ids = [f["id"] for f in objects]
        assert not {f["id"] for f in suggested[number] if f not in regions} & set(ids)
