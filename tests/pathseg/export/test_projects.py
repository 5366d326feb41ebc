"""A QuPath project is made once; later runs add what is new and leave what a person has changed."""

import json
import shutil

import pytest

from pathseg.colors import packed
from pathseg.errors import ProjectError
from pathseg.export.projects import (
    QUPATH_CLASSES,
    Record,
    add_classes,
    add_file,
    add_images,
    read_record,
    removed_slides,
    write_record,
)
from qupath_files import CLASSES, PROJECT, check


def slide(path):
    """A slide's name and URI; its file is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return {"slide": path.stem, "uri": path.as_uri()}


def run(folder, slides):
    """A run that brings slides into a project."""
    folder.mkdir(exist_ok=True)
    record = read_record(folder)
    said = add_images(folder, record, slides)
    write_record(folder, record)
    return said


def project_of(folder):
    return json.loads((folder / "project.qpproj").read_text())


def edit(path, change):
    """What a person does in QuPath."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def made(tmp_path):
    """A project of two slides, one with a name that a URI must escape."""
    slides = [slide(tmp_path / "scans" / name) for name in ("a b.svs", "Ö#1.svs")]
    run(tmp_path / "q", slides)
    return tmp_path / "q", slides


def test_fields_that_qupath_reads(made):
    folder, _slides = made
    content = project_of(folder)
    check(content, PROJECT)
    assert [image["imageName"] for image in content["images"]] == ["a b", "Ö#1"]
    assert content["images"][1]["serverBuilder"]["uri"].endswith("/scans/%C3%96%231.svs")
    assert content["lastID"] == 2
    assert content["uri"] == (folder / "project.qpproj").as_uri()
    add_classes(folder, Record(), {"gland": "#ff0000"} | QUPATH_CLASSES)
    classes = json.loads((folder / "classifiers/classes.json").read_text())
    check(classes, CLASSES)
    assert classes["pathClasses"][0] == {"name": "gland", "color": -65536}


def test_a_second_run_without_news_changes_no_byte(made):
    folder, slides = made
    before = (folder / "project.qpproj").read_bytes()
    assert run(folder, slides) == []
    assert (folder / "project.qpproj").read_bytes() == before


def test_what_a_person_has_changed_stays(made, tmp_path):
    folder, slides = made

    def work(content):
        content["images"][0] |= {"imageName": "my name", "description": "x", "metadata": {"stain": "HE"}}
        content["images"].pop(1)
        own = {"builderType": "uri", "uri": "file:/x/own.svs", "args": ["--series", "0"], "metadata": {"width": 5}}
        nested = {"builderType": "rotated", "builder": own, "rotation": "ROTATE_90"}
        content["images"].append({"serverBuilder": nested, "entryID": 7, "imageName": "own", "metadata": {}})
        content["lastID"] = 9
        content["something new"] = {"of": "QuPath"}

    edit(folder / "project.qpproj", work)
    before = project_of(folder)
    said = run(folder, [*slides, slide(tmp_path / "scans/c.svs")])
    after = project_of(folder)
    assert said == ["Ö#1: was removed from the project, and is left out", "c: added"]
    assert after["images"][:2] == before["images"]
    assert after["images"][2]["entryID"] == 10
    assert (after["lastID"], after["something new"]) == (10, {"of": "QuPath"})


def test_an_image_that_is_there_already_is_not_added_again(tmp_path):
    """A project that a person has made, without a record; Java writes URIs with one slash."""
    folder = tmp_path / "q"
    one = slide(tmp_path / "scans/a b.svs")
    run(folder, [one])
    shutil.rmtree(folder / "pathseg")
    edit(
        folder / "project.qpproj",
        lambda content: content["images"][0]["serverBuilder"].update(uri=one["uri"].replace("file:///", "file:/")),
    )
    assert run(folder, [one]) == []
    assert len(project_of(folder)["images"]) == 1


def test_a_project_that_moved_with_its_slides_knows_them(tmp_path):
    """As QuPath resolves them: relative to where the project was."""
    study = tmp_path / "study"
    run(study / "q", [slide(study / "scans/a.svs")])
    shutil.rmtree(study / "q/pathseg")
    study.rename(tmp_path / "moved")
    moved = slide(tmp_path / "moved/scans/a.svs")
    assert run(tmp_path / "moved/q", [moved]) == []
    assert len(project_of(tmp_path / "moved/q")["images"]) == 1


def test_a_slide_whose_file_moved_keeps_its_place(made, tmp_path):
    folder, slides = made
    moved = slide(tmp_path / "elsewhere/a b.svs")
    assert run(folder, [moved, slides[1]]) == [f"a b: its file is now {moved['uri']}"]
    assert [image["serverBuilder"]["uri"] for image in project_of(folder)["images"]] == [moved["uri"], slides[1]["uri"]]


def test_a_file_that_a_person_has_shown_to_qupath_stays(made, tmp_path):
    folder, slides = made
    edit(folder / "project.qpproj", lambda c: c["images"][0]["serverBuilder"].update(uri="file:/mine/a.svs"))
    assert run(folder, slides) == []
    assert project_of(folder)["images"][0]["serverBuilder"]["uri"] == "file:/mine/a.svs"


def test_classes_are_added_once_and_keep_their_colours(tmp_path):
    record, path = Record(), tmp_path / "classifiers/classes.json"
    add_classes(tmp_path, record, {"gland": "#ff0000", "nerve": "#00ff00"})
    edit(path, lambda content: (content["pathClasses"].pop(1), content["pathClasses"][0].update(color=5)))
    add_classes(tmp_path, record, {"gland": "#ff0000", "nerve": "#00ff00", "fat": "#0000ff"})
    assert json.loads(path.read_text())["pathClasses"] == [
        {"name": "gland", "color": 5},
        {"name": "fat", "color": packed("#0000ff")},
    ]


def test_files_are_renewed_unless_a_person_has_changed_or_removed_them(tmp_path):
    record = Record()
    assert add_file(tmp_path, record, "scripts/a.groovy", "1") is None
    assert add_file(tmp_path, record, "scripts/a.groovy", "2") is None
    assert (tmp_path / "scripts/a.groovy").read_text() == "2"
    (tmp_path / "scripts/a.groovy").write_text("mine")
    assert "is left as it is" in add_file(tmp_path, record, "scripts/a.groovy", "3")
    assert (tmp_path / "scripts/a.groovy").read_text() == "mine"
    (tmp_path / "scripts/a.groovy").unlink()
    assert "was removed" in add_file(tmp_path, record, "scripts/a.groovy", "3")
    assert not (tmp_path / "scripts/a.groovy").exists()


def test_a_project_that_was_moved_away_is_made_anew(made):
    folder, slides = made
    (folder / "project.qpproj").rename(folder / "old.qpproj")
    assert removed_slides(folder) == set()
    assert run(folder, slides) == ["a b: added", "Ö#1: added"]
    assert len(project_of(folder)["images"]) == 2


def test_what_a_person_has_removed_is_known(made, tmp_path):
    folder, _slides = made
    assert removed_slides(folder) == removed_slides(tmp_path / "nowhere") == set()
    edit(folder / "project.qpproj", lambda content: content["images"].pop(0))
    assert removed_slides(folder) == {"a b"}


def test_a_damaged_project_is_refused_and_kept(made):
    folder, slides = made
    for content, words in (("{", "cannot be read"), ("[]", "is not what QuPath"), ('{"images": 3}', "0.2 or newer")):
        (folder / "project.qpproj").write_text(content)
        with pytest.raises(ProjectError, match=words):
            run(folder, slides)
        assert (folder / "project.qpproj").read_text() == content
