"""A class that has few of the pixels: its areas and probabilities are right on patients that no fit has seen."""

import pandas as pd
import pytest
import yaml

from workflow_conftest import copy_workflow

PATIENTS = 40


def part_of(number):
    """Divide the patients: 20 to train on, 8 to choose the epoch and calibrate, 12 to score."""
    return "train" if number < 20 else "val" if number < 28 else "test"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_areas_and_probabilities_of_a_rare_class(tmp_path):
    workflow = copy_workflow(tmp_path)
    lines = ["sample\tpatient\timage\tmask\tmpp\tpart"]
    for number in range(PATIENTS):
        for name in (f"R{number:02d}a", f"R{number:02d}b"):
            paths = (f"../results/demo/{kind}/{name}.png" for kind in ("images", "masks"))
            lines.append("\t".join([name, name[:-1], *paths, "0.5", part_of(number)]))
    (tmp_path / "config/samples.tsv").write_text("\n".join(lines) + "\n")
    config = {
        "samples": "config/samples.tsv",
        "classes": [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}],
        "tiles": {"size": 128, "stride": 64, "mpp": 1.0},
        "unet": {"depth": 4, "wf": 4},
        "training": {"epochs": 16, "batch_size": 16},
        "demo": {"epithelium": 0.06},
    }
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    # One core: another worker trains beside it, and two threads that wait for each other take many times as long.
    workflow.snakemake("results/validation/default/holdout/metrics.tsv", "--cores", "1")
    table = pd.read_csv(tmp_path / "results/validation/default/holdout/metrics.tsv", sep="\t")
    scores = table[(table["part"] == "test") & (table["over"] == "pooled")].set_index(["class", "score"])["value"]
    per_patient = pd.read_csv(tmp_path / "results/validation/default/holdout/metrics_per_patient.tsv", sep="\t")
    pixels = per_patient[per_patient["part"] == "test"].groupby("class")["pixels"].sum()
    assert 0.03 < pixels["epithelium"] / pixels.sum() < 0.07
    assert 0.95 < scores["epithelium", "area_ratio"] < 1.05
    assert scores["all", "ece"] < 0.02
