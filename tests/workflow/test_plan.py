"""A configuration of samples, classes and slides alone: the plan, and the run that follows it."""

import json

import cv2
import pandas as pd
import pytest
import yaml

from pathseg.network.checkpoint import load_checkpoint
from pathseg.tiles.database import TileDatabase
from workflow_conftest import CONFIG, copy_workflow, write_project

pytestmark = pytest.mark.slow

SHORTEST = {key: CONFIG[key] for key in ("samples", "classes", "slides")}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A project of three keys that was run from end to end; only the epochs are given, which take long."""
    workflow = write_project(copy_workflow(tmp_path_factory.mktemp("planned")), SHORTEST)
    workflow.snakemake("plan")
    workflow.alone = json.loads((workflow.folder / "results/plan/planned.json").read_text())
    workflow.configure(training={"epochs": 2})
    workflow.snakemake()
    return workflow


def plan_of(workflow):
    return json.loads((workflow.folder / "results/plan/planned.json").read_text())


def test_three_keys_are_enough(planned):
    settings = planned.alone["settings"]
    training = settings["experiments"]["default"]["training"]
    assert training["epochs"] > 2
    assert set(planned.alone["reasons"]) == {
        *(f"tiles.{key}" for key in ("mpp", "size", "stride")),
        *(f"experiments.default.unet.{key}" for key in ("depth", "wf")),
        *(f"experiments.default.training.{key}" for key in ("epochs", "batch_size", "class_weights", "sampling")),
    }
    assert 0.5 <= settings["tiles"]["mpp"] <= 2


def test_jobs_follow_the_plan(planned):
    settings, folder = plan_of(planned)["settings"], planned.folder / "results"
    experiment = settings["experiments"]["default"]
    with TileDatabase(folder / "databases/train.h5") as database:
        for key, name in (("mpp", "mpp"), ("size", "tile_size"), ("stride", "stride"), ("pad", "pad")):
            assert database.attributes[name] == settings["tiles"][key]
    model = load_checkpoint(folder / "models/default/holdout/best.pt")
    assert {key: model[key] for key in experiment["unet"]} == experiment["unet"]
    assert model["mpp"] == settings["tiles"]["mpp"]
    assert len(pd.read_csv(folder / "models/default/holdout/history.tsv", sep="\t")) == 2
    card = (folder / "models/default/holdout/model_card.md").read_text()
    assert f'"batch_size": {experiment["training"]["batch_size"]}' in card
    rows = pd.read_csv(folder / "run/settings.tsv", sep="\t", dtype=str).set_index("key")["value"]
    assert rows["tiles.mpp"] == str(settings["tiles"]["mpp"])
    assert set(rows.index[rows == "auto"]) == {
        *("prediction.tissue", "prediction.precision", "training.precision"),
        "experiments.default.training.precision",
    }
    assert (folder / "slides/default/slide 0/classes.tif").exists()


def test_the_plan_can_be_read_and_drawn_and_doubts_are_said(planned):
    folder = planned.folder / "results/plan"
    page = yaml.safe_load((folder / "plan.yaml").read_text())
    assert page["tiles"] == page["tiles"] | plan_of(planned)["settings"]["tiles"]
    assert "  epochs: 2  # given\n" in (folder / "plan.yaml").read_text()
    assert "val has 1 patient" in (folder / "warnings.txt").read_text()
    assert cv2.imread(str(folder / "plan.png")).shape[1] > 1000


def test_the_plan_is_a_configuration_that_plans_nothing(planned, tmp_path):
    copy = planned.copy(tmp_path / "copy")
    jobs = copy.planned("--configfile", "results/plan/plan.yaml")
    assert "plan_settings" not in jobs
    assert jobs["build_database"] == 2
    # Nor is it written over.
    assert copy.planned("plan", "--configfile", "results/plan/plan.yaml") == {"plan": 1}


def test_the_plan_changes_with_training_data_and_not_otherwise(planned, tmp_path):
    assert planned.planned() == {}
    copy = planned.copy(tmp_path / "copy")
    held_out = copy.folder / copy.rows_of_part("val")[0]["image"]
    assert cv2.imwrite(str(held_out), cv2.imread(str(held_out)) // 2)
    jobs = copy.planned()
    assert "plan_settings" not in jobs
    assert jobs["draw_plan"] == jobs["build_database"] == 1
    copy = planned.copy(tmp_path / "other")
    copy.configure(training={"learning_rate": 0.01})
    assert not {"plan_settings", "build_database"} & set(copy.planned())
    learned = copy.folder / copy.rows_of_part("train")[0]["mask"]
    assert cv2.imwrite(str(learned), 255 - cv2.imread(str(learned)))
    jobs = copy.planned()
    assert jobs["plan_settings"] == 1
    assert jobs["build_database"] == 2


def test_an_experiment_goes_before_the_plan(planned, tmp_path):
    copy = planned.copy(tmp_path / "copy")
    copy.configure(experiments={"default": None, "deep": {"unet": {"depth": 3}}})
    copy.snakemake("plan")
    plan = plan_of(copy)
    assert plan["settings"]["experiments"]["deep"]["unet"]["depth"] == 3
    assert "experiments.deep.unet.depth" not in plan["reasons"]
    assert yaml.safe_load((copy.folder / "results/plan/plan.yaml").read_text())["experiments"]["deep"] == {
        "unet": {"depth": 3}
    }


def test_how_wide_the_rim_of_objects_is_follows_the_plan(planned, tmp_path):
    copy = planned.copy(tmp_path / "copy")
    copy.configure(objects={"class": "epithelium"})
    copy.snakemake("plan", "results/databases/train.h5")
    shrink = plan_of(copy)["settings"]["objects"]["shrink"]
    with TileDatabase(copy.folder / "results/databases/train.h5") as database:
        assert database.attributes["objects"] == {"classes": ["epithelium"], "shrink": shrink}
    page = yaml.safe_load((copy.folder / "results/plan/plan.yaml").read_text())
    assert page["objects"] == {"class": "epithelium", "shrink": shrink, "map": False}
    assert page["training"]["class_weights"] == "none"


def test_resolutions_are_tried_on_training_patients_alone_and_the_plan_follows(planned, tmp_path):
    assert not (planned.folder / "results/plan/trials.tsv").exists()
    copy = planned.copy(tmp_path / "copy")
    copy.configure(plan={"minutes": 0.15}, unet={"depth": 3, "wf": 2}, training={"precision": "float32"})
    copy.snakemake("plan")
    trials = pd.read_csv(copy.folder / "results/plan/trials.tsv", sep="\t")
    before = plan_of(planned)["settings"]["tiles"]["mpp"]
    assert trials["mpp"].iloc[0] == before
    assert 2 <= trials["mpp"].nunique() <= 3
    assert trials["dice"].between(0, 1).all()
    assert trials["minutes"].sum() == pytest.approx(0.15)
    # A patient of the three is held out, who has one image.
    assert set(trials["images"]) == {1}
    plan = plan_of(copy)
    assert plan["settings"]["tiles"]["mpp"] in set(trials["mpp"])
    assert plan["reasons"]["tiles.mpp"].startswith("tried by training")
    lines = copy.snakemake("--detailed-summary", "plan").splitlines()
    inputs = {(cells := line.split("\t"))[0]: set(cells[4].split(",")) for line in lines if line.count("\t") == 7}
    learned = {row[key] for row in copy.rows_of_part("train") for key in ("image", "mask")}
    assert inputs["results/plan/trials.tsv"] == learned
    assert not list((copy.folder / "results/plan").glob("tmp*"))
    # A given resolution is not tried.
    copy.configure(tiles={"mpp": 1.0})
    assert "try_resolutions" not in copy.planned("plan")
