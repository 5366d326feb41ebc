"""One bad input of each topic of tests/bad_inputs.py through Snakemake itself: its sentence is what a user reads.

Archives are in test_archive.py.
"""

import json
import os
import re

import numpy as np
import pytest
import torch
from bad_inputs import CASES, CROSSED, Payload, feature

from conftest import CLASSES, small_unet, write_image
from workflow_conftest import copy_workflow, write_project

SPLIT, TRAIN = "results/cohort/split.tsv", "results/databases/train.h5"
MODEL, SUMMARY = "results/models/default/holdout/best.pt", "results/slides/model-m/slide 0/summary.json"


@pytest.fixture
def workflow(tmp_path):
    return write_project(copy_workflow(tmp_path / "p"))


def double_a_sample(workflow):
    row = "a\tAnna B\timages/0.png\tmasks/0.png\t\n"
    workflow.edit("data/samples.tsv", lambda text: text.splitlines(keepends=True)[0] + row + row)


def name_two_slides_alike(workflow):
    for folder in "ab":
        (workflow.folder / "scans" / folder).mkdir(parents=True)
        (workflow.folder / "scans" / folder / "x.svs").touch()
    workflow.configure(slides="scans/*/x.svs")


def add_an_unknown_key(workflow):
    workflow.configure(epochs=3)


def ask_for_too_many_folds(workflow):
    workflow.configure(split={"folds": 9, "test": 0})


def write_text_into_images(workflow):
    for path in (workflow.folder / "data/images").iterdir():
        path.write_text("hello")


def cut_the_masks(workflow):
    for path in (workflow.folder / "data/masks").iterdir():
        write_image(path, np.zeros((48, 63), np.uint8))


def cross_an_outline(workflow):
    (workflow.folder / "data/a.geojson").write_text(json.dumps([feature(CROSSED)]))
    workflow.edit("data/samples.tsv", lambda text: text.replace("masks/0.png", "a.geojson"))


def give_a_model_that_runs_code(workflow):
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "epoch": Payload(workflow.folder / "trap")}
    torch.save(content | {"classes": CLASSES}, workflow.folder / "m.pt")
    workflow.configure(model="m.pt")


def cut_a_database(workflow):
    workflow.snakemake("databases")
    path = workflow.folder / TRAIN
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.utime(path, ns=times)


# A case's topic and name, what spoils the project, what is asked for, and what a user then reads.
RUNS = [
    (
        ("Sample tables", "a sample stands twice"),
        double_a_sample,
        SPLIT,
        "data/samples.tsv, line 3: sample 'a' is already in line 2",
    ),
    (("Slides", "two slides of one name"), name_two_slides_alike, SPLIT, "two slides have the name 'x': scans/a/x.svs"),
    (("Configuration", "an unknown key"), add_an_unknown_key, SPLIT, "unknown key 'epochs'"),
    (("Patients", "fewer patients than folds"), ask_for_too_many_folds, SPLIT, "too few"),
    (("Images", "a text"), write_text_into_images, TRAIN, r"data/images/\d\.png: is not an image"),
    (("Masks", "another size than the image"), cut_the_masks, TRAIN, r"\d\.png: has 63 x 48 pixels.* 170 x 150"),
    (
        ("Annotations", "an outline that crosses itself"),
        cross_an_outline,
        SPLIT,
        "data/a.geojson: feature 1.*not simple",
    ),
    (("Models", "a file that runs code"), give_a_model_that_runs_code, SUMMARY, "m.pt: is refused"),
    (("Databases", "truncated"), cut_a_database, MODEL, f"{TRAIN}: is damaged.*delete it"),
]


def test_each_topic_is_there():
    assert {topic for (topic, _), *_ in RUNS} | {"Archives"} == {case.topic for case in CASES}
    assert {case for case, *_ in RUNS} <= {(case.topic, case.name) for case in CASES}


@pytest.mark.parametrize(("spoil", "target", "words"), [run[1:] for run in RUNS], ids=[run[0][0] for run in RUNS])
def test_snakemake_says_it_and_leaves_nothing(workflow, spoil, target, words):
    spoil(workflow)
    printed = workflow.snakemake(target, "--set-threads", "predict_batch=1", check=False)
    assert re.search(words, printed), printed
    assert "Traceback" not in printed
    assert "loadsave.cpp" not in printed  # of OpenCV
    assert not (workflow.folder / target).exists()
    assert not list(workflow.folder.rglob("*.part.*"))
    assert not (workflow.folder / "trap").exists()
