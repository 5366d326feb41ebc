"""Faults of machines. Each ends in a message that names the cause, leaves nothing that looks complete, and a second run
ends with what an undisturbed one gives.

A process of several that dies in training is in tests/pathseg/network/test_processes.py, a job that Slurm ends in
test_slurm.py.
"""

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tables
import tifffile
import torch

from conftest import ROOT, mounted_disk
from workflow_conftest import job_of, write_slide

pytestmark = pytest.mark.slow

DATABASE = "results/databases/train.h5"
MODEL = "results/models/default/holdout/trained.pt"
SLIDE, ANSWER = "results/slides/default/slide 0", "results/answers/default/slide 0"
# The file that a rule makes (last), and what tells that it is in the middle of it.
STAGES = {
    "build_database": (DATABASE, "results/databases/.*.part.train.h5"),
    "train_unet": (MODEL, "results/models/default/holdout/.state/tensorboard"),
    "predict_batch": (f"{SLIDE}/summary.json", "results/answers/default/slide 0/.*.part.*"),
}


def undo(project, stage):
    """Remove what a stage has made, and return the name of the file that asks for it."""
    if stage == "predict_batch":
        shutil.rmtree(project.folder / SLIDE)
        shutil.rmtree(project.folder / ANSWER)
    else:
        (project.folder / STAGES[stage][0]).unlink()
    return STAGES[stage][0]


def check_nothing_looks_complete(project, stage):
    """Check that no output of a stage is there."""
    made = project.folder / STAGES[stage][0]
    assert not made.exists()
    assert stage != "predict_batch" or not list(made.parent.glob("[!.]*"))


def check_second_run(project, undisturbed, stage):
    """Run again, and check that all is as if nothing had happened."""
    project.snakemake(STAGES[stage][0])
    assert not list((project.folder / "results").rglob(".*.part.*"))
    folders = project.folder, undisturbed.folder
    one, other = (READERS[stage](folder / STAGES[stage][0]) for folder in folders)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def read_database(path):
    """Return all arrays and tables of a database."""
    with tables.open_file(path) as file:
        return {node._v_name: node.read() for node in file.iter_nodes("/")}


def read_model(path):
    """Return the weights of a model."""
    return torch.load(path, weights_only=True)["model_dict"]


def read_slide(summary):
    """Return the classes of a slide, and the corners of its annotations."""
    annotations = json.loads(gzip.decompress((summary.parent / "annotations.geojson.gz").read_bytes()))
    regions = {feature["id"]: str(feature) for feature in annotations["features"]}
    return regions | {"classes": tifffile.imread(summary.parent / "classes.tif")}


READERS = {"build_database": read_database, "train_unet": read_model, "predict_batch": read_slide}


def test_labels_are_mended_after_a_training_was_stopped(project):
    """Someone sees that labels are inverted, stops the run, swaps the mask values, and runs again."""
    project.configure(training={"epochs": 20})
    folder = (project.folder / MODEL).parent

    def stop():
        while not (folder / ".state" / "tensorboard").exists():
            time.sleep(0.001)
        job_of(project, "train_unet").terminate()

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    assert "stopped by SIGTERM; the state is saved" in project.snakemake(MODEL, check=False)
    stopper.join()
    names = ["stroma", "epithelium"]
    project.configure(
        classes=[{"name": name, "mask_value": value} for name, value in zip(names, (255, 0), strict=True)]
    )
    printed = project.snakemake(MODEL)
    assert "is of another training (data changed); training starts anew" in printed
    assert "goes on from" not in printed


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_is_killed(project, finished, stage):
    target = undo(project, stage)

    def kill():
        while not list(project.folder.glob(STAGES[stage][1])):
            time.sleep(0.001)
        job_of(project, stage).kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    printed = project.snakemake(target, check=False)
    killer.join()
    assert "SIGKILL" in printed
    check_nothing_looks_complete(project, stage)
    check_second_run(project, finished, stage)


def test_the_report_is_killed(project):
    shutil.copy(ROOT / "Makefile", project.folder)
    command = ["make", "report"]
    report = project.folder / "results/report.html"
    making = subprocess.Popen(command, cwd=project.folder, start_new_session=True, stdout=subprocess.DEVNULL)
    while not (project.folder / "results/.part.report.html").exists():
        assert making.poll() is None
        time.sleep(0.001)
    os.killpg(making.pid, signal.SIGKILL)
    assert making.wait() == -signal.SIGKILL
    assert not report.exists()
    subprocess.run(command, cwd=project.folder, check=True, capture_output=True)
    assert report.read_text().rstrip().endswith("</html>")


