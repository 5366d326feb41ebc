"""The conda environments, requirements.txt and the imports of the scripts must agree."""

import ast
import re
import sys

import pytest
import yaml

from conftest import ROOT
from pathseg.digests import modules_of

# conda's name of what PyPI calls otherwise; matplotlib-base brings pillow.
PYPI = {
    "pytorch": "torch",
    "pytables": "tables",
    "py-opencv": "opencv-python-headless",
    "openslide": "openslide-bin",
    "matplotlib-base": "matplotlib",
    "snakemake-minimal": "snakemake",
    "tensorboardx": "tensorboardX",
}
CONDA_OF_IMPORT = {
    "PIL": "matplotlib-base",
    "cv2": "py-opencv",
    "matplotlib": "matplotlib-base",
    "openslide": "openslide-python",
    "skimage": "scikit-image",
    "tables": "pytables",
    "torch": "pytorch",
    "tensorboardX": "tensorboardx",
}
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def packages(environment):
    """Return the packages of an environment and their versions."""
    pins = [pin.split("=") for pin in yaml.safe_load(environment.read_text())["dependencies"]]
    return {name: version for name, version, *_build in pins}


def pip_pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return dict(re.match(r"([^=\s]+)==([^\s;]+)", line).groups() for line in lines if "==" in line)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_and_pip_pin_the_same_versions(environment):
    assert set(yaml.safe_load(environment.read_text())["channels"]) <= {"conda-forge", "bioconda", "nodefaults"}
    pinned = {normal(name): version for name, version in pip_pins("requirements.txt").items()}
    for name, version in packages(environment).items():
        if name not in ("python", "nodejs"):
            # PyPI's builds of C libraries have a fourth number of their own.
            assert pinned[normal(PYPI.get(name, name))].startswith(version), name


def test_requirements_agree():
    pinned = {normal(name): version for name, version in pip_pins("requirements.txt").items()}
    for name, version in pip_pins("requirements.in").items():
        assert pinned[normal(name)] == version
    assert all(
        "==" in line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    )


def rules_with_scripts():
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    return re.findall(r'"\.\./envs/(\w+)\.yaml".*?"\.\./scripts/(\w+)\.py"', text, re.DOTALL)


@pytest.mark.parametrize(("environment", "script"), rules_with_scripts())
def test_an_environment_has_what_its_scripts_import(environment, script):
    path = ROOT / "scripts" / f"{script}.py"
    imported = set()
    for file in (path, *modules_of(path)):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "pathseg", "pathseg_demo"}
    available = set(packages(ROOT / "envs" / f"{environment}.yaml"))
    assert {CONDA_OF_IMPORT.get(name, name) for name in imported} <= available


def test_every_script_has_a_rule_of_its_name():
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"(?:rule|checkpoint) (\w+):", text))
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert scripts <= rules
    assert {script for _, script in rules_with_scripts()} == scripts


def test_workflow_reads_without_scientific_packages():
    """What the Snakefile imports runs in a plain Snakemake installation."""
    package = ROOT / "scripts" / "pathseg"
    modules = [package / "digests.py", package / "cohort" / "project.py"]
    for module in modules:
        for file in (module, *modules_of(module, package.parent)):
            assert not re.search(r"^(?:from|import) (?:numpy|pandas|torch|cv2)", file.read_text(), re.MULTILINE), file
