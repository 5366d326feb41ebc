"""The scores are of what is delivered: predicted files are compared with the masks by code that is not pathseg's."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from workflow_conftest import copy_workflow, write_project


def enlarged(planes, height, width):
    """Interpolate [C, h, w] bilinearly between the middles of its pixels, and hold it beyond the outermost ones."""
    for axis, length in ((1, height), (2, width)):
        middles = (np.arange(planes.shape[axis]) + 0.5) * length / planes.shape[axis] - 0.5
        planes = np.apply_along_axis(
            lambda line, middles=middles, length=length: np.interp(np.arange(length), middles, line), axis, planes
        )
    return planes


def scores_again(truth, planes):
    """Score the second class of pixels [n] with probabilities 0..255 [2, n], which need not be whole numbers."""
    predicted = planes.argmax(axis=0)
    both = ((truth == 1) & (predicted == 1)).sum()
    confidence = np.floor(planes.max(axis=0) + 0.5) / 255
    bins = np.minimum((confidence * 15).astype(int), 14)
    apart = [abs((confidence[bins == b] - (predicted == truth)[bins == b]).sum()) for b in np.unique(bins)]
    return {
        "dice": 2 * both / ((truth == 1).sum() + (predicted == 1).sum()),
        "precision": both / (predicted == 1).sum(),
        "recall": both / (truth == 1).sum(),
        "area_ratio": (predicted == 1).sum() / (truth == 1).sum(),
        "ece": sum(apart) / len(truth),
    }


def check_table(workflow, fold, part):
    """Predict the images of the test patients as slides, score what is delivered, and compare with the table."""
    rows = workflow.rows_of_part("test")
    names = [Path(row["image"]).stem for row in rows]
    lines = ["slide\tmpp", *(f"images/{name}.png\t0.5" for name in names)]
    (workflow.folder / "data/slides.tsv").write_text("\n".join(lines) + "\n")
    workflow.snakemake("predict", f"results/validation/default/{fold}/metrics.tsv")
    truth, planes = [], []
    for row, name in zip(rows, names, strict=True):
        mask = cv2.imread(str(workflow.folder / row["mask"]), cv2.IMREAD_UNCHANGED)
        folder = workflow.folder / "results/slides/default" / name
        probability = tifffile.imread(folder / "probability.tif")
        np.testing.assert_array_equal(probability.argmax(axis=0), tifffile.imread(folder / "classes.tif"))
        planes.append(enlarged(probability.astype(float), *mask.shape).reshape(2, -1))
        truth.append(mask.ravel() // 255)
    again = scores_again(np.concatenate(truth), np.concatenate(planes, axis=1))
    table = pd.read_csv(workflow.folder / f"results/validation/default/{fold}/metrics.tsv", sep="\t")
    table = table[(table["part"] == part) & (table["over"] == "pooled") & table["class"].isin(["epithelium", "all"])]
    table = table.drop_duplicates("score").set_index("score")["value"]
    for score, value in again.items():
        assert table[score] == pytest.approx(value, abs=5e-5), score
    words = words_of(workflow, fold, part).set_index("sample")
    assert set(words.index) == {row["sample"] for row in rows}
    for row, name, *known in zip(rows, names, truth, planes, strict=True):
        said = json.loads((workflow.folder / f"results/slides/default/{name}/summary.json").read_text())["trust"]
        check_word(words.loc[row["sample"]], said)
        assert words.loc[row["sample"], "dice"] == pytest.approx(scores_again(*known)["dice"], abs=5e-5)


def check_word(row, said):
    """Of an image is said what is said of it as a slide."""
    assert (row["word"], row["reason"]) == (said["word"], said["reason"])
    assert row["shift"] == pytest.approx(said["shift"], abs=2e-3)
    assert row["expected_dice"] == pytest.approx(said["expected_dice"]["epithelium"], abs=2e-4)


def words_of(workflow, fold, part):
    """Return what is said of the images of a part, in the order of the sample table."""
    table = pd.read_csv(workflow.folder / f"results/validation/default/{fold}/trust.tsv", sep="\t", na_filter=False)
    return table[table["part"] == part]


@pytest.mark.parametrize("prediction", [{}, {"tta": True, "tissue": "none"}])
def test_delivered_files_scored_again_give_the_table(project, prediction):
    project.configure(prediction=prediction | {"probability": True})
    check_table(project, "holdout", "test")


@pytest.mark.slow
def test_the_mean_of_the_folds_predicts_slides_and_is_scored(tmp_path):
    workflow = write_project(copy_workflow(tmp_path))
    workflow.configure(
        split={"folds": 2, "test": 0.25}, training={"epochs": 1}, prediction={"probability": True, "tissue": "none"}
    )
    workflow.snakemake("results/cohort/split.tsv")
    check_table(workflow, "all_folds", "test, mean of folds")
    patients = pd.read_csv(tmp_path / "results/validation/default/all_folds/metrics_per_patient.tsv", sep="\t")
    unseen = {row["patient"] for row in workflow.rows_of_part("test")}
    for part in ("test", "test, mean of folds"):
        assert set(patients.loc[patients["part"] == part, "patient"]) == unseen
    # Each of the others is judged by the model that was not trained on them.
    words = words_of(workflow, "all_folds", "validation")
    parts = {patient: part for patient, part in workflow.parts().items() if part != "test"}
    assert dict(zip(words["patient"], words["fold"], strict=True)) == parts
    assert set(words_of(workflow, "all_folds", "test")["fold"]) == {"fold1", "fold2"}
