"""Names of slides and folders through a real Slurm: what a shell would take apart is refused, what may be arrives."""

import json

import numpy as np
import pytest
import torch
import yaml

from conftest import CLASSES, small_unet
from pathseg_demo.synthesis import draw_field, draw_patient
from slurm_node import OPTIONS
from workflow_conftest import copy_workflow, write_slide

HOSTILE = {"a$(touch PWNED).svs": "has $", "a`touch PWNED`.svs": "has `", "Smith, John.svs": "has ,"}
# Every sign that is allowed, letters of other languages in both of Unicode's forms, and folders that hold still more.
AWKWARD = ["Größe 組織 #1;&[2](3)=+@~^'x.-_", "Ba\u0308rn 2"]
FOLDER = "a, b's 100%u;&#[1]"


@pytest.fixture
def workflow(tmp_path):
    """A model and nothing else."""
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
def test_what_a_shell_would_take_apart_is_refused(workflow, slurm, name):
    draw(workflow.folder / "scans" / name)
    workflow.environment = slurm.environment
    printed = workflow.snakemake("predict", *OPTIONS, "--config", "slides=scans/*.svs", check=False)
    assert HOSTILE[name] in printed
    assert "Traceback" not in printed
    assert not list(workflow.folder.rglob("PWNED"))
    assert not (workflow.folder / "results").exists()


def test_awkward_names_that_are_allowed_arrive(workflow, slurm):
    for name in AWKWARD:
        draw(workflow.folder / FOLDER / f"{name}.tif")
    workflow.environment = slurm.environment
    workflow.configure(slides="*/*.tif")
    # A job for each slide, so that its name is in the submission too.
    profile = workflow.folder / "profiles" / "slurm" / "profile.yaml"
    options = yaml.safe_load(profile.read_text())
    profile.write_text(yaml.safe_dump({key: value for key, value in options.items() if "group" not in key}))
    printed = workflow.snakemake("predict", *OPTIONS)
    assert printed.count("has been submitted with SLURM jobid") >= len(AWKWARD)
    for name in AWKWARD:
        summary = json.loads((workflow.folder / f"results/slides/model-m/{name}/summary.json").read_text())
        assert summary["slide"] == name
        assert summary["file"] == f"{FOLDER}/{name}.tif"
