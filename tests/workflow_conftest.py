"""A small project in a folder of its own, run by the real Snakemake."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import yaml

from conftest import ROOT, write_image
from pathseg_demo.synthesis import draw_field, draw_patient, draw_tissue_outline

CONFIG = {
    "samples": "data/samples.tsv",
    "slides": "data/slides.tsv",
    "classes": [{"name": "None", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}],
    "split": {"val": 0.25, "test": 0.25},
    "tiles": {"size": 64, "stride": 48, "mpp": 1.0},
    "unet": {"depth": 3, "wf": 2},
    # What is compared bit for bit must not hang on a measurement of speed.
    "training": {"epochs": 2, "batch_size": 4, "precision": "float32"},
}


class Workflow:
    """A copy of the workflow with a project beside it.

    Parameters
    ----------
    folder
        Where both are.

    Attributes
    ----------
    environment : dict
        Environment variables that Snakemake gets beside those of the tests.
    before : callable or None
        What Snakemake's process does before it starts.
    configuration_file : str
        Where in the folder the configuration is.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {}
        self.before = None
        self.configuration_file = "config/config.yaml"

    def snakemake(self, *arguments, check=True):
        """Run Snakemake as a user does, and return what it printed."""
        command = [sys.executable, "-m", "snakemake", *arguments]
        environment = os.environ | self.environment
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            preexec_fn=self.before,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if check and done.returncode:
            raise AssertionError(f"snakemake failed:\n{done.stdout[-6000:]}")
        return done.stdout

    def copy(self, folder):
        """Return a copy of the project, dates and records included."""
        shutil.copytree(self.folder, folder)
        return Workflow(folder)

    def planned(self, *arguments):
        """Return which rules a dry run would run, and how often each."""
        printed = self.snakemake("--dry-run", *arguments)
        table = re.search(r"Job stats:\n.*?\n[- ]+\n(.*?)\n\n", printed, re.DOTALL)
        if table is None:
            assert "Nothing to be done" in printed
            return {}
        counts = dict(re.findall(r"^(\w+) +(\d+)$", table.group(1), re.MULTILINE))
        return {rule: int(count) for rule, count in counts.items() if rule not in ("total", "all")}

    def configure(self, **changes):
        """Lay changes over the configuration."""
        config = self.configuration()
        for key, value in changes.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        (self.folder / self.configuration_file).write_text(yaml.safe_dump(config))

    def edit(self, name, change):
        """Change the text of a file."""
        path = self.folder / name
        path.write_text(change(path.read_text()))

    def rows_of_part(self, part):
        """Return the rows of the sample table whose patients are in a part, their files from the workflow's folder."""
        table = self.folder / self.configuration()["samples"]
        header, *lines = table.read_text().splitlines()
        rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
        for row in rows:
            row |= {key: str(table.parent.relative_to(self.folder) / row[key]) for key in ("image", "mask")}
        parts = self.parts()
        return [row for row in rows if parts[row["patient"]] == part]

    def parts(self):
        """Return the part of each patient."""
        return json.loads((self.folder / "results/cohort/parts.json").read_text())["patients"]

    def configuration(self):
        """Return the configuration."""
        return yaml.safe_load((self.folder / self.configuration_file).read_text())


def copy_workflow(folder):
    """Copy the workflow's code, without data and results."""
    for name in ("rules", "scripts", "envs", "profiles", "report"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config" / "schemas", folder / "config" / "schemas")
    shutil.copy(ROOT / "Snakefile", folder)
    return Workflow(folder)


def write_project(workflow, config=CONFIG):
    """Draw five patients, whose names, as that of a class, are not easy to read, and two slides."""
    data, rng = workflow.folder / "data", np.random.default_rng(5)
    lines = ["sample\tpatient\timage\tmask\tmpp"]
    for number, patient in enumerate(["Anna B", "Bär", "C-1", "NA", "null"]):
        image, epithelium = draw_field(draw_patient(rng), 150, 170, rng)
        name = f"{patient} field"
        write_image(data / "images" / f"{number}.png", image)
        write_image(data / "masks" / f"{number}.png", epithelium.astype(np.uint8) * 255)
        lines.append(f"{name}\t{patient}\timages/{number}.png\tmasks/{number}.png\t0.5")
    (data / "samples.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(2):
        image, _ = draw_field(draw_patient(rng), 400, 500, rng, draw_tissue_outline(400, 500, rng))
        write_slide(data / f"slide {number}.tif", image)
    (data / "slides.tsv").write_text("slide\nslide 0.tif\nslide 1.tif\n")
    (workflow.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return workflow


def write_slide(path, image, mpp=0.5):
    """Write a tiled TIFF with its pixel size."""
    per_cm = 1e4 / mpp
    resolution = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, image, tile=(128, 128), photometric="rgb", metadata=None, **resolution)


def job_of(project, rule):
    """Return the process that runs a rule's script in a project's folder, or None."""
    for process in psutil.process_iter():
        try:
            if any(word.endswith(f".{rule}.py") for word in process.cmdline()) and process.cwd() == str(project.folder):
                return process
        except psutil.Error:
            continue
    return None


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """A project that has been run from end to end, once for all processes that test. Tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    folder, printed = shared / "finished", shared / "finished.txt"
    with open(shared / "finished.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            printed.write_text(write_project(copy_workflow(folder)).snakemake(), encoding="utf-8")
    workflow = Workflow(folder)
    workflow.printed = printed.read_text(encoding="utf-8")
    return workflow


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, dates and records included, for a test to change."""
    return finished.copy(tmp_path / "project")
