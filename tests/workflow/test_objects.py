"""Objects told apart, from numbered masks to tables: what is delivered, read by code that is not pathseg's."""

import gzip
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from shapely.geometry import shape

from conftest import write_image
from pathseg.network.checkpoint import load_checkpoint
from workflow_conftest import CONFIG, copy_workflow, write_project

SIDE = 160
TEST = (4, 5)


def discs(rng):
    """Return an image, a mask and numbers of discs, many of which touch."""
    numbers = np.zeros((SIDE, SIDE), np.uint8)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for number, (row, column) in enumerate(rng.uniform(5, SIDE - 5, (45, 2)), start=1):
        own = (np.hypot(y - row, x - column) < rng.uniform(6, 11)) & (numbers == 0)
        parts, labels = cv2.connectedComponents(own.astype(np.uint8), connectivity=4)
        if parts > 1:
            numbers[labels == np.bincount(labels.ravel())[1:].argmax() + 1] = number
    rim = np.zeros(numbers.shape, bool)
    for shift in ((0, 1), (1, 0)):
        rim |= (np.roll(numbers, shift, (0, 1)) != numbers) & (numbers > 0)
    image = np.where(numbers[..., None] > 0, (120, 60, 140), (235, 200, 220)).astype(float)
    image[rim] = (60, 20, 90)
    image += rng.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8), (numbers > 0).astype(np.uint8) * 255, numbers


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose network has learned to tell discs apart, and whose slides are the test patients' images."""
    workflow = write_project(copy_workflow(tmp_path_factory.mktemp("objects")))
    data, rng = workflow.folder / "data", np.random.default_rng(3)
    lines = ["sample\tpatient\timage\tmask\tinstances\tmpp\tpart"]
    for number in range(6):
        for name, pixels in zip(("images", "masks", "instances"), discs(rng), strict=True):
            write_image(data / name / f"{number}.png", pixels)
        files = "\t".join(f"{name}/{number}.png" for name in ("images", "masks", "instances"))
        part = "test" if number in TEST else "val" if number == 0 else "train"
        lines.append(f"s{number}\tP{number}\t{files}\t0.5\t{part}")
    (data / "samples.tsv").write_text("\n".join(lines) + "\n")
    workflow.configure(
        objects={"class": "epithelium", "shrink": 2},
        tiles={"size": 80, "stride": 40, "mpp": 0.5},
        unet={"depth": 3, "wf": 3},
        training=CONFIG["training"] | {"epochs": 20, "class_weights": "none", "learning_rate": 0.01},
        prediction={"min_area_um2": 1.0, "tissue": "none"},
    )
    (data / "slides.tsv").write_text("slide\tmpp\n" + "".join(f"images/{n}.png\t0.5\n" for n in TEST))
    workflow.snakemake("--cores", "1", "predict", "results/models/default/holdout/model_card.md")
    return workflow


def delivered(project, name):
    """Return a slide's class map, features, table of objects and summary."""
    folder = project.folder / "results/slides/default" / name
    features = json.loads(gzip.decompress((folder / "annotations.geojson.gz").read_bytes()))["features"]
    table = pd.read_csv(folder / "objects.tsv.gz", sep="\t")
    return tifffile.imread(folder / "classes.tif"), features, table, json.loads((folder / "summary.json").read_text())


