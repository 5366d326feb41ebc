"""What a user reads when something is wrong: one error that names file, row or key."""

import pytest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 5}, ["unknown key 'epochs'"]),
        ({"tiles": {"mpp": 1.0, "resize": 0.5}}, ["tiles: give one of mpp"]),
        ({"samples": "data/none.tsv"}, ["data/none.tsv", "cannot be read"]),
        ({"slides": "scans/*.svs"}, ["no file matches 'scans/*.svs'"]),
    ],
)
def test_a_wrong_configuration(project, change, words):
    project.configure(**change)
    printed = project.snakemake("--dry-run", check=False)
    for word in words:
        assert word in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/models/foo/holdout/best.pt", "No rule to produce results/models/foo/holdout/best.pt"),
        ("results/models/default/fold3/best.pt", "No rule to produce results/models/default/fold3/best.pt"),
        ("results/slides/default/none/summary.json", "there is no slide 'none' among the `slides`"),
    ],
)
def test_a_target_that_is_not_there(finished, target, words):
    printed = finished.snakemake("--dry-run", target, check=False)
    assert words in printed
    assert "KeyError" not in printed


def test_a_key_that_stands_twice(project):
    project.edit("config/config.yaml", lambda text: text + "\ntiles: {mpp: 2.0}\n")
    printed = project.snakemake("--dry-run", check=False)
    assert "config/config.yaml, line" in printed
    assert "key 'tiles' is already in line" in printed


def test_a_mask_with_an_unknown_value(project):
    project.configure(classes=[{"name": "a", "mask_value": 0}, {"name": "b", "mask_value": 7}])
    printed = project.snakemake("databases", check=False)
    assert "has pixels of value 255, which no class has" in printed
    assert "details: results/logs/split_patients.log" in printed
    assert "Traceback" not in printed
    assert "Traceback" in (project.folder / "results/logs/split_patients.log").read_text()


def test_the_first_and_the_last_line_say_what_and_where(finished):
    assert "5 images of 5 patients, 1 model to train, 2 slides. A line for each stage follows" in finished.printed
    assert "Done. All that was made is under results" in finished.printed


def test_lint_is_clean(finished):
    assert "in a good condition" in finished.snakemake("--lint")


def test_the_list_of_rules_reads_like_a_table_of_contents(finished):
    printed = finished.snakemake("--list")
    for target in ("all", "databases", "train", "validate", "predict", "demo"):
        assert f"\n{target} (" in printed
