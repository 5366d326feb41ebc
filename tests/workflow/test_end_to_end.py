"""The whole workflow on a small project, and what it must leave behind."""

import gzip
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest
import tables
import tifffile
import torch
import yaml
from shapely.geometry import shape
from summarize_slides import SIDE, small_picture

from conftest import small_unet, write_image
from pathseg.network.checkpoint import load_checkpoint
from pathseg.table_files import read_table
from workflow_conftest import copy_workflow, write_project, write_slide


def test_everything_is_there(finished):
    results = finished.folder / "results"
    made = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    model, scores, slide = "models/default/holdout", "validation/default/holdout", "slides/default/slide 0"
    for name in [
        "cohort/parts.json",
        "cohort/split.tsv",
        "cohort/split.png",
        "databases/train.h5",
        "databases/val.h5",
        *(f"{model}/{file}" for file in ("best.pt", "history.tsv", "preview.png", "curves.png", "kernels.png")),
        f"{model}/model_card.md",
        *(f"{scores}/{file}" for file in ("panels.png", "metrics.tsv", "metrics_per_patient.tsv", "trust.tsv")),
        *(f"{scores}/{figure}.svg" for figure in ("confusion", "calibration", "thresholds", "patients")),
        *(f"models/comparison.{ending}" for ending in ("tsv", "png", "svg")),
        *(f"{slide}/{file}" for file in ("classes.tif", "annotations.geojson.gz", "overlay.jpg", "summary.json")),
        "slides/default/summary.tsv",
    ]:
        assert name in made, name
    assert any(name.startswith(f"{model}/tensorboard/events") for name in made)
    assert not [name for name in made if ".part." in name or ".state" in name]


def test_no_patient_is_in_two_parts(finished):
    patients = {}
    for part in ("train", "val"):
        with tables.open_file(finished.folder / f"results/databases/{part}.h5") as file:
            patients[part] = {name.decode() for name in file.root.tiles.col("patient")}
    patients["test"] = {row["patient"] for row in finished.rows_of_part("test")}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 5


def test_models_are_calibrated_and_looked_at_on_validation_patients(finished):
    """Masks are of no others: of those whom they were trained on the images are described, of the test part nothing."""
    lines = finished.snakemake("--detailed-summary").splitlines()
    inputs = {(cells := line.split("\t"))[0]: set(cells[4].split(",")) for line in lines if line.count("\t") == 7}
    model, scores = (f"results/{name}/default/holdout" for name in ("models", "validation"))
    files = {row[key] for row in finished.rows_of_part("val") for key in ("image", "mask")}
    described = {row["image"] for row in finished.rows_of_part("train")}
    assert inputs[f"{model}/best.pt"] == files | described | {f"{model}/trained.pt"}
    assert load_checkpoint(finished.folder / model / "best.pt")["reference"]["patients"] == len(described)
    assert inputs[f"{scores}/panels.png"] == {f"{model}/best.pt", "results/databases/val.h5"}


def test_every_job_has_a_log_and_a_benchmark(finished):
    jobs = [
        "split_patients",
        "build_database/val",
        "train_unet/default.holdout",
        "predict_batch/default.1",
        "outline_batch/default.1",
    ]
    for job in (*jobs, "outline_slide/default/slide 1"):
        assert (finished.folder / f"results/logs/{job}.log").is_file()
    for job in jobs:
        assert "max_rss" in (finished.folder / f"results/benchmarks/{job}.tsv").read_text()


def test_scores_are_of_patients_that_training_has_not_seen(finished):
    per_patient = read_table(finished.folder / "results/validation/default/holdout/metrics_per_patient.tsv", [])
    unseen = {row["patient"] for part in ("val", "test") for row in finished.rows_of_part(part)}
    assert set(per_patient["patient"]) == unseen
    overall = read_table(finished.folder / "results/validation/default/holdout/metrics.tsv", ["value"])
    assert set(overall["part"]) == {"validation", "test"}
    assert set(overall["class"]) == {"all", "None", "epithelium"}
    assert set(overall["over"]) == {"pooled", "mean over patients"}
    card = (finished.folder / "results/models/default/holdout/model_card.md").read_text()
    dice = overall.query("part == 'test' and over == 'pooled' and score == 'dice'")["value"]
    for value in dice:
        assert f"| {value:.3f}" in card
    assert re.search(r"^\| test, 1 patient \| None \| 0\.", card, re.MULTILINE)


