"""Slides in batches, through the real Snakemake: one that fails costs itself alone, and none is predicted twice."""

import json
import re
import shutil
import threading
import time

import numpy as np
import psutil
import pytest
import torch
import yaml

from conftest import CLASSES, small_unet
from pathseg_demo.synthesis import draw_field, draw_patient
from workflow_conftest import copy_workflow, job_of, write_slide

NAMES = ["a", "it's b", "Größe (1) #&;~^=+@[2]", "d  d", "e", "f"]
BAD = "it's b"
SLIDES = "results/slides/model-m"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A project of six images, one of them cut off, after a run. Tests must not change it."""
    workflow = copy_workflow(tmp_path_factory.mktemp("batches") / "it's, p")
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0}
    torch.save(content, workflow.folder / "m.pt")
    classes = [{"name": class_["name"], "mask_value": class_["mask_value"]} for class_ in CLASSES]
    config = {"classes": classes, "model": "m.pt", "slides": "scans, all/*.tif"}
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
    assert predicted.printed.count("Finished jobid: ") == 2 + 5
    assert "1 of the slides were not predicted:" in predicted.printed
    said = said_at_the_end(predicted.printed)
    assert said.keys() == {BAD}
    assert said[BAD].startswith(f"scans, all/{BAD}.tif: ")
    assert "Traceback" not in predicted.printed
    log = (predicted.folder / f"results/logs/predict_slide/model-m/{BAD}.log").read_text()
    assert said[BAD] in log
    assert "Traceback" in log
    assert f"details: results/logs/predict_slide/model-m/{BAD}.log" in predicted.printed


def test_a_log_is_of_its_slide_alone(predicted):
    for name in ("a", "e"):
        log = (predicted.folder / f"results/logs/predict_slide/model-m/{name}.log").read_text()
        assert f"INFO {name}: " in log
        assert BAD not in log


def test_nothing_is_left_but_of_what_failed(predicted):
    assert [path.name for path in (predicted.folder / SLIDES / ".predicted").iterdir()] == [BAD]
    assert [path.name for path in (predicted.folder / SLIDES / ".batches").iterdir()] == ["1.json"]


def test_what_failed_is_tried_again_alone(project):
    planned = {"list_batch": 1, "predict_batch": 1, "predict_slide": 1, "summarize_slides": 1, "predict": 1}
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
    assert project.snakemake("predict").count("tissue, ") == 1
    assert before.items() < summaries(project).items()
    assert project.planned("predict") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"prediction": {"min_area_um2": 50}},
        {"classes": [{"name": "None", "mask_value": 0}, {"name": "x", "mask_value": 1}]},
        "model",
    ],
    ids=["min_area_um2", "classes", "model"],
)
def test_what_changes_all_predicts_all(project, change):
    if change == "model":
        time.sleep(0.01)
        (project.folder / "m.pt").write_bytes((project.folder / "m.pt").read_bytes() + b"\0")
    else:
        project.configure(**change)
    planned = project.planned("predict")
    # Those of the first batch, and what failed there.
    assert (planned["predict_batch"], planned["predict_slide"]) == (2, len(NAMES))


@pytest.mark.parametrize(
    "force",
    [
        ["--forcerun", "predict_slide"],
        pytest.param(["--forcerun", "predict_batch"], marks=pytest.mark.slow),
        pytest.param(["--forceall"], marks=pytest.mark.slow),
    ],
)
def test_all_is_predicted_again_when_that_is_asked_for(project, force):
    slide_of(project, BAD).unlink()
    before = summaries(project)
    printed = project.snakemake("predict", *force)
    assert printed.count("tissue, ") == 5
    assert all(time > before[name] for name, time in summaries(project).items())
    assert project.planned("predict") == {}


def test_one_slide_is_predicted_again(project):
    """Asked for by name, because its outputs are gone, or because its file has changed."""
    before = summaries(project)
    target = f"{SLIDES}/a/summary.json"
    assert project.snakemake(target, "--force").count("tissue, ") == 1
    shutil.rmtree(project.folder / SLIDES / "e")
    add_slide(project, "f")
    printed = project.snakemake(*(f"{SLIDES}/{name}/summary.json" for name in NAMES if name != BAD))
    assert sorted(re.findall(r"INFO (\w+): .*tissue, ", printed)) == ["e", "f"]
    after = summaries(project)
    assert {name for name in before if after[name] != before[name]} == {"a", "e", "f"}


def test_a_batch_that_is_killed_goes_on(project):
    """What was done in it is taken over by the next run, and not predicted again."""
    shutil.rmtree(project.folder / SLIDES)
    second = project.folder / SLIDES / ".predicted" / sorted(NAMES)[2]

    def kill():
        while not second.exists():
            time.sleep(0.001)
        job_of(project, "predict_batch").kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert "SIGKILL" in project.snakemake("predict", check=False)
    killer.join()
    done = [path.parent.name for path in project.folder.glob(f"{SLIDES}/.predicted/*/digest")]
    assert done
    assert not summaries(project)
    printed = project.snakemake("predict", check=False)
    assert printed.count("tissue, ") == len(NAMES) - 1 - len(done)
    assert f"{len(done)} were there from before" in printed
    assert summaries(project).keys() == set(NAMES) - {BAD}


@pytest.mark.slow
def test_a_slide_for_which_the_process_is_killed_fails_alone(project):
    """As the system does when memory is used up."""
    shutil.rmtree(project.folder / SLIDES)
    victim = project.folder / SLIDES / ".predicted" / "e"

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
    assert project.planned("predict")["predict_slide"] == 5
    project.snakemake("predict", "--touch")
    assert "predict_slide" not in project.planned("predict")
    write_slide(project.folder / "moved" / "new.tif", np.zeros((150, 200, 3), np.uint8), 1.0)
    assert project.planned("predict")["predict_slide"] == 1


@pytest.mark.slow
def test_a_result_moves_only_when_it_is_whole(project):
    """What an older run has left is not taken for the result of another."""
    left = project.folder / SLIDES / ".predicted" / "new"
    (left / "results").mkdir(parents=True)
    for name in ("classes.tif", "annotations.geojson.gz", "overlay.jpg", "summary.json"):
        (left / "results" / name).write_text("old")
    (left / "digest").write_text("of something else")
    (left / "log").touch()
    add_slide(project, "new")
    project.snakemake(f"{SLIDES}/new/summary.json")
    assert json.loads((project.folder / SLIDES / "new/summary.json").read_text())["slide"] == "new"
