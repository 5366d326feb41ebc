"""Results kept by a storage plugin: on another file system."""

import shutil
import threading
import time

import pytest

from workflow_conftest import Workflow, copy_workflow, job_of, write_project

MODEL = "results/models/default/holdout"


def kept_in(folder):
    """Return the options with which results are kept in a folder by the fs plugin, which copies by rsync."""
    return ("--default-storage-provider", "fs", "--default-storage-prefix", str(folder))


def files_under(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_plan_is_the_same_wherever_results_are_kept(tmp_path):
    workflow = write_project(copy_workflow(tmp_path))
    planned = workflow.planned("all", "view", "export", *kept_in(tmp_path / "kept"))
    assert planned == workflow.planned("all", "view", "export")
    assert planned["predict_slide"] == 2


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A project of which all results are kept in another folder, with the options that do it."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    folder = tmp_path_factory.mktemp("kept")
    workflow = write_project(copy_workflow(folder / "project"))
    # Nothing is shared but what docs/elsewhere.md says.
    usage = ("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache")
    workflow.options = (*kept_in(folder / "store"), *usage)
    workflow.store = folder / "store"
    workflow.snakemake(*workflow.options)
    return workflow


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_results_are_in_the_other_folder(kept):
    made = files_under(kept.store / "results")
    for name in ("best.pt", "history.tsv", "model_card.md", "preview.png", "kernels.png"):
        assert f"models/default/holdout/{name}" in made
    assert {f"slides/default/slide {n}/{name}" for n in (0, 1) for name in ("classes.tif", "overlay.jpg")} <= made
    assert any(name.startswith("models/default/holdout/tensorboard/events") for name in made)
    assert any(name.startswith("validation/default/holdout/panels/") for name in made)
    assert "logs/train_unet/default.holdout.log" in made
    times = (kept.store / "results/run/times.tsv").read_text()
    assert "train_unet\t1" in times
    assert "predict_slide\t2" in times
    # What is not an output stays in the working folder.
    assert files_under(kept.folder / "results") == {"cohort/parts.json"}
    assert kept.planned(*kept.options) == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_training_goes_on_though_its_local_copies_are_gone(kept, tmp_path):
    """As on a cluster whose nodes have disks of their own."""
    shutil.copytree(kept.folder, tmp_path / "project")
    workflow = Workflow(tmp_path / "project")
    workflow.configure(training={"epochs": 60})
    command = (f"{MODEL}/trained.pt", *kept.options)
    state = workflow.folder / MODEL / ".state"

    def stop():
        while not (state / "tensorboard").exists():
            time.sleep(0.001)
        job_of(workflow, "train_unet").terminate()

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    assert "stopped by SIGTERM; the state is saved" in workflow.snakemake(
        *command, "--local-storage-prefix", "node 1", check=False
    )
    stopper.join()
    assert (state / "state.pt").is_file()
    shutil.rmtree(workflow.folder / "node 1")
    assert "goes on from" in workflow.snakemake(*command, "--local-storage-prefix", "node 2")
    assert not state.exists()
