import shutil

import pytest

from conftest import ROOT
from pathseg import digests


@pytest.fixture
def package(tmp_path):
    """A copy of the scripts, so that a test can change them."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "scripts"


def digest_after(package, script, module, change):
    path = package / "pathseg" / module
    path.write_text(change(path.read_text()))
    for cached in (digests._tree, digests._code):
        cached.cache_clear()
    return digests.code_digest(package / script)


def test_modules_are_found_through_modules():
    names = {path.stem for path in digests.modules_of(ROOT / "scripts" / "split_patients.py")}
    assert {"masks", "splitting", "values", "errors"} <= names
    assert not names & {"unet", "training", "database"}


def test_a_changed_module_changes_only_the_scripts_that_use_it(package):
    scripts = ("split_patients.py", "train_unet.py")
    before = [digests.code_digest(package / script) for script in scripts]
    after = [
        digest_after(package, script, "cohort/splitting.py", lambda text: text + "\nX = 1\n") for script in scripts
    ]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_comments_and_docstrings_do_not_count(package):
    before = digests.code_digest(package / "split_patients.py")
    after = digest_after(
        package, "split_patients.py", "cohort/splitting.py", lambda t: "# x\n" + t.replace("Divide", "Split")
    )
    assert before == after


def test_order_of_keys_does_not_count():
    assert digests.digest({"a": 1, "b": [2]}) == digests.digest({"b": [2], "a": 1})
    assert digests.digest({"a": 1}) != digests.digest({"a": 2})
