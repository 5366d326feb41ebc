"""`snakemake qupath`: a project whose scripts, run by Groovy with a stand-in of QuPath's classes, do what they say."""

import gzip
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from conftest import ROOT
from qupath_files import CLASSES, PROJECT, check, groovy, run_script

SCRIPTS = sorted((ROOT / "scripts/qupath").glob("*.groovy"))


@pytest.fixture(scope="module")
def with_project(finished, tmp_path_factory):
    """A copy of the finished project with a QuPath project. Tests must not change it, but for what its scripts do."""
    workflow = finished.copy(tmp_path_factory.mktemp("qupath") / "project")
    workflow.snakemake("qupath")
    return workflow


def objects_of(folder, number):
    return json.loads((folder / f"data/{number}/data.json").read_text())["objects"]


def test_the_project_is_what_qupath_reads(with_project):
    folder = with_project.folder / "results/qupath"
    project = json.loads((folder / "project.qpproj").read_text())
    check(project, PROJECT)
    check(json.loads((folder / "classifiers/classes.json").read_text()), CLASSES)
    names = [class_["name"] for class_ in json.loads((folder / "classifiers/classes.json").read_text())["pathClasses"]]
    assert names == ["None", "epithelium", "Region*", "Ignore*"]
    for number in range(2):
        uri = project["images"][number]["serverBuilder"]["uri"]
        assert Path(unquote(urlsplit(uri).path)) == with_project.folder / f"data/slide {number}.tif"
    classifier = json.loads((folder / "classifiers/pixel_classifiers/default.json").read_text())
    model = unquote(urlsplit(classifier["op"]["op"]["ops"][0]["model"]["pathModel"]).path)
    assert Path(model).is_file()
    assert {path.name for path in (folder / "scripts").iterdir()} == {path.name for path in SCRIPTS}
    assert with_project.planned("qupath") == {}


def test_the_scripts_bring_predictions_in_once_and_annotations_out(with_project):
    folder = with_project.folder / "results/qupath"
    first = run_script(folder, "Import all predictions", open_image=1)
    assert "objects of default" in first
    for number in range(2):
        path = with_project.folder / f"results/slides/default/slide {number}/annotations.geojson.gz"
        features = json.loads(gzip.decompress(path.read_bytes()))["features"]
        assert len(features) > 0
        assert objects_of(folder, number + 1) == features
    assert "has the predictions of default already" in run_script(folder, "Import all predictions")
    assert objects_of(folder, 2) == features
    assert "has no suggestions of default" in run_script(folder, "Import suggestions")

    run_script(folder, "Export all annotations", open_image=2)
    for number in range(2):
        exported = json.loads((folder / f"annotations/slide {number}.geojson").read_text())
        assert exported["features"] == objects_of(folder, number + 1)
        record = json.loads((folder / "pathseg/project.json").read_text())
        assert exported["pathseg"] == {"project": record["project"], "slide": f"slide {number}"}


@pytest.mark.slow
def test_a_second_run_adds_a_slide_and_leaves_what_a_person_has_done(with_project, tmp_path):
    project = with_project.copy(tmp_path / "project")
    folder = project.folder / "results/qupath"
    (folder / "scripts/Export all annotations.groovy").write_text("// mine")
    content = json.loads((folder / "project.qpproj").read_text())
    content["images"][0] |= {"imageName": "my slide", "description": "seen"}
    (folder / "project.qpproj").write_text(json.dumps(content))
    (project.folder / "data/slide 2.tif").write_bytes((project.folder / "data/slide 0.tif").read_bytes())
    (project.folder / "data/slides.tsv").write_text("slide\nslide 0.tif\nslide 1.tif\nslide 2.tif\n")
    assert project.planned("qupath") == {
        "list_batch": 2,
        "predict_batch": 1,
        "outline_batch": 1,
        "outline_slide": 1,
        "write_qupath_project": 1,
        "qupath": 1,
    }
    assert "is not as pathseg wrote it" in project.snakemake("qupath")
    after = json.loads((folder / "project.qpproj").read_text())
    assert [image["imageName"] for image in after["images"]] == ["my slide", "slide 1", "slide 2"]
    for image, before in zip(after["images"], content["images"], strict=False):
        # The slides of the copy are the copy's.
        assert image["serverBuilder"].pop("uri") != before["serverBuilder"].pop("uri")
        assert image == before
    assert (folder / "scripts/Export all annotations.groovy").read_text() == "// mine"
    slides = json.loads((folder / "pathseg/project.json").read_text())["slides"]
    for slide in slides.values():
        file = (folder / slide["predictions"]["default"]).resolve()
        assert file == project.folder / f"results/slides/default/{slide['slide']}/annotations.geojson.gz"
        assert file.is_file()
    assert project.planned("qupath") == {}
    # A script of another version is brought in.
    project.edit("scripts/qupath/Import suggestions.groovy", lambda text: text + "// new\n")
    assert project.planned("qupath") == {"write_qupath_project": 1, "qupath": 1}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_groovy_reads_the_scripts(script):
    """Without QuPath's classes, so that no stand-in hides a slip of grammar."""
    reader = "new org.codehaus.groovy.control.CompilationUnit().with { addSource(new File(args[0])); compile(3) }"
    groovy("-e", reader, script)
