"""What runs again after a change, read from a dry run: what follows from it, and nothing else."""

import re
import shutil
import time

import cv2
import pytest

from workflow_conftest import write_slide

AFTER_TRAINING = {
    "train_unet": 1,
    "calibrate_model": 1,
    "plot_training": 1,
    "visualize_network": 1,
    "render_panels": 1,
    "evaluate": 1,
    "summarize_scores": 1,
    "write_model_card": 1,
    "compare_experiments": 1,
    "list_batch": 2,
    "predict_batch": 1,
    "outline_batch": 1,
    "outline_slide": 2,
    "summarize_slides": 1,
    "summarize_run": 1,
}
OUTLINED = {"list_batch": 1, "outline_batch": 1, "outline_slide": 2, "summarize_slides": 1, "summarize_run": 1}
PREDICTED = OUTLINED | {"list_batch": 2, "predict_batch": 1}
RESCORED = {"evaluate": 1, "summarize_scores": 1, "write_model_card": 1, "compare_experiments": 1, "summarize_run": 1}


def darken(path):
    """Change an image's pixels."""
    assert cv2.imwrite(str(path), cv2.imread(str(path)) // 2)


def test_a_changed_training_image_rebuilds_its_part_and_what_follows(project):
    darken(project.folder / project.rows_of_part("train")[0]["image"])
    assert project.planned() == {"build_database": 1, "preview_batches": 1, **AFTER_TRAINING}


def test_a_changed_test_image_is_scored_again(project):
    darken(project.folder / project.rows_of_part("test")[0]["image"])
    assert project.planned() == RESCORED


def test_a_changed_number_of_epochs_rebuilds_no_database(project):
    project.configure(training={"epochs": 3})
    assert project.planned() == AFTER_TRAINING


def test_the_preview_follows_what_it_shows(project):
    """The strength of gaps is written on it; how fast is learned is not."""
    project.configure(training={"edge_w0": 3})
    assert project.planned() == {"preview_batches": 1, **AFTER_TRAINING}
    project.configure(training={"edge_w0": 10, "learning_rate": 0.01})
    assert project.planned() == AFTER_TRAINING


def test_a_new_slide_is_predicted_alone(project):
    write_slide(project.folder / "data/new.tif", cv2.imread(str(project.folder / "data/images/0.png")))
    project.edit("data/slides.tsv", lambda text: text + "new.tif\n")
    assert project.planned() == PREDICTED | {"outline_slide": 1}


def test_a_changed_setting_of_pictures_draws_them(project):
    project.configure(panels={"per_group": 1})
    assert project.planned() == {"render_panels": 1, "summarize_run": 1}
    project.configure(panels={"per_group": 2}, network_pictures={"tile": 1})
    assert project.planned() == {"visualize_network": 1, "summarize_run": 1}


def test_a_changed_class_colour_does_not_train(project):
    colors = ["#123456", "#654321"]
    classes = [{"name": "None", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}]
    project.configure(classes=[class_ | {"color": color} for class_, color in zip(classes, colors, strict=True)])
    planned = project.planned()
    # What shows colours, and nothing else.
    assert planned.keys() == {
        "split_patients",
        "preview_batches",
        "render_panels",
        "summarize_scores",
        "write_model_card",
        "compare_experiments",
        "list_batch",
        "outline_batch",
        "outline_slide",
        "summarize_slides",
        "summarize_run",
    }
    # The plan is kept: nothing more follows when the first of it are done.
    project.snakemake("results/cohort/split.png")
    del planned["split_patients"]
    assert project.planned() == planned


def test_how_a_machine_predicts_is_no_reason_to_predict_again(project):
    project.configure(prediction={"tile": 128, "precision": "float32"})
    assert project.planned() == {"summarize_run": 1}


def test_what_flips_predict_is_calibrated_and_nothing_trained(project):
    project.configure(prediction={"tta": True})
    planned = project.planned()
    assert planned["calibrate_model"] == planned["evaluate"] == planned["predict_batch"] == 1
    assert "train_unet" not in planned


def test_another_smallest_area_outlines_slides_anew(project):
    project.configure(prediction={"min_area_um2": 3})
    assert project.planned() == OUTLINED


def test_changed_tiles_keep_the_split(project):
    project.configure(tiles={"stride": 32})
    assert project.planned() == {"build_database": 2, "preview_batches": 1, **AFTER_TRAINING}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("scripts/summarize_slides.py", {"summarize_slides": 1, "summarize_run": 1}),
        ("scripts/render_panels.py", {"render_panels": 1, "summarize_run": 1}),
        ("scripts/pathseg/labels/outlines.py", OUTLINED),
        ("scripts/pathseg/network/losses.py", {"preview_batches": 1, **AFTER_TRAINING}),
    ],
)
def test_changed_code_runs_the_rules_that_use_it(project, file, expected):
    project.edit(file, lambda text: text.replace("\nimport ", "\nCHANGED = True\nimport ", 1))
    assert project.planned() == expected