def burnt(features):
    """Return a map of the numbers of the features' objects, [SIDE, SIDE]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    numbers = np.zeros((SIDE, SIDE), int)
    for feature in features:
        numbers[shapely.contains_xy(shape(feature["geometry"]), x, y)] = feature["properties"]["measurements"]["Object"]
    return numbers


def test_outlines_table_summary_and_class_map_are_of_the_same_objects(project):
    for number in TEST:
        classes, features, table, summary = delivered(project, str(number))
        numbers = burnt(features)
        row = summary["classes"][1]
        assert len(table) == len(features) == row["objects"] == row["regions"]
        assert row["objects_per_mm2"] == pytest.approx(len(table) / (SIDE**2 * 0.25e-6), rel=1e-4)
        assert table["object"].tolist() == list(range(1, len(table) + 1))
        pixels = np.bincount(numbers.ravel(), minlength=len(table) + 1)[1:]
        np.testing.assert_allclose(table["area_um2"], pixels * 0.25)
        assert not (numbers > 0)[classes == 0].any()
        # What has no inside, or is smaller than min_area_um2.
        assert ((numbers == 0) & (classes == 1)).sum() < 0.02 * (classes == 1).sum()
        assert pixels.min() >= 4
        for feature, (_, of_object) in zip(features, table.iterrows(), strict=True):
            measured = feature["properties"]["measurements"]
            middle = shape(feature["geometry"]).centroid
            assert (of_object["x_um"], of_object["y_um"]) == pytest.approx((middle.x / 2, middle.y / 2), abs=0.01)
            assert measured["Area µm²"] == of_object["area_um2"]
            assert measured["Perimeter µm"] == of_object["perimeter_um"]
            assert of_object["class"] == "epithelium"
    summary = pd.read_csv(project.folder / "results/slides/default/summary.tsv", sep="\t")
    assert summary.query("`class` == 'epithelium'")["objects"].sum() > 50
    assert summary.query("`class` == 'None'")["objects"].isna().all()


def test_touching_discs_are_told_apart(project):
    """There are fewer connected parts than objects, and about as many objects as there are discs."""
    true, found, connected = 0, 0, 0
    for name in map(str, TEST):
        classes, _, table, _ = delivered(project, name)
        numbers = cv2.imread(str(project.folder / f"data/instances/{name}.png"), cv2.IMREAD_UNCHANGED)
        true += len(np.unique(numbers)) - 1
        found += len(table)
        connected += cv2.connectedComponents((classes == 1).astype(np.uint8))[0] - 1
    assert connected < 0.75 * true
    assert 0.85 * true < found < 1.15 * true


def test_from_which_probability_on_a_pixel_is_inside_is_fitted_and_said(project):
    folder = project.folder / "results/models/default/holdout"
    calibration = load_checkpoint(folder / "best.pt")["calibration"]
    assert 0.2 <= calibration["inside"] <= 0.85
    assert calibration["sure"] in (0.9, 0.95, 0.97)
    said = f"from a probability of {calibration['inside']:g} on, and surely so from {calibration['sure']:g} on."
    assert said in (folder / "model_card.md").read_text()


def test_scores_of_objects_are_of_what_is_delivered(project):
    """F1 as the GlaS challenge counts it, from the delivered outlines."""
    right = count = 0
    for name in map(str, TEST):
        truth = cv2.imread(str(project.folder / f"data/instances/{name}.png"), cv2.IMREAD_UNCHANGED)
        predicted = burnt(delivered(project, name)[1])
        found = set()
        for number in range(1, predicted.max() + 1):
            shared = np.bincount(truth[predicted == number], minlength=256)
            shared[0] = 0
            partner = int(shared.argmax())
            if shared[partner] and 2 * shared[partner] >= (truth == partner).sum():
                found.add(partner)
        right += len(found)
        count += len(np.unique(truth)) - 1 + predicted.max()
    table = pd.read_csv(project.folder / "results/validation/default/holdout/metrics.tsv", sep="\t")
    scores = table.query("part == 'test' and over == 'pooled' and `class` == 'epithelium'").set_index("score")["value"]
    assert scores["object_f1"] == pytest.approx(2 * right / count, abs=1e-4)
    assert scores["object_f1"] > 0.8


def test_a_model_with_insides_predicts_the_same_classes_where_no_objects_are_asked_for(project, tmp_path):
    other = copy_workflow(tmp_path)
    shutil.copytree(project.folder / "data", other.folder / "data")
    shutil.copy(project.folder / "results/models/default/holdout/best.pt", other.folder)
    settings = {"prediction": {"tissue": "none"}, "slides": "data/slides.tsv", "model": "best.pt"}
    (other.folder / "config/config.yaml").write_text(json.dumps(settings))
    other.snakemake("--cores", "1", "predict")
    folder = other.folder / "results/slides/model-best/4"
    classes, _, _, summary = delivered(project, "4")
    np.testing.assert_array_equal(tifffile.imread(folder / "classes.tif"), classes)
    assert not (folder / "objects.tsv.gz").exists()
    alone = json.loads((folder / "summary.json").read_text())["classes"]
    assert "objects" not in alone[1]
    assert alone[1]["pixels"] == summary["classes"][1]["pixels"]
    assert alone[1]["regions"] < summary["classes"][1]["objects"]


def test_a_map_of_numbers_is_made_on_request_and_predicts_nothing(project):
    project.configure(objects={"class": "epithelium", "shrink": 2, "map": True})
    answers = sorted((project.folder / "results/answers/default").glob("*/about.json"))
    before = [path.stat().st_mtime_ns for path in answers]
    project.snakemake("--cores", "1", "predict")
    assert len(before) == len(TEST)
    assert [path.stat().st_mtime_ns for path in answers] == before
    for number in TEST:
        with tifffile.TiffFile(project.folder / f"results/slides/default/{number}/objects.tif") as tiff:
            assert tiff.pages.first.dtype == np.uint32
            found = tiff.pages.first.asarray()
        np.testing.assert_array_equal(found, burnt(delivered(project, str(number))[1]))


def test_objects_are_counted_in_drawn_regions(project):
    """The left half of one slide: as many as there are rows of the table whose middle is there."""
    half = [[[0, 0], [SIDE / 2, 0], [SIDE / 2, SIDE], [0, SIDE], [0, 0]]]
    region = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": half}, "properties": {"name": "half"}}
    (project.folder / "data/half.geojson").write_text(json.dumps([region]))
    lines = ["slide\tmpp\tpatient\tregions", *(f"images/{n}.png\t0.5\tP{n}\thalf.geojson" for n in TEST)]
    (project.folder / "data/slides.tsv").write_text("\n".join(lines) + "\n")
    project.snakemake("--cores", "1", "measure")
    measured = pd.read_csv(project.folder / "results/slides/default/measurements.tsv", sep="\t")
    counts = measured.query("measure == 'objects' and level == 'patient' and region == 'half'").set_index("patient")
    densities = measured.query("measure == 'objects per area' and level == 'patient' and region == 'half'")
    for number in TEST:
        objects = delivered(project, str(number))[2]
        expected = (objects["x_um"] < SIDE / 2 * 0.5).sum()
        assert counts.loc[f"P{number}", "value"] == expected
        density = densities.set_index("patient").loc[f"P{number}", "value"]
        assert density == pytest.approx(expected / (SIDE**2 / 2 * 0.25e-6), rel=1e-6)
        table = pd.read_parquet(project.folder / f"results/slides/default/{number}/objects.parquet")
        pd.testing.assert_frame_equal(table[objects.columns], objects, check_dtype=False)
        assert (table["regions"] == np.where(objects["x_um"] < SIDE / 2 * 0.5, "half", "")).all()
        assert set(table["slide"]) == {str(number)}
        assert set(table["patient"]) == {f"P{number}"}
        # Without a search for tissue, all is one piece.
        assert (table["piece"] == 1).all()
