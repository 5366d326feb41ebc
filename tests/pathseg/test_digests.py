import shutil
import subprocess
import sys
from pathlib import Path

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
    for cached in (digests._tree, digests._nodes, digests._code, digests._imports, digests.code_digest):
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


def test_what_only_speaks_to_people_does_not_count(package):
    before = digests.code_digest(package / "train_unet.py")
    assert digest_after(package, "train_unet.py", "errors.py", lambda text: text + "\nX = 1\n") == before
    assert digest_after(package, "train_unet.py", "logs.py", lambda text: text + "\nX = 1\n") == before
    assert digest_after(package, "train_unet.py", "files.py", lambda text: text + "\nX = 1\n") != before


def test_the_look_of_figures_counts_where_there_are_figures(package):
    scripts = ("plot_training.py", "train_unet.py")
    before = [digests.code_digest(package / script) for script in scripts]
    after = [
        digest_after(package, script, "pathseg.mplstyle", lambda text: text + "lines.linewidth: 3\n")
        for script in scripts
    ]
    assert before[0] != after[0]
    assert before[1] == after[1]


def version_of(python):
    """Return the version of an interpreter, such as (3, 12); one that does not start has none."""
    code = "import sys; print(*sys.version_info[:2])"
    printed = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout
    return tuple(map(int, printed.split()))


def other_pythons():
    """Return an interpreter of each other version than this one that is here."""
    names = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    names += map(str, Path.home().glob(".pyenv/versions/3.1[1-9].*/bin/python3"))
    by_version = {version_of(name): name for name in names if name}
    return [name for version, name in by_version.items() if version >= (3, 11) and version != sys.version_info[:2]]


def test_the_version_of_python_does_not_count():
    """The scripts have the same digests in each version that is here."""
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other version of Python is here (3.11 or newer)")
    code = """if True:
        import sys
        from pathlib import Path
        sys.path.append(sys.argv[1])
        from pathseg.digests import code_digest
        print([code_digest(Path(sys.argv[1], name)) for name in ("train_unet.py", "predict_slide.py", "evaluate.py")])
    """
    printed = {
        subprocess.run([python, "-c", code, ROOT / "scripts"], check=True, capture_output=True, text=True).stdout
        for python in (sys.executable, *pythons)
    }
    assert len(printed) == 1


def test_order_of_keys_does_not_count():
    assert digests.digest({"a": 1, "b": [2]}) == digests.digest({"b": [2], "a": 1})
    assert digests.digest({"a": 1}) != digests.digest({"a": 2})
