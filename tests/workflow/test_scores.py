"""The scores are of what is delivered: predicted files are compared with the masks by code that is not pathseg's."""

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile


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
        "calibration_error": sum(apart) / len(truth),
    }


@pytest.mark.parametrize("prediction", [{}, {"tta": True, "tissue": "none"}])
def test_delivered_files_scored_again_give_the_table(project, prediction):
    """Images of the test patients are predicted as slides, with the same settings."""
    rows = project.rows_of_part("test")
    lines = ["slide\tmpp", *(f"images/{row['image'].split('/')[-1]}\t0.5" for row in rows)]
    (project.folder / "data/slides.tsv").write_text("\n".join(lines) + "\n")
    project.configure(prediction=prediction | {"probability": True})
    project.snakemake("predict", "results/validation/default/holdout/metrics.tsv")
    truth, planes = [], []
    for row in rows:
        mask = cv2.imread(str(project.folder / row["mask"]), cv2.IMREAD_UNCHANGED)
        folder = project.folder / "results/slides/default" / row["image"].split("/")[-1].removesuffix(".png")
        probability = tifffile.imread(folder / "probability.tif")
        np.testing.assert_array_equal(probability.argmax(axis=0), tifffile.imread(folder / "classes.tif"))
        planes.append(enlarged(probability.astype(float), *mask.shape).reshape(2, -1))
        truth.append(mask.ravel() // 255)
    again = scores_again(np.concatenate(truth), np.concatenate(planes, axis=1))
    table = pd.read_csv(project.folder / "results/validation/default/holdout/metrics.tsv", sep="\t")
    table = table[(table["part"] == "test") & (table["over"] == "pooled") & table["class"].isin(["epithelium", "all"])]
    table = table.drop_duplicates("score").set_index("score")["value"]
    for score, value in again.items():
        assert table[score] == pytest.approx(value, abs=5e-5), score
