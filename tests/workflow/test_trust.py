"""When not to trust, through the real Snakemake: a slide of foreign colour is called so wherever a person looks."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import yaml

from conftest import CLASSES, small_unet, write_image
from pathseg.network.checkpoint import save_checkpoint
from pathseg.prediction.describing import describe_training
from pathseg.prediction.inference import Predictor
from pathseg_demo.synthesis import draw_field, draw_patient
from workflow_conftest import copy_workflow, write_slide

SETTINGS = {"tile": None, "tissue": "none", "tissue_holes_um2": 4e6}
RESULTS = "results/slides/model-m"


def field_of(rng, height, width):
    return draw_field(draw_patient(rng), height, width, rng)[0]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A model that knows the images of 14 patients, and two slides that it has predicted, one of foreign colour."""
    workflow = copy_workflow(tmp_path_factory.mktemp("trust") / "p")
    rng, network = np.random.default_rng(1), small_unet(batch_norm=False)
    images = [write_image(workflow.folder / "images" / f"{n}.png", field_of(rng, 200, 220)) for n in range(14)]
    rows = [{"image": str(path), "mpp": 1.0, "patient": path.stem} for path in images]
    model = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0, "resize": None}
    predictor = Predictor([network], torch.device("cpu"), torch.float32)
    reference = describe_training(rows, predictor, model, SETTINGS)
    save_checkpoint(workflow.folder / "m.pt", model | {"reference": reference.stored()})
    slide = field_of(rng, 300, 400)
    (workflow.folder / "scans").mkdir()
    write_slide(workflow.folder / "scans" / "known.tif", slide, 1.0)
    write_slide(workflow.folder / "scans" / "foreign.tif", slide[..., [2, 0, 1]], 1.0)
    classes = [{"name": class_["name"], "mask_value": class_["mask_value"]} for class_ in CLASSES]
    # The network is a random one, whose deepest layer sees little more than how numbers are rounded.
    prediction = {"precision": "float32", "probability": True, "uncertainty": True}
    config = {"classes": classes, "model": "m.pt", "slides": "scans/*.tif", "prediction": prediction}
    (workflow.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    workflow.printed = workflow.snakemake("predict")
    return workflow


def trust_of(workflow, slide):
    return json.loads((workflow.folder / RESULTS / slide / "summary.json").read_text())["trust"]


def test_the_summary_says_it_with_the_reason(predicted):
    assert trust_of(predicted, "known")["word"] == "usual"
    foreign = trust_of(predicted, "foreign")
    assert foreign["word"] in ("unusual", "do not trust")
    assert "Its colours are" in foreign["reason"]
    assert foreign["shift"] > 3 * trust_of(predicted, "known")["shift"]


def test_the_table_of_all_slides_says_it(predicted):
    table = pd.read_csv(predicted.folder / RESULTS / "summary.tsv", sep="\t")
    words = dict(zip(table["slide"], table["word"], strict=True))
    assert words["known"] == "usual"
    assert words["foreign"] == trust_of(predicted, "foreign")["word"]
    assert set(table.loc[table["slide"] == "foreign", "reason"]) == {trust_of(predicted, "foreign")["reason"]}
    page = (predicted.folder / RESULTS / "summary.html").read_text()
    assert "<figcaption>foreign: " + words["foreign"] in page
    assert "<figcaption>known</figcaption>" in page


def test_the_terminal_says_it_at_the_end(predicted):
    end = predicted.printed[predicted.printed.index("of the slides are unlike") :]
    assert f"  foreign: {trust_of(predicted, 'foreign')['word']}. " in end
    assert "known" not in end.split("Done.")[0]


def test_of_slides_that_were_there_before_nothing_is_said(predicted):
    assert "are unlike" not in predicted.snakemake("predict")


def test_the_uncertainty_follows_from_the_probabilities(predicted):
    folder = predicted.folder / RESULTS / "known"
    ascending = np.sort(tifffile.imread(folder / "probability.tif").astype(int), axis=0)
    with tifffile.TiffFile(folder / "uncertainty.tif") as tiff:
        uncertainty = tiff.asarray()
        assert tiff.pages.first.tags["XResolution"].value[0] / tiff.pages.first.tags["XResolution"].value[1] == 1e4
    assert uncertainty.dtype == np.uint8
    np.testing.assert_array_equal(uncertainty, 255 - (ascending[-1] - ascending[-2]))
    assert uncertainty.std() > 0