class SmallDisk:
    """What can happen to a disk."""

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leave):
        """Leave so many bytes free."""
        with open(self._filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free - leave)

    def make_room(self):
        """Undo `fill`."""
        self._filler.unlink()

    def remount(self, option):
        """Mount it again, "ro" or "rw"."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.folder], check=True)


@pytest.fixture
def disk(project):
    """A small disk, on which the results of the project are."""
    results = project.folder / "results"
    before = results.rename(project.folder / "before")
    with mounted_disk(results, "64m"):
        shutil.copytree(before, results, dirs_exist_ok=True)
        yield SmallDisk(results)


@pytest.mark.parametrize(
    ("stage", "free"), [("build_database", 2**17), ("train_unet", 2**17), ("predict_batch", 2**14)]
)
def test_the_disk_is_full(project, finished, disk, stage, free):
    target = undo(project, stage)
    disk.fill(leave=free)
    printed = project.snakemake(target, check=False)
    assert "cannot be written: the disk is full; make room and run again" in printed
    assert "Traceback" not in printed
    check_nothing_looks_complete(project, stage)
    disk.make_room()
    check_second_run(project, finished, stage)


def test_results_may_not_be_written(project, finished, disk):
    target = undo(project, "predict_batch")
    disk.remount("ro")
    for arguments in ([], [target]):
        printed = project.snakemake(*arguments, check=False)
        assert "Write-protected output files" in printed or "results: may not be written" in printed
        assert "Traceback" not in printed
    disk.remount("rw")
    check_second_run(project, finished, "predict_batch")


def flip_a_byte(path):
    """Change one bit of a tile."""
    tile = read_database(path)["img"][0].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(tile) + 100] ^= 1
    path.write_bytes(content)


def cut_in_half(path):
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_byte, cut_in_half])
def test_a_database_is_damaged(project, finished, damage):
    target = undo(project, "train_unet")
    damage(project.folder / DATABASE)
    printed = project.snakemake(target, check=False)
    assert f"{DATABASE}: is damaged or not a database of pathseg; delete it and run again" in printed
    assert "Traceback" not in printed
    check_nothing_looks_complete(project, "train_unet")
    (project.folder / DATABASE).unlink()
    check_second_run(project, finished, "train_unet")


def test_two_runs_in_one_folder(project, finished):
    target = undo(project, "train_unet")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(project.snakemake, target)
        while (job := job_of(project, "train_unet")) is None:
            time.sleep(0.01)
        # A slow machine would otherwise end the first run before the second has read its rules.
        job.suspend()
        try:
            assert "Directory cannot be locked" in project.snakemake(target, check=False)
        finally:
            job.resume()
        first.result()
    check_second_run(project, finished, "train_unet")


def test_one_slide_needs_more_memory_than_there_is(project):
    """The other slide is predicted; the large one, with smaller tiles, then too."""
    undo(project, "predict_batch")
    large = project.folder / "data" / "large.tif"
    write_slide(large, np.broadcast_to(np.uint8(0), (6000, 6000, 3)), mpp=1.0)
    project.edit("data/slides.tsv", lambda text: text + "large.tif\n")
    project.configure(prediction={"tile": 8192, "tissue": "none"})
    project.before = limit_memory
    targets = [f"{SLIDE}/summary.json", SLIDE.replace("slide 0", "large") + "/summary.json"]
    printed = project.snakemake(*targets, check=False)
    assert "the memory of cpu is used up; tiles have 8192 x 8192 pixels; lower prediction.tile" in printed
    assert "Traceback" not in printed
    small, large = (project.folder / target for target in targets)
    assert small.exists()
    assert not list(large.parent.glob("*"))
    project.configure(prediction={"tile": 1024, "tissue": "none"})
    project.snakemake(targets[1])
    assert tifffile.imread(large.with_name("classes.tif")).shape == (6000, 6000)


def limit_memory():
    """Limit the memory of this process and of those that it starts, each by itself."""
    resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
