"""The whole loop: suggest, annotate, take what comes back, train on, with a stand-in for the pathologist."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio.features
import shapely
import tifffile

from pathseg.labels.geojson import read_annotations
from pathseg_demo.synthesis import draw_field, draw_patient
from workflow_conftest import CONFIG, copy_workflow, write_project, write_slide

SIDE = 700
METRICS = "results/validation/default/holdout/metrics.tsv"
LOOP = CONFIG | {
    "training": {"epochs": 6, "batch_size": 8, "precision": "float32"},
    "suggestions": {"count": 4, "side_um": 60},
    "tiles": {"size": 64, "stride": 32, "mpp": 1.0},
}


def draw_slides(project):
    """Draw two slides without glass, which the cohort's images lack too, and return where they are epithelium."""
    truth, rng = {}, np.random.default_rng(11)
    for number in range(2):
        image, epithelium = draw_field(draw_patient(rng), SIDE, SIDE, rng)
        write_slide(project.folder / f"data/slide {number}.tif", image)
        truth[f"slide {number}"] = epithelium.astype(np.uint8)
    return truth


def answer(path, truth):
    """Return what a pathologist makes of the suggestions of a slide: regions that are done, and the truth in them."""
    features = []
    for annotation in read_annotations(path):
        if annotation.name == "Region*":
            x0, y0, x1, y1 = (int(side) for side in annotation.polygon.bounds)
            part = truth[y0:y1, x0:x1]
            shapes = rasterio.features.shapes(part, mask=part > 0, transform=rasterio.Affine(1, 0, x0, 0, 1, y0))
            drawn = [(shapely.geometry.shape(geometry), "epithelium", None) for geometry, _ in shapes]
            features += [feature(*each) for each in [(annotation.polygon, "Region*", "done"), *drawn]]
    return features


def feature(polygon, name, title):
    properties = {"objectType": "annotation", "classification": {"name": name}} | ({"name": title} if title else {})
    return {"type": "Feature", "geometry": shapely.geometry.mapping(polygon), "properties": properties}


def dice_of_unseen(project):
    """Return the Dice of epithelium of the unseen patients."""
    metrics = pd.read_csv(project.folder / METRICS, sep="\t", keep_default_na=False, na_values=["NA"])
    chosen = (metrics["part"] == "test") & (metrics["class"] == "epithelium") & (metrics["score"] == "dice")
    return metrics[chosen & (metrics["over"] == "pooled")]["value"].item()


def dice_of_slides(project, truth):
    """Return the Dice of epithelium on the slides, as they are predicted."""
    both = total = 0
    for name, mask in truth.items():
        found = tifffile.imread(project.folder / f"results/slides/default/{name}/classes.tif", level=0) == 1
        # At 1 µm per pixel, half of the slide's resolution.
        true = mask[::2, ::2] == 1
        both, total = both + (found & true).sum(), total + found.sum() + true.sum()
    return 2 * both / total


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_round_makes_nothing_worse_and_patients_keep_their_parts(tmp_path):
    project = write_project(copy_workflow(tmp_path / "project"), LOOP)
    truth = draw_slides(project)
    project.snakemake(METRICS, "predict")
    parts, before = project.parts(), (dice_of_unseen(project), dice_of_slides(project, truth))
    of_cohort = next(patient for patient, part in parts.items() if part == "train")
    (project.folder / "data/slides.tsv").write_text(f"slide\tpatient\nslide 0.tif\t{of_cohort}\nslide 1.tif\tnew\n")
    project.snakemake("suggest")
    folder = project.folder / "results/qupath/annotations"
    folder.mkdir(parents=True)
    for name, mask in truth.items():
        features = answer(project.folder / f"results/suggestions/default/{name}.geojson", mask)
        (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert "4 added" in project.snakemake("annotations")

    shutil.copytree(project.folder / "results/models/default", project.folder / "round1")
    project.configure(training={"init": "round1"})
    project.snakemake(METRICS, "predict")
    after = project.parts()
    assert {patient: after[patient] for patient in parts} == parts
    assert after["new"] == "train"
    assert dice_of_slides(project, truth) > before[1]
    # One image of 85 x 75 pixels, by a network of 8,000 parameters: it goes up and down.
    assert dice_of_unseen(project) > before[0] - 0.03
    log = (project.folder / "results/logs/train_unet/default.holdout.log").read_text()
    assert re.search(r"starts from \d+ weights of round1/holdout/best.pt", log)
