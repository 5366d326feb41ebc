"""The small project through a real Slurm: what a cluster does, on one node with two devices that stand for GPUs.

Names of slides and folders go through it too: what a shell would take apart is refused, what may be arrives. All that
needs the node is in this file, because a machine has one, and the tests of two files may run at once.
"""

import itertools
import json
import re
import shutil
import subprocess
import threading
import time

import numpy as np
import pytest
import torch
import yaml

from conftest import CLASSES, ROOT, small_unet
from pathseg_demo.synthesis import draw_field, draw_patient
from slurm_node import OPTIONS
from workflow_conftest import Workflow, copy_workflow, write_project, write_slide

pytestmark = pytest.mark.slow

MODEL = "results/models/default/holdout/best.pt"
HOSTILE = {"a$(touch PWNED).svs": "has $", "a`touch PWNED`.svs": "has `", "Smith, John.svs": "has ,"}
# Every sign that is allowed, letters of other languages in both of Unicode's forms, the longest name, and folders that
# hold still more.
AWKWARD = ["Größe 組織 #1;&[2](3)=+@~^'x.-_", f"Ba\u0308rn {'組' * 54}2"]
FOLDER = "a, b's 100%u;&#[1]"


@pytest.fixture(scope="module")
def through_slurm(slurm, tmp_path_factory):
    """The project after a run through Slurm, what was printed, and the jobs that ran."""
    workflow = write_project(copy_workflow(tmp_path_factory.mktemp("slurm")))
    workflow.environment = slurm.environment
    workflow.printed = workflow.snakemake(*OPTIONS)
    return workflow, slurm.jobs()


def test_every_job_went_through_the_queue(through_slurm):
    workflow, jobs = through_slurm
    assert (workflow.folder / "results/slides/default/summary.tsv").is_file()
    assert (workflow.folder / MODEL).is_file()
    assert len(jobs) == workflow.printed.count("has been submitted with SLURM jobid")
    assert re.search(r"(\d+) of \1 steps \(100%\) done", workflow.printed)
    # Six tables and figures, which take seconds, are made where Snakemake runs. Both slides are two jobs, one of
    # which has no GPU.
    assert len(jobs) == 11


def test_no_gpu_was_held_by_two_jobs_at_a_time(through_slurm):
    _, jobs = through_slurm
    held = [(begin, end, gpus) for begin, end, gpus in jobs.values() if gpus]
    # Training, calibration, panels, scores, and slides.
    assert len(held) == 5
    assert all(len(gpus) == 1 for _, _, gpus in held)
    for (begin, end, gpus), (other_begin, other_end, other_gpus) in itertools.combinations(held, 2):
        at_once = begin < other_end and other_begin < end
        assert not (at_once and gpus & other_gpus)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_job_knows_which_gpu_is_its_own(through_slurm):
    workflow, jobs = through_slurm
    log = (workflow.folder / "results/logs/train_unet/default.holdout.log").read_text()
    granted = sorted(jobs.values())[[gpus != set() for _, _, gpus in sorted(jobs.values())].index(True)][2]
    assert f"CUDA_VISIBLE_DEVICES={granted.pop()}" in log


def test_a_bad_slide_costs_itself_alone(slurm, finished, tmp_path):
    """Nine slides that can be read and one that is cut off: one job, nine predictions, and the tenth is named."""
    workflow = copy_workflow(tmp_path / "project")
    workflow.environment = slurm.environment
    for number in range(10):
        shutil.copy(finished.folder / "data/slide 0.tif", workflow.folder / f"s{number}.tif")
    bad = workflow.folder / "s3.tif"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 3])
    shutil.copy(finished.folder / MODEL, workflow.folder / "best.pt")
    run = ("predict", "--config", "model=best.pt", "slides=s*.tif", *OPTIONS, "--retries", "1")
    printed = workflow.snakemake(*run, "--configfile", finished.folder / "config/config.yaml", check=False)
    done = {path.parent.name for path in workflow.folder.glob("results/slides/model-best/*/summary.json")}
    assert done == {f"s{number}" for number in range(10)} - {"s3"}, printed[-4000:]
    assert printed.count("has been submitted with SLURM jobid") == 2
    assert "s3.tif" in (workflow.folder / "results/logs/outline_slide/model-best/s3.log").read_text()
    assert "1 of the slides were not predicted:\n  s3: s3.tif: " in printed
    assert not (workflow.folder / "results/slides/model-best/s3/classes.tif").exists()


