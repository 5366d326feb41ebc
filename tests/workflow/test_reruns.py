"""What runs again after a change, read from a dry run: what follows from it, and nothing else."""

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
    "predict_slide": 2,
    "summarize_slides": 1,
}


def darken(path):
    """Change an image's pixels."""
    assert cv2.imwrite(str(path), cv2.imread(str(path)) // 2)


def test_a_changed_training_image_rebuilds_its_part_and_what_follows(project):
    darken(project.folder / project.rows_of_part("train")[0]["image"])
    assert project.planned() == {"build_database": 1, "preview_batches": 1, **AFTER_TRAINING}


def test_a_changed_test_image_is_scored_again(project):
    darken(project.folder / project.rows_of_part("test")[0]["image"])
    assert project.planned() == {"evaluate": 1, "summarize_scores": 1, "write_model_card": 1, "compare_experiments": 1}


def test_a_changed_number_of_epochs_rebuilds_no_database(project):
    project.configure(training={"epochs": 3})
    assert project.planned() == AFTER_TRAINING


def test_a_new_slide_is_predicted_alone(project):
    write_slide(project.folder / "data/new.tif", cv2.imread(str(project.folder / "data/images/0.png")))
    project.edit("data/slides.tsv", lambda text: text + "new.tif\n")
    assert project.planned() == {"predict_slide": 1, "summarize_slides": 1}


def test_a_changed_panel_setting_draws_panels(project):
    project.configure(panels={"per_group": 1})
    assert project.planned() == {"render_panels": 1}


def test_a_changed_class_colour_does_not_train(project):
    colors = ["#123456", "#654321"]
    classes = [{"name": "None", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}]
    project.configure(classes=[class_ | {"color": color} for class_, color in zip(classes, colors, strict=True)])
    assert not {"train_unet", "build_database", "evaluate"} & set(project.planned())


def test_changed_tiles_keep_the_split(project):
    project.configure(tiles={"stride": 32})
    assert project.planned() == {"build_database": 2, "preview_batches": 1, **AFTER_TRAINING}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("scripts/summarize_slides.py", {"summarize_slides": 1}),
        ("scripts/render_panels.py", {"render_panels": 1}),
        ("scripts/pathseg/labels/outlines.py", {"predict_slide": 2, "summarize_slides": 1}),
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


def test_a_patient_less_is_a_new_split(project):
    project.edit("data/samples.tsv", lambda text: "\n".join(text.splitlines()[:-1]) + "\n")
    assert project.planned()["split_patients"] == 1
