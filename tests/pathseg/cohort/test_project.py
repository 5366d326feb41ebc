import pytest

from conftest import CLASSES, ROOT
from pathseg.cohort.project import given_name, read_project
from pathseg.errors import PathsegError

SCHEMAS = ROOT / "config" / "schemas"
BASE = {"classes": CLASSES, "tiles": {"mpp": 1.0}}


def project(**config):
    return read_project(BASE | config, SCHEMAS, "results/demo")


def table(tmp_path, part=""):
    path = tmp_path / "samples.tsv"
    for name in "im":
        (tmp_path / name).touch()
    path.write_text(f"sample\tpatient\timage\tmask\tpart\na\tp\ti\tm\t{part}\n")
    return str(path)


def test_parts_and_folds(tmp_path):
    samples = table(tmp_path)
    assert project(samples=samples).parts == ["train", "val"]
    assert project(samples=samples, split={"test": 0.2}).parts == ["train", "val", "test"]
    folded = project(samples=samples, split={"folds": 3, "test": 0.1})
    assert folded.folds == ["fold1", "fold2", "fold3"]
    assert folded.parts == ["fold1", "fold2", "fold3", "test"]
    assert project(samples=table(tmp_path, "test")).parts == ["train", "val", "test"]


def test_a_given_model_needs_no_training_data(tmp_path):
    for name in ("best one.pt", "s.svs"):
        (tmp_path / name).touch()
    given = project(samples="nowhere.tsv", model=str(tmp_path / "best one.pt"), slides=str(tmp_path / "s.svs"))
    assert given.experiments == ["model-best_one"]
    assert not given.samples
    assert given.summary() == "1 given model, 1 slide"


def test_a_summary_counts_what_there_is(tmp_path):
    found = project(samples=table(tmp_path), split={"folds": 3}, experiments={"a": {}, "b": {}})
    assert found.summary() == "1 image of 1 patient, 6 models to train"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "nothing to do"),
        ({"model": "m.pt", "slides": "s.svs"}, "model m.pt does not exist"),
        ({"samples": "nowhere.tsv"}, "nowhere.tsv"),
    ],
)
def test_what_is_missing_is_said(config, words):
    with pytest.raises(PathsegError, match=words):
        project(**config)


def test_names_of_given_models_are_safe():
    assert given_name("a/b/my model (1).pth") == "model-my_model_1_"
