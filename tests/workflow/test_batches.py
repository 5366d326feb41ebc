"""Slides in batches, through the real Snakemake: one that fails costs itself alone, and none is predicted twice."""

import gzip
import json
import re
import shutil
import threading
import time

import numpy as np
import psutil
import pytest
import tifffile
import torch
import yaml

from conftest import CLASSES, small_unet
from pathseg_demo.synthesis import draw_field, draw_patient
from workflow_conftest import copy_workflow, job_of, write_slide

# What is compared bit for bit must not hang on a measurement of speed.
EXACT = {"precision": "float32"}
NAMES = ["a", "it's b", "Größe (1) #&;~^=+@[2]", "d  d", "e", "f"]
BAD = "it's b"
SLIDES, ANSWERS = "results/slides/model-m", "results/answers/model-m"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A project of six images, one of them cut off, after a run. Tests must not change it."""
    workflow = copy_workflow(tmp_path_factory.mktemp("batches") / "it's, p")
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0}
    torch.save(content, workflow.folder / "m.pt")
    classes = [{"name": class_["name"], "mask_value": class_["mask_value"]} for class_ in CLASSES]
    config = {"classes": classes, "model": "m.pt", "slides": "scans, all/*.tif", "prediction": EXACT}
    (workflow.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    rng = np.random.default_rng(0)
    (workflow.folder / "scans, all").mkdir()
    for name in NAMES:
        add_slide(workflow, name, draw_field(draw_patient(rng), 150, 200, rng)[0])
    cut = slide_of(workflow, BAD)
    cut.write_bytes(cut.read_bytes()[:30_000])
    workflow.printed = workflow.snakemake("predict", check=False)
    return workflow


@pytest.fixture
def project(predicted, tmp_path):
    return predicted.copy(tmp_path / "project")


def slide_of(workflow, name):
    return workflow.folder / "scans, all" / f"{name}.tif"


def add_slide(workflow, name, image=None):
    write_slide(slide_of(workflow, name), np.zeros((150, 200, 3), np.uint8) if image is None else image, 1.0)


def summaries(workflow):
    """Return when each slide was predicted, by name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in workflow.folder.glob(f"{SLIDES}/*/summary.json")}