def test_slide_outputs_agree_with_each_other(finished):
    folder = finished.folder / "results/slides/default/slide 0"
    summary = json.loads((folder / "summary.json").read_text())
    classes = tifffile.imread(folder / "classes.tif")
    assert classes.shape == (200, 250)
    epithelium = summary["classes"][1]
    assert epithelium["pixels"] == (classes == 1).sum()
    assert epithelium["area_mm2"] == pytest.approx((classes == 1).sum() / 1e6)
    features = json.loads(gzip.decompress((folder / "annotations.geojson.gz").read_bytes()))["features"]
    assert len(features) == epithelium["regions"]
    # The outlines are in pixels of the slide, which are half as large as the model's.
    assert sum(shape(feature["geometry"]).area for feature in features) == pytest.approx(4 * (classes == 1).sum())
    assert sum(f["properties"]["measurements"]["Area µm²"] for f in features) == pytest.approx((classes == 1).sum())
    table = pd.read_csv(folder.parent / "summary.tsv", sep="\t")
    assert set(table["slide"]) == {"slide 0", "slide 1"}
    page = (folder.parent / "summary.html").read_text()
    for name in ("slide 0", "slide 1"):
        picture = small_picture(str(folder.with_name(name) / "overlay.jpg"), SIDE)
        assert f'{picture}" alt=""><figcaption>{name}' in page


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake()


def test_the_report_is_written(project):
    project.snakemake("--report", "results/report.html")
    text = (project.folder / "results/report.html").read_text()
    for words in ("1. Cohort", "4. Scores", "6. Slides", "No patient is in two parts"):
        assert words in text


def test_the_model_file_says_what_it_is(finished):
    checkpoint = torch.load(finished.folder / "results/models/default/holdout/best.pt", weights_only=True)
    tutorial = "epoch model_dict optim_dict best_loss_on_test n_classes in_channels padding depth wf up_mode batch_norm"
    assert set(tutorial.split()) <= set(checkpoint)
    assert (checkpoint["mpp"], checkpoint["tile_size"]) == (1.0, 64)
    assert checkpoint["classes"][1] == {"name": "epithelium", "mask_value": 255}
    trained = torch.load(finished.folder / "results/models/default/holdout/trained.pt", weights_only=True)
    assert checkpoint["calibration"]["temperature"] > 0
    assert "calibration" not in trained
    assert all(torch.equal(checkpoint["model_dict"][name], values) for name, values in trained["model_dict"].items())


def test_a_given_model_predicts_without_training_data(finished, tmp_path):
    """As the README says: snakemake predict --config model=FILE slides='scans/*.tif'."""
    workflow = copy_workflow(tmp_path)
    (tmp_path / "config" / "config.yaml").write_text((finished.folder / "config" / "config.yaml").read_text())
    (tmp_path / "scans").mkdir()
    for number in (0, 1):
        (tmp_path / f"scans/{number}.tif").write_bytes((finished.folder / f"data/slide {number}.tif").read_bytes())
    (tmp_path / "my.pt").write_bytes((finished.folder / "results/models/default/holdout/best.pt").read_bytes())
    workflow.snakemake("predict", "--config", "model=my.pt", "slides=scans/*.tif")
    for number in (0, 1):
        mine = tifffile.imread(tmp_path / f"results/slides/model-my/{number}/classes.tif")
        theirs = tifffile.imread(finished.folder / f"results/slides/default/slide {number}/classes.tif")
        np.testing.assert_array_equal(mine, theirs)


