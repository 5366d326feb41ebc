"""The conda environments, requirements.txt and the imports of the scripts must agree."""

import ast
import re
import subprocess
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
    """Return the packages that a file of requirements pins and their versions."""
    pins = re.findall(r"^([\w.-]+)(?:\[\w,-]+\])?==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {normal(package): version for package, version in pins}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_and_pip_pin_the_same_versions(environment):
    assert set(yaml.safe_load(environment.read_text())["channels"]) <= {"conda-forge", "bioconda", "nodefaults"}
    pinned = pip_pins("requirements.txt")
    for name, version in packages(environment).items():
        if name not in ("python", "nodejs"):
            # PyPI's builds of C libraries have a fourth number of their own.
            assert pinned[normal(PYPI.get(name, name))].startswith(version), name


@pytest.mark.parametrize("asked", ["requirements.in", "requirements-dev.in"])
def test_a_lock_pins_what_is_asked_for(asked):
    locked = pip_pins(asked.replace(".in", ".txt"))
    assert pip_pins(asked).items() <= locked.items(), "run make lock"
    names = {re.match(r"[\w.-]+", line)[0] for line in (ROOT / asked).read_text().splitlines() if line[0] != "#"}
    assert {normal(name) for name in names} <= set(locked), "run make lock"


def test_locks_agree():
    run, development = pip_pins("requirements.txt"), pip_pins("requirements-dev.txt")
    assert all(run.get(name, version) == version for name, version in development.items()), "run make lock"
    assert pip_pins("requirements-cpu.txt") == {"torch": run["torch"] + "+cpu"}


@pytest.mark.parametrize(
    "lock", [*ROOT.glob("requirements*.txt"), ROOT / "benchmarks" / "requirements.txt"], ids=lambda path: path.name
)
def test_every_entry_of_a_lock_has_hashes(lock):
    lines = [line for line in lock.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    assert len(entries) == len(pip_pins(lock))
    for entry in entries:
        assert re.fullmatch(r"\S+==\S+(?: ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry


def test_a_lock_is_complete():
    """Packages are installed without what they ask for, so that the lock must have all of it."""
    locked = pip_pins("requirements.txt") | pip_pins("requirements-dev.txt")
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False).stdout
    lacking = [line for line in found.splitlines() if normal(line.split(" ")[0]) in locked]
    # Snakemake asks for it and imports it nowhere; there is no wheel of it (pyproject.toml).
    assert [line for line in lacking if "connection-pool" not in line] == []


def rules_with_scripts():
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    # Rules of the shell alone have an environment and no script.
    return re.findall(r'"\.\./envs/(\w+)\.yaml"(?:(?!envs/).)*?"\.\./scripts/(\w+)\.py"', text, re.DOTALL)


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


def test_every_rule_has_the_digest_of_its_own_script():
    """Else a change of the script would not run it again."""
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    own = [(re.search(r'code=code\("(\w+)"\)', rule), script) for rule, script in rules_of_scripts(text)]
    assert [found and found[1] for found, _ in own] == [script for _, script in own]
    assert {script for _, script in own} == {path.stem for path in (ROOT / "scripts").glob("*.py")}


def rules_of_scripts(text):
    """Return the texts of rules and the scripts that they run."""
    rules = re.split(r"\n(?= *rule \w+:)", text)
    return [(rule, found[1]) for rule in rules if (found := re.search(r'"\.\./scripts/(\w+)\.py"', rule))]


def test_workflow_reads_without_scientific_packages():
    """What the Snakefile imports runs in a plain Snakemake installation."""
    package = ROOT / "scripts" / "pathseg"
    modules = [package / "digests.py", *(package / "cohort").glob("*.py")]
    for module in modules:
        for file in (module, *modules_of(module, package.parent)):
            assert not re.search(r"^(?:from|import) (?:numpy|pandas|torch|cv2)", file.read_text(), re.MULTILINE), file


def test_continuous_integration_names_actions_and_images_by_digest():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    actions, images = re.findall(r"uses: (\S+)", workflow), re.findall(r"image: (\S+)", workflow)
    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
    assert images
    assert all(re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", image) for image in images)
