"""What each job gets: its files, in order, and its resources, read from a dry run of a cross-validation."""

import re
import shutil

import pytest

from workflow_conftest import copy_workflow, write_project

# sample, patient, image and mask of write_project, with the part of each patient and the numbers of one's objects.
PARTS = ["fold1", "fold2", "test", "fold1", "fold2"]
GPU_RULES = {"train_unet", "calibrate_model", "render_panels", "evaluate", "predict_batch", "map_doubt"}
# What takes no time has no record of it, nor what reads those of the others.
UNTIMED = {"list_batch", "outline_slide", "summarize_run"}
SLIDES = ["results/slides/{}/slide 0", "results/slides/{}/slide 1"]


def without_messages(workflow):
    """Let Snakemake print what a job gets, which it does where a rule has no message of its own."""
    for path in (workflow.folder / "rules").glob("*.smk"):
        path.write_text(re.sub(r'\n *message:\n *".*"', "", path.read_text()))
    return workflow


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """What is printed of each job, by its first output."""
    workflow = without_messages(write_project(copy_workflow(tmp_path_factory.mktemp("jobs"))))
    header, *rows = (workflow.folder / "data/samples.tsv").read_text().splitlines()
    lines = [f"{header}\tpart\tinstances"]
    for number, (row, part) in enumerate(zip(rows, PARTS, strict=True)):
        lines.append(f"{row}\t{part}\t{'masks/4.png' if number == 0 else ''}")
    (workflow.folder / "data/samples.tsv").write_text("\n".join(lines) + "\n")
    slides = ["slide\tpatient\ttissue", "slide 0.tif\tBär\tmasks/0.png", "slide 1.tif\tC-1\t"]
    (workflow.folder / "data/slides.tsv").write_text("\n".join(slides) + "\n")
    workflow.configure(split={"folds": 2, "test": 0.2}, experiments={"a": {}, "b": {}})
    printed = workflow.snakemake("all", "export", "qupath", "view", "suggest", "--dry-run", "--quiet", "host")
    found = {}
    for block in re.split(r"\n\[[^]]+\]\n", printed)[1:]:
        (rule,) = re.findall(r"^(?:local)?rule (\w+):", block)
        keys = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        if "output" in keys:
            found[keys["output"].split(", ")[0].removesuffix(" (update)")] = keys | {"rule": rule}
    return found


def files(numbers, kind):
    return [f"data/{kind}/{number}.png" for number in numbers]


def model(experiment, fold, name="best.pt"):
    return f"results/models/{experiment}/{fold}/{name}"


def counts(experiment, *folds):
    return [f"results/validation/{experiment}/{fold}/counts.npz" for fold in folds]


FOLD1, FOLD2 = "results/databases/fold1.h5", "results/databases/fold2.h5"
ALL_FOLDS = ("fold1", "fold2", "mean_of_folds")
# The first output of a job, and its inputs.
INPUTS = {
    "results/cohort/split.tsv": files(range(5), "masks"),
    FOLD1: [*files([0, 3], "images"), *files([0, 3], "masks"), "data/masks/4.png"],
    FOLD2: [*files([1, 4], "images"), *files([1, 4], "masks")],
    model("a", "fold1", "preview.png"): [FOLD2],
    model("a", "fold1", "trained.pt"): [FOLD2, FOLD1],
    model("b", "fold2", "trained.pt"): [FOLD1, FOLD2],
    model("a", "fold1"): [
        model("a", "fold1", "trained.pt"),
        *files([0, 3], "images"),
        *files([0, 3], "masks"),
        *files([1, 4], "images"),
    ],
    model("a", "fold1", "curves.png"): [model("a", "fold1", "history.tsv")],
    model("a", "fold1", "kernels.png"): [model("a", "fold1"), FOLD1],
    "results/validation/b/fold2/panels.png": [model("b", "fold2"), FOLD2],
    "results/validation/a/fold1/counts.npz": [
        model("a", "fold1"),
        *files([0, 2, 3], "images"),
        *files([0, 2, 3], "masks"),
        "data/masks/4.png",
    ],
    "results/validation/a/mean_of_folds/counts.npz": [
        *(model("a", fold) for fold in ("fold1", "fold2")),
        *files([2], "images"),
        *files([2], "masks"),
    ],
    "results/validation/a/fold1/metrics.tsv": [*counts("a", "fold1"), model("a", "fold1", "calibration.tsv")],
    "results/validation/a/all_folds/metrics.tsv": [
        *counts("a", *ALL_FOLDS),
        *(model("a", fold, "calibration.tsv") for fold in ("fold1", "fold2")),
    ],
    model("a", "fold1", "model_card.md"): [model("a", "fold1"), FOLD2, FOLD1, "results/validation/a/fold1/metrics.tsv"],
    "results/models/comparison.tsv": [*counts("a", *ALL_FOLDS), *counts("b", *ALL_FOLDS)],
    "results/slides/a/.batches/1.json": [
        model("a", "fold1"),
        model("a", "fold2"),
        "results/slides/a/.batches/1.predict.slides.json",
    ],
    "results/slides/b/summary.tsv": [
        f"{slide}/{name}".format("b") for name in ("summary.json", "overlay.jpg") for slide in SLIDES
    ],
    "results/export/a/fold2/model.onnx": [model("a", "fold2")],
    "results/export/a/all_folds/model.onnx": [model("a", "fold1"), model("a", "fold2")],
    "results/export/a/all_folds/bioimageio.zip": [
        *(model("a", fold) for fold in ("fold1", "fold2")),
        *(f"results/export/a/all_folds/{name}" for name in ("model_any_size.onnx", "export.json")),
        *(model("a", fold, "model_card.md") for fold in ("fold1", "fold2")),
    ],
    "results/qupath/project.qpproj": [
        *(f"data/slide {number}.tif" for number in range(2)),
        *(f"{slide}/annotations.geojson.gz".format(experiment) for experiment in "ab" for slide in SLIDES),
        *(f"results/export/{name}/all_folds/pixel_classifier.json" for name in "ab"),
        *(f"results/export/{name}/all_folds/export.json" for name in "ab"),
    ],
    # Of slide 1 nothing is suggested: its patient is held out.
    "results/suggestions/a/maps/slide 0.npz": [
        *(model("a", fold) for fold in ("fold1", "fold2")),
        "data/slide 0.tif",
        "data/masks/0.png",
    ],
    "results/suggestions/a/slide 0.geojson": [
        "results/suggestions/a/maps/slide 0.npz",
        "data/slide 0.tif",
        *(f"{SLIDES[0]}/{name}".format("a") for name in ("annotations.geojson.gz", "summary.json")),
    ],
    "results/viewer/slides/a/slide 1": [
        "data/slide 1.tif",
        *(f"{SLIDES[1]}/{name}".format("a") for name in ("classes.tif", "summary.json")),
    ],
    "results/viewer/index.html": [
        "results/viewer/library",
        *(f"results/viewer/slides/{name}/slide {number}" for name in "ab" for number in range(2)),
        *(f"{slide}/summary.json".format(name) for name in "ab" for slide in SLIDES),
    ],
}