@pytest.mark.slow
def test_a_cancelled_training_goes_on(slurm, finished, tmp_path):
    """Cancelled in the middle, and started again, it ends with the model of an undisturbed run."""
    for name in ("undisturbed", "cancelled"):
        shutil.copytree(finished.folder, tmp_path / name)
    undisturbed, cancelled = Workflow(tmp_path / "undisturbed"), Workflow(tmp_path / "cancelled")
    for workflow in (undisturbed, cancelled):
        workflow.configure(training={"epochs": 25})
    undisturbed.snakemake(MODEL, "--set-threads", "train_unet=2")
    cancelled.environment = slurm.environment
    started = cancelled.folder / "results/models/default/holdout/.state/tensorboard"

    def cancel_in_the_middle():
        while not started.exists():
            time.sleep(0.05)
        subprocess.run(["scancel", "--user", "root"], env=slurm.environment, check=True)

    canceller = threading.Thread(target=cancel_in_the_middle, daemon=True)
    canceller.start()
    run = (MODEL, *OPTIONS, "--set-threads", "train_unet=2")
    printed = cancelled.snakemake(*run, "--retries", "0", check=False)
    canceller.join()
    assert "CANCELLED" in printed
    assert not (cancelled.folder / MODEL).with_name("trained.pt").exists()
    cancelled.snakemake(*run)
    log = (cancelled.folder / "results/logs/train_unet/default.holdout.log").read_text()
    assert "goes on from" in log
    one, other = (torch.load(w.folder / MODEL, weights_only=True)["model_dict"] for w in (undisturbed, cancelled))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def with_model(tmp_path):
    """A project of a model and nothing else."""
    workflow = copy_workflow(tmp_path / "p")
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0}
    torch.save(content, workflow.folder / "m.pt")
    config = {"classes": [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}]}
    config |= {"tiles": {"mpp": 1.0}, "model": "m.pt"}
    (workflow.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return workflow


def draw(path):
    """Draw a small slide."""
    path.parent.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(0)
    image, _ = draw_field(draw_patient(rng), 200, 300, rng)
    write_slide(path, image)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_shell_would_take_apart_is_refused(with_model, slurm, name):
    workflow = with_model
    draw(workflow.folder / "scans" / name)
    workflow.environment = slurm.environment
    printed = workflow.snakemake("predict", *OPTIONS, "--config", "slides=scans/*.svs", check=False)
    assert HOSTILE[name] in printed
    assert "Traceback" not in printed
    assert not list(workflow.folder.rglob("PWNED"))
    assert not (workflow.folder / "results").exists()


def test_awkward_names_that_are_allowed_arrive(with_model, slurm):
    workflow = with_model
    for name in AWKWARD:
        draw(workflow.folder / FOLDER / f"{name}.tif")
    workflow.environment = slurm.environment
    workflow.configure(slides="*/*.tif")
    printed = workflow.snakemake("predict", *OPTIONS)
    assert printed.count("has been submitted with SLURM jobid") == 2
    for name in AWKWARD:
        summary = json.loads((workflow.folder / f"results/slides/model-m/{name}/summary.json").read_text())
        assert summary["slide"] == name
        assert summary["file"] == f"{FOLDER}/{name}.tif"


def test_no_other_file_needs_the_node():
    """Another worker would run it at the same time, and skip all that is here."""
    files = (ROOT / "tests").rglob("test_*.py")
    assert [file.name for file in files if re.search(r"def \w+\(.*\bslurm\b", file.read_text())] == ["test_slurm.py"]
