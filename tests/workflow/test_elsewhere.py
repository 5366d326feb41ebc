"""The workflow away from home: another working directory, part of another workflow."""

import json
import shutil

import pytest
import yaml

from conftest import ROOT
from workflow_conftest import CONFIG, Workflow, copy_workflow, write_project

IMPORTING = """
configfile: "config/config.yaml"

module pathseg:
    snakefile: {snakefile}
    config: config
    prefix: "seg"

use rule * from pathseg as seg_*

rule all:
    default_target: True
    input:
        rules.seg_all.input,
        "count.txt",

rule count_slides:
    input:
        rules.seg_summarize_slides.output.table.format(experiment="default"),
    output:
        "count.txt",
    shell:
        "wc -l < {{input}} > {{output}}"
"""


def importing(folder, snakefile):
    """Return a project whose Snakefile imports pathseg as a module with a prefix."""
    (folder / "config").mkdir()
    workflow = write_project(Workflow(folder))
    (folder / "Snakefile").write_text(IMPORTING.format(snakefile=snakefile))
    return workflow


def test_a_module_with_a_prefix_plans_all_that_can_be_asked_for(tmp_path):
    workflow = importing(tmp_path, repr(str(ROOT / "Snakefile")))
    targets = [f"seg_{name}" for name in ("all", "predict", "measure", "view", "qupath", "suggest", "export")]
    plan = workflow.planned(*targets)
    assert [plan[f"seg_{name}"] for name in ("outline_slide", "write_viewer", "measure_slide")] == [2, 2, 2]


@pytest.mark.slow
def test_as_a_module_with_a_prefix(tmp_path):
    workflow = importing(tmp_path, repr(str(ROOT / "Snakefile")))
    options = ("--cores", "2", "--resources", "gpu=1")
    workflow.snakemake(*options)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".snakemake",
        "Snakefile",
        "config",
        "count.txt",
        "data",
        "seg",
    }
    assert (tmp_path / "count.txt").read_text().strip() == "5"
    results = tmp_path / "seg/results"
    assert json.loads((results / "slides/default/slide 0/summary.json").read_text())["file"] == "data/slide 0.tif"
    assert "train_unet\t1" in (results / "run/times.tsv").read_text()
    assert len(json.loads((results / "cohort/parts.json").read_text())["patients"]) == 5
    assert (results / "logs/train_unet/default.holdout.log").is_file()
    assert workflow.planned(*options, "--rerun-triggers", "mtime", "params", "input") == {}


@pytest.fixture
def model(finished):
    return finished.folder / "results/models/default/holdout/best.pt"


def elsewhere(folder):
    """Return an empty folder as a workflow, and the options with which the checkout's Snakefile runs there."""
    folder.mkdir()
    return Workflow(folder), ("--snakefile", str(ROOT / "Snakefile"))


def test_a_given_model_needs_no_configuration(finished, model, tmp_path):
    workflow, options = elsewhere(tmp_path / "empty")
    shutil.copy(finished.folder / "data/slide 0.tif", workflow.folder)
    workflow.snakemake("predict", *options, "--config", f"model={model}", "slides=*.tif")
    there = workflow.folder / "results/slides/model-best/slide 0/classes.tif"
    assert there.read_bytes() == (finished.folder / "results/slides/default/slide 0/classes.tif").read_bytes()


def test_the_demos_configuration_is_not_laid_under_a_given_model(model, tmp_path):
    """What stands in config/config.yaml is of another project."""
    workflow, options = elsewhere(tmp_path / "empty")
    (workflow.folder / "config").mkdir()
    (workflow.folder / "config/config.yaml").write_text("classes: 5\n")
    (workflow.folder / "a.tif").touch()
    config = ["--config", f"model={model}", "slides=a.tif", "prediction={tile: 128, tta: true}"]
    assert workflow.planned("predict", *options, *config)["outline_slide"] == 1
    assert "classes: 5" in workflow.snakemake("predict", *options, "--dry-run", check=False)


