"""`training.init`: a training that starts from a model which was trained before."""

import json
import os
import re
import shutil

import pandas as pd
import pytest
import torch

from conftest import ROOT
from pathseg.files import file_digest
from pathseg.network.checkpoint import load_checkpoint
from workflow_conftest import copy_workflow

pytestmark = pytest.mark.slow

TRAINED = "results/models/default/holdout"


@pytest.fixture(scope="module")
def started(finished, tmp_path_factory):
    """The finished project, whose training has started again from a copy of its model. Tests must not change it."""
    project = finished.copy(tmp_path_factory.mktemp("started") / "project")
    shutil.copy(project.folder / TRAINED / "best.pt", project.folder / "round1.pt")
    project.configure(training={"init": "round1.pt", "freeze": "encoder", "epochs": 1})
    project.plan = project.planned(f"{TRAINED}/trained.pt")
    project.printed = project.snakemake(f"{TRAINED}/model_card.md")
    return project


def test_only_the_training_runs_again(started):
    assert started.plan == {"train_unet": 1}
    assert started.planned(f"{TRAINED}/model_card.md") == {}


def test_log_and_card_say_what_it_started_from(started):
    log = (started.folder / "results/logs/train_unet/default.holdout.log").read_text()
    assert re.search(r"starts from \d+ weights of round1.pt$", log, re.MULTILINE)
    card = (started.folder / TRAINED / "model_card.md").read_text()
    digest = file_digest(started.folder / "round1.pt")
    assert f"started from the model with SHA-256 `{digest}`; weights that began anew: none" in card
    settings = json.loads(re.search(r"```json\n(.*?)```", card, re.DOTALL).group(1))["training"]
    assert (settings["learning_rate"], settings["freeze"]) == (0.0005, "encoder")
    before, after = (
        load_checkpoint(started.folder / path)["model_dict"] for path in ("round1.pt", f"{TRAINED}/best.pt")
    )
    assert torch.equal(before["down_path.0.block.0.weight"], after["down_path.0.block.0.weight"])
    assert not torch.equal(before["last.weight"], after["last.weight"])


def another_content(path):
    """Change a weight of a model file, and return its path."""
    model = torch.load(path, weights_only=True)
    model["model_dict"]["last.bias"] += 0.1
    torch.save(model, path)
    return path


def test_another_content_of_the_file_trains_again(started, tmp_path):
    project = started.copy(tmp_path / "project")
    another_content(project.folder / "round1.pt")
    assert project.planned(f"{TRAINED}/trained.pt") == {"train_unet": 1}


def test_a_model_that_was_trained_on_is_kept_where_a_training_would_begin_anew(started, tmp_path):
    project = started.copy(tmp_path / "project")
    project.configure(training={"init": None, "freeze": "none", "epochs": 2})
    before = (project.folder / TRAINED / "trained.pt").read_bytes()
    kept = f"{TRAINED}: was trained on from round1.pt, and training.init names nothing now. It is kept"
    # What needs the model alone goes on with it; what is to train says why it does not.
    assert kept in project.snakemake("predict")
    assert kept in project.snakemake("train", check=False)
    assert (project.folder / TRAINED / "trained.pt").read_bytes() == before
    (project.folder / "results/models/default").rename(project.folder / "round2")
    assert project.planned(f"{TRAINED}/trained.pt") == {"train_unet": 1}


def test_a_model_that_was_trained_on_outlives_a_start_that_fails(started, tmp_path):
    """Snakemake removes what a training is to write before it fails; the calibrated model is there."""
    project = started.copy(tmp_path / "project")
    (project.folder / "bad.pth").write_bytes(b"no model")
    before = (project.folder / TRAINED / "best.pt").read_bytes()
    project.configure(training={"init": "bad.pth"})
    assert "bad.pth" in project.snakemake("predict", check=False)
    project.configure(training={"init": None, "freeze": "none"})
    assert "was trained on from round1.pt" in project.snakemake("predict", check=False)
    assert (project.folder / TRAINED / "best.pt").read_bytes() == before