def said_at_the_end(printed):
    """Return what the last lines say about slides, by their names."""
    lines = printed.partition("of the slides were not predicted:\n")[2].splitlines()
    found = [re.match("  (.*?): (.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_a_bad_slide_costs_itself_alone_and_is_named_at_the_end(predicted):
    assert summaries(predicted).keys() == set(NAMES) - {BAD}
    assert predicted.printed.count("Finished jobid: ") == 4 + 5
    assert "1 of the slides were not predicted:" in predicted.printed
    said = said_at_the_end(predicted.printed)
    assert said.keys() == {BAD}
    assert said[BAD].startswith(f"scans, all/{BAD}.tif: ")
    assert "Traceback" not in predicted.printed
    log = (predicted.folder / f"results/logs/outline_slide/model-m/{BAD}.log").read_text()
    assert said[BAD] in log
    assert "Traceback" in log
    assert f"details: results/logs/outline_slide/model-m/{BAD}.log" in predicted.printed


def test_a_log_is_of_its_slide_alone(predicted):
    for name in ("a", "e"):
        log = (predicted.folder / f"results/logs/outline_slide/model-m/{name}.log").read_text()
        assert f"INFO {name}: predicted in" in log
        assert f"INFO {name}: gland" in log or f"INFO {name}: epithelium" in log
        assert BAD not in log


def test_nothing_is_left_but_of_what_failed(predicted):
    assert list((predicted.folder / SLIDES / ".outlined").iterdir()) == []
    made = {path.name for path in (predicted.folder / SLIDES / ".batches").iterdir()}
    assert made == {"1.json", "1.outlined.json"}
    assert {path.name for path in (predicted.folder / ANSWERS / BAD).iterdir()} == {"log", "failed"}


@pytest.mark.slow
def test_what_failed_is_tried_again_alone(project):
    batch = {"list_batch": 2, "predict_batch": 1, "outline_batch": 1}
    planned = {**batch, "outline_slide": 1, "summarize_slides": 1, "predict": 1}
    assert project.planned("predict") == planned
    before = summaries(project)
    # It fails again, and is said to; then it is mended.
    assert said_at_the_end(project.snakemake("predict", check=False)).keys() == {BAD}
    shutil.copy(slide_of(project, "a"), slide_of(project, BAD))
    project.snakemake("predict")
    assert before.items() < summaries(project).items()
    assert summaries(project).keys() == set(NAMES)
    assert project.planned("predict") == {}
    # One more predicts itself alone.
    before = summaries(project)
    add_slide(project, "new")
    assert project.planned("predict") == planned
    assert project.snakemake("predict").count("predicted in") == 1
    assert before.items() < summaries(project).items()
    assert project.planned("predict") == {}


@pytest.mark.parametrize(
    "change",
    [{"prediction": {"tta": True}}, "model"],
    ids=["tta", "model"],
)
def test_what_changes_all_predicts_all(project, change):
    if change == "model":
        time.sleep(0.01)
        (project.folder / "m.pt").write_bytes((project.folder / "m.pt").read_bytes() + b"\0")
    else:
        project.configure(**change)
    planned = project.planned("predict")
    # Those of the first batch, and what failed there.
    assert (planned["predict_batch"], planned["outline_batch"], planned["outline_slide"]) == (2, 2, len(NAMES))


def made_of(workflow, name):
    """Return the outlines of a slide, and its class map with its colours."""
    folder = workflow.folder / SLIDES / name
    outlines = gzip.decompress((folder / "annotations.geojson.gz").read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    times = ("seconds", "seconds_by_stage")
    known = {key: value for key, value in summary.items() if key not in times}
    return outlines, (folder / "classes.tif").read_bytes(), (folder / "overlay.jpg").read_bytes(), known


def test_colours_and_smallest_areas_predict_nothing_and_give_what_a_fresh_run_gives(project):
    slide_of(project, BAD).unlink()
    names = set(NAMES) - {BAD}
    before = {name: made_of(project, name) for name in names}
    colors = ["#111111", "#22aa33"]
    classes = [
        {"name": class_["name"], "mask_value": class_["mask_value"], "color": color}
        for class_, color in zip(CLASSES, colors, strict=True)
    ]
    project.configure(classes=classes, prediction=EXACT | {"min_area_um2": 30, "objects": "detection"})
    assert not [rule for rule in project.planned("predict") if rule.startswith("predict_")]
    printed = project.snakemake("predict")
    assert "predicted in" not in printed
    assert re.search(r"outline_slide +5", printed)
    after = {name: made_of(project, name) for name in names}
    assert all(after[name][part] != before[name][part] for name in names for part in (0, 1, 2))
    with tifffile.TiffFile(project.folder / SLIDES / "a/classes.tif") as tiff:
        assert tiff.pages[0].colormap[:, 1].tolist() == [257 * 0x22, 257 * 0xAA, 257 * 0x33]
    assert project.planned("predict") == {}
    shutil.rmtree(project.folder / "results")
    assert project.snakemake("predict").count("predicted in") == 5
    assert {name: made_of(project, name) for name in names} == after


@pytest.mark.slow
def test_without_what_the_network_has_said_the_next_run_predicts(project):
    """It may be deleted: nothing follows from that until something else is to be made of it."""
    slide_of(project, BAD).unlink()
    shutil.rmtree(project.folder / ANSWERS)
    assert project.planned("predict").keys() <= {"summarize_slides", "predict"}
    project.configure(prediction={"min_area_um2": 30})
    printed = project.snakemake("predict", check=False)
    assert said_at_the_end(printed)["a"].endswith("run once more, and it is predicted again")
    assert project.snakemake("predict").count("predicted in") == 5
    assert project.planned("predict") == {}


@pytest.mark.parametrize(
    "force",
    [
        ["--forcerun", "predict_batch"],
        pytest.param(["--forceall"], marks=pytest.mark.slow),
    ],
)
def test_all_is_predicted_again_when_that_is_asked_for(project, force):
    slide_of(project, BAD).unlink()
    before = summaries(project)
    printed = project.snakemake("predict", *force)
    assert printed.count("predicted in") == 5
    assert all(time > before[name] for name, time in summaries(project).items())
    assert project.planned("predict") == {}


def test_one_slide_is_predicted_again(project):
    """Asked for by name, because its outputs are gone, or because its file has changed."""
    before = summaries(project)
    target = f"{SLIDES}/a/summary.json"
    assert project.snakemake(target, "--force").count("predicted in") == 1
    shutil.rmtree(project.folder / SLIDES / "e")
    shutil.rmtree(project.folder / ANSWERS / "e")
    shutil.rmtree(project.folder / SLIDES / "d  d")
    add_slide(project, "f")
    printed = project.snakemake(*(f"{SLIDES}/{name}/summary.json" for name in NAMES if name != BAD))
    assert sorted(re.findall(r"INFO (\w+): predicted in", printed)) == ["e", "f"]
    after = summaries(project)
    # Of the other one that was gone, what the network says was still there.
    assert {name for name in before if after[name] != before[name]} == {"a", "d  d", "e", "f"}


@pytest.mark.slow
def test_a_batch_that_is_killed_goes_on(project):
    """What was done in it is taken over by the next run, and not predicted again."""
    shutil.rmtree(project.folder / SLIDES)
    shutil.rmtree(project.folder / ANSWERS)
    second = project.folder / ANSWERS / sorted(NAMES)[2]

    def kill():
        while not second.exists():
            time.sleep(0.001)
        job_of(project, "predict_batch").kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert "SIGKILL" in project.snakemake("predict", check=False)
    killer.join()
    done = [path.parent.name for path in project.folder.glob(f"{ANSWERS}/*/digest")]
    assert done
    assert not summaries(project)
    printed = project.snakemake("predict", check=False)
    assert printed.count("predicted in") == len(NAMES) - 1 - len(done)
    assert f"{len(done)} were there from before" in printed
    assert summaries(project).keys() == set(NAMES) - {BAD}


@pytest.mark.slow
def test_a_slide_for_which_the_process_is_killed_fails_alone(project):
    """As the system does when memory is used up."""
    shutil.rmtree(project.folder / SLIDES)
    shutil.rmtree(project.folder / ANSWERS)
    victim = project.folder / ANSWERS / "e"

    def kill():
        while not victim.exists():
            time.sleep(0.001)
        (worker,) = psutil.Process(job_of(project, "predict_batch").pid).children()
        worker.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    printed = project.snakemake("predict", check=False)
    killer.join()
    assert said_at_the_end(printed)["e"] == "the process was ended (SIGKILL), most likely for want of memory"
    assert summaries(project).keys() == set(NAMES) - {BAD, "e"}


@pytest.mark.slow
def test_slides_that_have_moved_are_taken_for_up_to_date_when_that_is_asked_for(project):
    """And stay so when one more comes."""
    (project.folder / "scans, all").rename(project.folder / "moved")
    (project.folder / "moved" / f"{BAD}.tif").unlink()
    project.configure(slides="moved/*.tif")
    assert project.planned("predict")["outline_slide"] == 5
    project.snakemake("predict", "--touch")
    assert "outline_slide" not in project.planned("predict")
    write_slide(project.folder / "moved" / "new.tif", np.zeros((150, 200, 3), np.uint8), 1.0)
    assert project.planned("predict")["outline_slide"] == 1


@pytest.mark.slow
def test_a_result_moves_only_when_it_is_whole(project):
    """What an older run has left is not taken for the result of another."""
    left = project.folder / SLIDES / ".outlined" / "new"
    (left / "results").mkdir(parents=True)
    for name in ("classes.tif", "annotations.geojson.gz", "overlay.jpg", "summary.json"):
        (left / "results" / name).write_text("old")
    (left / "digest").write_text("of something else")
    (left / "log").touch()
    add_slide(project, "new")
    project.snakemake(f"{SLIDES}/new/summary.json")
    assert json.loads((project.folder / SLIDES / "new/summary.json").read_text())["slide"] == "new"