@pytest.mark.parametrize("output", INPUTS)
def test_a_job_gets_its_files_in_order(jobs, output):
    assert jobs[output]["input"].split(", ") == INPUTS[output]


@pytest.mark.parametrize(("number", "tissue"), [(0, ["data/masks/0.png"]), (1, [])])
def test_a_slide_is_predicted_by_all_folds_where_its_tissue_is(jobs, number, tissue):
    (job,) = (
        job for job in jobs.values() if job["rule"] == "outline_slide" and f"a/slide {number}/classes" in job["output"]
    )
    batches = "results/slides/a/.batches"
    assert job["input"].split(", ") == [f"data/slide {number}.tif", *tissue, f"{batches}/1.outlined.json"]
    assert jobs[f"{batches}/1.outlined.json"]["input"].split(", ")[0] == f"{batches}/1.json"
    models = [model("a", "fold1"), model("a", "fold2")]
    assert jobs[f"{batches}/1.json"]["input"].split(", ")[:2] == models


def test_nothing_is_suggested_where_models_were_chosen_or_are_scored(tmp_path):
    """Of patients to validate and to test; of those who are learned from, and of new ones, it is."""
    workflow = write_project(copy_workflow(tmp_path))
    header, *rows = (tmp_path / "data/samples.tsv").read_text().splitlines()
    parts = ["train", "val", "test", "train", "train"]
    lines = [f"{row}\t{part}" for row, part in zip(rows, parts, strict=True)]
    (tmp_path / "data/samples.tsv").write_text("\n".join([f"{header}\tpart", *lines]) + "\n")
    slides = ["slide\tpatient"]
    for number, patient in enumerate(["Bär", "C-1", "Anna B", "new"], start=2):
        shutil.copy(tmp_path / "data/slide 0.tif", tmp_path / f"data/slide {number}.tif")
        slides.append(f"slide {number}.tif\t{patient}")
    (tmp_path / "data/slides.tsv").write_text("\n".join(slides) + "\n")
    planned = without_messages(workflow).snakemake("suggest", "--dry-run", "--quiet", "host")
    assert set(re.findall(r"maps/(slide \d)\.npz", planned)) == {"slide 4", "slide 5"}


def test_every_job_asks_for_what_it_needs(jobs):
    asked = {job["rule"]: dict(re.findall(r"(\w+)=(\w+)", job["resources"])) for job in jobs.values()}
    assert {rule for rule, resources in asked.items() if resources.get("gpu")} == GPU_RULES
    for rule, resources in asked.items():
        assert {"mem_mb", "runtime"} <= set(resources), rule
    for job in jobs.values():
        assert job["log"].startswith(f"results/logs/{job['rule']}")
        timed = job.get("benchmark", "").startswith(f"results/benchmarks/{job['rule']}")
        assert timed != (job["rule"] in UNTIMED)


def test_a_second_attempt_has_more_memory_and_time_and_the_log_of_the_first_stays(tmp_path):
    workflow = without_messages(write_project(copy_workflow(tmp_path)))
    (tmp_path / "data/masks/0.png").write_bytes(b"not a picture")
    printed = workflow.snakemake("results/cohort/split.tsv", "--retries", "1", "--quiet", "host", check=False)
    asked = [dict(re.findall(r"(\w+)=(\d+)", line)) for line in re.findall("    resources: (.*)", printed)]
    assert [(int(one["mem_mb"]), int(one["runtime"])) for one in asked] == [(2000, 60), (4000, 120)]
    logs = {path.name: path.read_text() for path in (tmp_path / "results/logs").glob("split_patients*")}
    assert logs.keys() == {"split_patients.failed-1.log", "split_patients.log"}
    assert all("masks/0.png" in text for text in logs.values())