def test_a_touched_script_or_a_comment_changes_nothing(project):
    time.sleep(1)
    project.edit("scripts/train_unet.py", lambda text: text + "# a remark\n")
    project.edit("scripts/pathseg/network/unet.py", lambda text: "# a remark\n" + text)
    assert project.planned() == {}


def test_the_order_of_keys_changes_nothing(project):
    project.edit("config/config.yaml", lambda text: "\n".join(sorted_blocks(text)))
    assert project.planned() == {}


def sorted_blocks(text):
    """Return the top-level blocks of a YAML text in reverse order."""
    blocks = []
    for line in text.splitlines():
        if line[:1] not in (" ", "-"):
            blocks.append(line)
        else:
            blocks[-1] += "\n" + line
    return reversed(blocks)


def add_sample(project, patient, number):
    """Add an image to the sample table, a copy of another under a name of its own."""
    for kind in ("images", "masks"):
        darkened = cv2.imread(str(project.folder / f"data/{kind}/0.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(project.folder / f"data/{kind}/{number}.png"), darkened // (2 if kind == "images" else 1))
    row = f"new {number}\t{patient}\timages/{number}.png\tmasks/{number}.png\t0.5\n"
    project.edit("data/samples.tsv", lambda text: text + row)


@pytest.mark.parametrize("patient", ["Anna B", "a new one"])
def test_an_image_more_moves_nobody(project, patient):
    """What is made anew is the part that the image is in, and what follows from that part; a run says who moved."""
    before = project.parts()
    add_sample(project, patient, 9)
    planned = project.planned()
    assert planned["split_patients"] == 1
    assert planned.get("build_database", 0) <= 1
    printed = project.snakemake("results/cohort/split.tsv")
    assert before.items() <= project.parts().items()
    assert ("1 new patient, 0 moved" in printed) == (patient not in before)
    del planned["split_patients"]
    assert project.planned() == planned


def test_whatever_is_asked_for_who_is_where_is_written_down_first(project):
    """A file that is trained on is enough; a patient who comes later moves nobody."""
    before = project.parts()
    for folder in ("cohort", "databases"):
        shutil.rmtree(project.folder / "results" / folder)
    project.snakemake("results/databases/val.h5")
    assert project.parts() == before


def test_other_split_settings_divide_anew_and_the_log_says_who_moved(project):
    before = project.parts()
    project.configure(split={"seed": 3})
    printed = project.snakemake("results/cohort/split.tsv")
    after = project.parts()
    moved = [
        f"{patient}: from {before[patient]} to {part}" for patient, part in after.items() if before[patient] != part
    ]
    assert moved
    assert all(line in printed for line in moved)


def test_a_patient_less_moves_nobody(project):
    before = project.parts()
    gone = project.rows_of_part("train")[0]["sample"]
    project.edit("data/samples.tsv", lambda text: re.sub(f"(?m)^{gone}\t.*\n", "", text))
    assert project.planned()["split_patients"] == 1
    project.snakemake("results/cohort/split.tsv")
    assert project.parts() == before


def test_a_split_that_is_killed_keeps_who_was_placed(project):
    """The job fails; who was placed is still known."""
    before = project.parts()
    add_sample(project, "a new one", 9)
    (project.folder / "data/masks/9.png").write_bytes(b"not a picture")
    assert "masks/9.png" in project.snakemake("results/cohort/split.tsv", check=False)
    assert before.items() <= project.parts().items()


def test_another_name_of_the_same_table_changes_nothing(project):
    project.configure(
        samples=str(project.folder / "data/samples.tsv"), slides=[str(project.folder / "data/slides.tsv")]
    )
    assert project.planned() == {"summarize_run": 1}
