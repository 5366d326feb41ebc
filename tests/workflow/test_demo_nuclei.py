"""The demo's second task as its page has it: nuclei that touch, from numbered masks to a table of densities."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from workflow_conftest import copy_workflow


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nuclei_of_the_demo(tmp_path):
    workflow = copy_workflow(tmp_path)
    for name in ("demo-nuclei.yaml", "samples-nuclei.tsv", "slides.tsv"):
        shutil.copy(ROOT / "config" / name, tmp_path / "config")
    # One core: another worker trains beside it, and two threads that wait for each other take many times as long.
    workflow.snakemake("--configfile", "config/demo-nuclei.yaml", "--cores", "1")
    workflow.snakemake("measure", "--configfile", "config/demo-nuclei.yaml", "--cores", "1")

    table = pd.read_csv(tmp_path / "results/validation/nuclei/holdout/metrics.tsv", sep="\t")
    scores = table.query("part == 'test' and over == 'pooled' and `class` == 'nucleus'").set_index("score")["value"]
    assert scores["object_f1"] >= 0.90
    assert 0.97 <= scores["object_count_ratio"] <= 1.03
    # The truth that the scores speak of is what was drawn.
    parts = json.loads((tmp_path / "results/cohort/parts.json").read_text())["patients"]
    drawn = [path for path in (tmp_path / "results/demo/numbers").glob("*.png") if parts[path.stem[:-1]] == "test"]
    count = sum(int(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max()) for path in drawn)
    assert scores["object_density_true"] == pytest.approx(count / (len(drawn) * (0.256**2)), rel=1e-4)

    measured = pd.read_csv(tmp_path / "results/slides/nuclei/measurements.tsv", sep="\t").query("level == 'slide'")
    for slide in ("S01", "S02"):
        objects = pd.read_csv(tmp_path / f"results/slides/nuclei/{slide}/objects.tsv.gz", sep="\t")
        of_slide = measured[measured["slide"] == slide].set_index(["measure", "class"])["value"]
        assert of_slide["objects", "nucleus"] == len(objects) > 5000
        assert of_slide["objects per area", "nucleus"] == pytest.approx(
            len(objects) / of_slide["area", np.nan], rel=1e-4
        )