def test_without_a_configuration_it_says_what_to_give(tmp_path):
    workflow, options = elsewhere(tmp_path / "empty")
    printed = workflow.snakemake("--dry-run", *options, check=False)
    assert "nothing to do: give `samples` to train with" in printed
    assert "Traceback" not in printed


def test_a_model_without_slides_can_be_exported_and_predicts_nothing(model, tmp_path):
    workflow, options = elsewhere(tmp_path / "empty")
    options = [*options, "--config", f"model={model}"]
    assert workflow.planned("export", *options) == {"export_model": 1, "package_model": 1, "export": 1}
    for target in ("all", "predict", "measure", "view", "qupath", "suggest"):
        printed = workflow.snakemake(target, *options, "--dry-run", check=False)
        assert "nothing to do: give the `slides` that the model is to predict" in printed


@pytest.mark.parametrize("name", ["a {x}", "$(touch trap)"])
def test_a_working_folder_that_would_be_taken_apart_is_refused(tmp_path, name):
    """Snakemake replaces the braces, and the Slurm plugin lets a shell read the name between double quotes."""
    workflow, options = elsewhere(tmp_path / name)
    printed = workflow.snakemake("--dry-run", *options, check=False)
    assert f"/{name}': has " in printed
    assert "Traceback" not in printed


def test_a_fresh_clone_predicts_the_slides_of_the_demo(model, tmp_path):
    workflow = copy_workflow(tmp_path)
    for name in ("config.yaml", "samples.tsv", "slides.tsv"):
        shutil.copy(ROOT / "config" / name, tmp_path / "config")
    planned = workflow.planned("predict", "--config", f"model={model}")
    assert planned == {
        "make_demo_slides": 1,
        "list_batch": 2,
        "predict_batch": 1,
        "outline_batch": 1,
        "outline_slide": 2,
        "summarize_slides": 1,
        "predict": 1,
    }


@pytest.mark.slow
def test_two_models_of_one_name(finished, model, tmp_path):
    workflow, options = elsewhere(tmp_path / "empty")
    shutil.copy(finished.folder / "data/slide 0.tif", workflow.folder)
    shutil.copy(model, workflow.folder / "best.pt")
    command = ("predict", *options, "--config", "slides=slide 0.tif")
    workflow.snakemake(*command, "model=best.pt")
    printed = workflow.snakemake(*command, f"model={model}", check=False)
    assert "results/slides/model-best: holds predictions of best.pt" in printed
    assert "Traceback" not in printed
    assert "Nothing to be done" in workflow.snakemake(*command, f"model={workflow.folder}/best.pt", "--dry-run")


def test_a_job_does_not_look_at_the_files_of_others(finished, tmp_path):
    """As an executor runs it: one slide is gone, another stands twice, and the job of the third goes on."""
    workflow = copy_workflow(tmp_path)
    for name in ("data", "results"):
        shutil.copytree(finished.folder / name, tmp_path / name)
    config = CONFIG | {"slides": ["data/slide*.tif", "data/gone.tif", "data/twice/*"]}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "data/twice").mkdir()
    shutil.copy(tmp_path / "data/slide 1.tif", tmp_path / "data/twice")
    shutil.rmtree(tmp_path / "results/slides")
    batches = tmp_path / "results/slides/default/.batches"
    batches.mkdir(parents=True)
    slide = {"slide": "slide 0", "path": "data/slide 0.tif", "mpp": None, "tissue": None, "digest": "x", "run": None}
    (batches / "1.predict.slides.json").write_text(json.dumps([slide]))
    job = (
        "--cores",
        "1",
        "--mode",
        "subprocess",
        "--force",
        "--target-jobs",
        "predict_batch:experiment=default,batch=1",
    )
    assert "two slides have the name 'slide 1'" in workflow.snakemake("predict", "--dry-run", check=False)
    workflow.snakemake(*job, "--allowed-rules", "predict_batch", "--nolock")
    assert (tmp_path / "results/answers/default/slide 0/classes.tif").is_file()