def test_the_tutorials_model_predicts(tmp_path):
    """Its files say no resolution, so that the slide is taken as it is; probabilities are written on request."""
    workflow = write_project(copy_workflow(tmp_path))
    workflow.configure(prediction={"probability": True, "tissue": "none"}, slides=["data/images/0.png"], model="t.pth")
    network = small_unet(depth=3, wf=2)
    keys = {
        "epoch": 3,
        "model_dict": network.state_dict(),
        "optim_dict": {},
        "best_loss_on_test": {"val": np.float32(1)},
    }
    torch.save(keys | network.architecture, tmp_path / "t.pth")
    workflow.snakemake("predict")
    folder = tmp_path / "results/slides/model-t/0"
    probability = tifffile.imread(folder / "probability.tif")
    assert probability.shape == (2, 150, 170)
    np.testing.assert_array_equal(probability.argmax(0), tifffile.imread(folder / "classes.tif"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["mpp"] is None
    assert summary["classes"][1]["area_mm2"] is None


@pytest.mark.slow
def test_cross_validation_and_experiments(tmp_path):
    """Each tile is stored once; each fold is validated on the part that it was not trained on; folds are averaged."""
    workflow = write_project(copy_workflow(tmp_path))
    config = yaml.safe_load((tmp_path / "config/config.yaml").read_text())
    config["split"] = {"folds": 2}
    config["training"]["epochs"] = 1
    config["tiles"]["edge_sigma"] = 3
    flat = {"unet": {"depth": 2, "up_mode": "upsample"}, "training": {"edges": "distance"}}
    config["experiments"] = {"small": {"unet": {"wf": 1}}, "flat": flat}
    config["slides"] = ["data/slide 0.tif"]
    # No rule takes the value that is left out for a class that is missing.
    config["ignore_value"] = 7
    mask = cv2.imread(str(tmp_path / "data/masks/0.png"), cv2.IMREAD_UNCHANGED)
    mask[:20] = 7
    write_image(tmp_path / "data/masks/0.png", mask)
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    per_patient = [f"results/validation/small/{fold}/metrics_per_patient.tsv" for fold in ("fold1", "all_folds")]
    workflow.snakemake("predict", "results/cohort/split.tsv", "results/models/comparison.tsv", *per_patient)
    assert {path.name for path in (tmp_path / "results/databases").iterdir()} == {"fold1.h5", "fold2.h5"}
    summary = json.loads((tmp_path / "results/slides/small/slide 0/summary.json").read_text())
    assert [model["file"] for model in summary["models"]] == [f"results/models/small/fold{k}/best.pt" for k in (1, 2)]
    assert (tmp_path / "results/slides/flat/slide 0/classes.tif").is_file()
    identifiers = [
        {feature["id"] for feature in json.loads(gzip.decompress(path.read_bytes()))["features"]}
        for path in (tmp_path / "results/slides").glob("*/slide 0/annotations.geojson.gz")
    ]
    assert len(identifiers) == 2
    assert all(identifiers)
    assert not identifiers[0] & identifiers[1]
    scored = read_table(tmp_path / per_patient[0], [])
    assert set(scored["patient"]) == {row["patient"] for row in workflow.rows_of_part("fold1")}
    scored = read_table(tmp_path / per_patient[1], [])
    assert sorted(scored["patient"].unique()) == ["Anna B", "Bär", "C-1", "NA", "null"]
    compared = read_table(tmp_path / "results/models/comparison.tsv", ["patients", "dice", "difference"])
    assert list(compared["experiment"]) == ["flat", "small"] * 2
    assert list(compared["class"]) == ["None", "None", "epithelium", "epithelium"]
    assert set(compared["patients"]) == {5}
    assert set(compared["interval"]) == {"95 %"}
    np.testing.assert_allclose(compared["difference"][1::2], compared["dice"].diff()[1::2], atol=2e-4)
    with tables.open_file(tmp_path / "results/databases/fold1.h5") as file:
        assert file.root.edge.shape == file.root.mask.shape


@pytest.mark.slow
def test_annotations_that_pathseg_wrote_train_a_model(finished, tmp_path):
    """Slides with GeoJSON annotations are samples, and a GeoJSON file says where a slide's tissue is."""
    workflow = write_project(copy_workflow(tmp_path))
    rows = ["sample\tpatient\timage\tmask\tpart"]
    for number, part in enumerate(("train", "val")):
        written = finished.folder / f"results/slides/default/slide {number}/annotations.geojson.gz"
        (tmp_path / f"data/{number}.geojson.gz").write_bytes(written.read_bytes())
        rows.append(f"s{number}\tp{number}\tslide {number}.tif\t{number}.geojson.gz\t{part}")
    (tmp_path / "data/samples.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "data/slides.tsv").write_text("slide\ttissue\nslide 0.tif\t1.geojson.gz\n")
    workflow.configure(outside_annotations="background", split={"val": 0.5, "test": 0}, training={"epochs": 1})
    workflow.snakemake("results/validation/default/holdout/metrics.tsv", "predict")
    with tables.open_file(tmp_path / "results/databases/train.h5") as file:
        pixels = file.root.numpixels[1]
    predicted = tifffile.imread(finished.folder / "results/slides/default/slide 0/classes.tif")
    np.testing.assert_array_equal(pixels, np.bincount(predicted.ravel(), minlength=2))
    summary = json.loads((tmp_path / "results/slides/default/slide 0/summary.json").read_text())
    assert summary["tissue_source"] == "data/1.geojson.gz"
    drawn = tifffile.imread(finished.folder / "results/slides/default/slide 1/classes.tif") == 1
    assert summary["tissue_share"] == pytest.approx(drawn.mean(), abs=0.01)


def test_two_scans_of_a_slide_give_the_same_map(finished, tmp_path):
    """One at 0.5 and one at 0.25 µm per pixel, for a model of 1 µm per pixel."""
    workflow = copy_workflow(tmp_path)
    fine = tifffile.imread(finished.folder / "data/slide 0.tif").repeat(2, 0).repeat(2, 1)
    write_slide(tmp_path / "fine.tif", fine, 0.25)
    write_slide(tmp_path / "coarse.tif", tifffile.imread(finished.folder / "data/slide 0.tif"), 0.5)
    model = finished.folder / "results/models/default/holdout/best.pt"
    (tmp_path / "config/config.yaml").write_text((finished.folder / "config/config.yaml").read_text())
    workflow.snakemake("predict", "--config", f"model={model}", "slides=*.tif")
    one, other = (
        tifffile.imread(tmp_path / f"results/slides/model-best/{name}/classes.tif") for name in ("fine", "coarse")
    )
    # A mean of 4 and a mean of 16 pixels may be rounded differently, by one grey level.
    assert one.shape == other.shape
    assert (one != other).mean() < 0.01


def test_a_bad_slide_does_not_keep_the_others_waiting(finished, tmp_path):
    workflow = copy_workflow(tmp_path)
    good = (finished.folder / "data/slide 0.tif").read_bytes()
    (tmp_path / "a good.tif").write_bytes(good)
    (tmp_path / "b cut.tif").write_bytes(good[: len(good) // 2])
    (tmp_path / "c empty.tif").touch()
    write_image(tmp_path / "d no size.png", np.zeros((50, 50, 3), np.uint8))
    write_slide(tmp_path / "e tiny.tif", np.full((1, 1, 3), 200, np.uint8))
    model = finished.folder / "results/models/default/holdout/best.pt"
    (tmp_path / "config/config.yaml").write_text((finished.folder / "config/config.yaml").read_text())
    printed = workflow.snakemake("predict", "--config", f"model={model}", "slides=[a-e]*.*", check=False)
    assert "c empty.tif: is empty (0 bytes)" in printed
    assert "d no size.png: the file does not say its pixel size; fill in the column `mpp`" in printed
    assert "b cut.tif: " in printed
    assert "Traceback" not in printed
    slides = tmp_path / "results/slides/model-best"
    assert tifffile.imread(slides / "e tiny/classes.tif").shape == (1, 1)
    assert (slides / "a good/summary.json").is_file()
    left = [path for name in ("b cut", "c empty", "d no size") for path in (slides / name).glob("*")]
    assert not left


@pytest.mark.slow
def test_real_tissue(real_data, tmp_path):
    """GlaS images and a real SVS, in small: six patients, one epoch at a coarse resolution."""
    workflow = copy_workflow(tmp_path)
    samples = pd.read_csv(real_data / "glas/samples.tsv", sep="\t")
    samples = samples[samples["patient"].isin(sorted(set(samples["patient"]))[:6])].groupby("patient").head(2).copy()
    for column in ("image", "mask", "instances"):
        samples[column] = str(real_data / "glas") + "/" + samples[column]
    samples["mpp"] = 0.62
    samples.to_csv(tmp_path / "samples.tsv", sep="\t", index=False)
    config = {
        "samples": "samples.tsv",
        "slides": [str(real_data / "slides/CMU-1-Small-Region.svs")],
        "classes": [{"name": "other", "mask_value": 0}, {"name": "gland", "mask_value": 255}],
        "tiles": {"size": 128, "stride": 96, "mpp": 2.48},
        "unet": {"depth": 4, "wf": 2},
        "training": {"epochs": 2},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    workflow.snakemake("--configfile", "config.yaml")
    summary = json.loads((tmp_path / "results/slides/default/CMU-1-Small-Region/summary.json").read_text())
    assert summary["mpp"] == pytest.approx(0.499)
    assert summary["model_width"] == round(2220 * 0.499 / 2.48)
    scores = pd.read_csv(tmp_path / "results/validation/default/holdout/metrics.tsv", sep="\t")
    assert scores.loc[scores["score"] == "dice", "value"].between(0, 1).all()
    assert set(scores.loc[scores["score"] == "object_f1", "objects"]) == {"instances"}