def test_an_older_file_is_another_start_and_a_folder_may_be_trained_before(started, tmp_path):
    project = started.copy(tmp_path / "project")
    path = another_content(project.folder / "round1.pt")
    os.utime(path, (1, 1))
    assert project.planned(f"{TRAINED}/trained.pt") == {"train_unet": 1}
    project.configure(
        training={"init": None, "freeze": "none"},
        experiments={"a": {}, "b": {"training": {"init": "results/models/a"}}},
    )
    plan = project.planned("results/models/b/holdout/trained.pt")
    assert plan == {"train_unet": 2, "calibrate_model": 1}


def test_each_fold_starts_from_its_own_and_experiments_from_each_other(started, tmp_path):
    project = started.copy(tmp_path / "project")
    shutil.copytree(project.folder / TRAINED, project.folder / "round1/holdout")
    experiments = {"default": {}, "next": {"training": {"init": f"{TRAINED}/best.pt"}}}
    project.configure(training={"init": "round1"}, experiments=experiments)
    # The digest of what it starts from is no parameter: a copy with the same content is another input all the same.
    assert project.planned("results/models/next/holdout/trained.pt") == {"train_unet": 2, "calibrate_model": 1}


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (f"{TRAINED}/best.pt", "is what this very training would write; copy results/models/default elsewhere"),
        ("nowhere.pt", "training.init: nowhere.pt does not exist"),
        ("config", "training.init: config/holdout/best.pt does not exist"),
    ],
)
def test_a_start_that_cannot_be_is_said(started, tmp_path, init, words):
    project = started.copy(tmp_path / "project")
    project.configure(training={"init": init})
    printed = project.snakemake("train", "--dry-run", check=False)
    assert words in printed
    assert "Traceback" not in printed


def best_dice(project, experiment):
    """Return the best validation Dice of each number of epochs so far."""
    history = pd.read_csv(project.folder / f"results/models/{experiment}/holdout/history.tsv", sep="\t")
    return history["val_dice"].cummax()


@pytest.mark.timeout(1200)
def test_a_start_reaches_in_a_fifth_of_the_steps_what_random_weights_reach(tmp_path):
    """The demo's model, and then a tenth of the images of another cohort, drawn from another seed."""
    project = copy_workflow(tmp_path / "project")
    for name in ("samples.tsv", "config.yaml"):
        shutil.copy(ROOT / "config" / name, project.folder / "config")
    small = {"tiles": {"size": 64, "stride": 32, "mpp": 2.0}, "unet": {"wf": 3}, "training": {"precision": "float32"}}
    project.configure(slides=None, **small)
    project.snakemake(f"{TRAINED}/best.pt")
    shutil.copy(project.folder / TRAINED / "best.pt", project.folder / "demo.pt")
    # 18 images were trained on; of the new cohort there are two, of one patient, and six to validate with.
    header, *rows = (project.folder / "config/samples.tsv").read_text().splitlines()
    few = [
        f"{row}\t{'train' if row.startswith('P01') else 'val'}"
        for row in rows
        if row[:3] in ("P01", "P04", "P05", "P06")
    ]
    (project.folder / "config/samples.tsv").write_text("\n".join([f"{header}\tpart", *few]) + "\n")
    # With so few images the way down, which knows six patients, is kept.
    start = {"epochs": 16, "init": "demo.pt", "freeze": "encoder"}
    experiments = {"scratch": {"training": {"epochs": 80}}, "started": {"training": start}}
    project.configure(demo={"seed": 7}, experiments=experiments, split={"test": 0})
    project.snakemake(*(f"results/models/{name}/holdout/trained.pt" for name in experiments))
    scratch, started = (best_dice(project, name) for name in ("scratch", "started"))
    assert started.iloc[-1] >= scratch.iloc[-1]
