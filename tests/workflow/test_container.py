"""The image: what --sdm apptainer looks at, and what is built from the Dockerfile runs a project without internet."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from conftest import ROOT
from workflow_conftest import copy_workflow, write_project


def test_without_apptainer_an_image_changes_nothing(project):
    (project.folder / "pathseg.sif").touch()
    assert project.planned() == {}


def test_a_missing_image_is_named(finished):
    said = finished.snakemake("--sdm", "apptainer", "--dry-run", check=False)
    assert "--sdm apptainer: " in said
    assert "pathseg.sif does not exist; docs/install.md says how it is made" in said
    assert "Traceback" not in said


def test_both_recipes_make_the_same_image():
    docker, apptainer = ((ROOT / name).read_text() for name in ("Dockerfile", "pathseg.def"))
    copied = [line.split()[1:] for line in docker.splitlines() if line.startswith("COPY")]
    there = {f"{to}/{Path(name).name}" if to.endswith("/") else to for *names, to in copied for name in names}
    files = re.search(r"%files\n(.*?)\n\n", apptainer, re.DOTALL).group(1)
    assert sorted(line.split()[1] for line in files.splitlines()) == sorted(path.replace("//", "/") for path in there)
    for same in (
        r"debian:\S+@sha256:\w{64}",
        r"PATH=\S+ PYTHONNOUSERSITE=1",
        r"sh /opt/pathseg/envs/container.sh",
        r"snakemake\W+--snakefile\W+/opt/pathseg/Snakefile",
    ):
        found = [re.search(same, recipe).group() for recipe in (docker, apptainer)]
        assert len({re.sub(r"\W+", " ", text) for text in found}) == 1, found


def run(*command, **options):
    """Run a command, and return what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def download_packages(folder):
    """Fetch the files that the lock names, of PyTorch the build that runs the tests, into a folder."""
    entries = (ROOT / "requirements.txt").read_text().splitlines()
    names = [line.split()[0] for line in entries if "==" in line and not line.startswith((" ", "#"))]
    wanted = [name for name in names if not name.startswith(("nvidia-", "cuda-", "triton"))]
    options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder)
    run(sys.executable, "-m", "pip", "download", *options, *wanted)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    """What runs buildah on images in a folder of its own, which is removed afterwards."""
    missing = [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.skip(f"needs {' and '.join(missing) or 'root'}")
    if "+cpu" not in importlib.metadata.version("torch"):
        pytest.skip("an image with PyTorch for CUDA is too large for a test")
    folder = tmp_path_factory.mktemp("images")
    # Neither needs anything of the machine but root.
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}

    def buildah(*arguments, before=()):
        where = ("--root", folder / "images", "--runroot", folder / "run")
        return run(*before, "buildah", *where, *arguments, env=environment)

    yield buildah
    buildah("rm", "--all")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(buildah, tmp_path_factory):
    """The image of the Dockerfile, on a Debian that Debian's own archive gives, with the files that pip has fetched."""
    folder = tmp_path_factory.mktemp("parts")
    run("mmdebstrap", "--variant=minbase", "--quiet", "bookworm", folder / "debian.tar")
    base = buildah("from", "scratch")
    buildah("add", base, folder / "debian.tar", "/")
    buildah("commit", "--quiet", "--rm", base, "localhost/debian")
    download_packages(folder / "packages")
    offline = ("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/packages")
    packages = ("--volume", f"{folder / 'packages'}:/packages:ro")
    base = ("--build-arg", "BASE=localhost/debian", "--layers=false")
    buildah("build", "--quiet", *base, *offline, *packages, "--tag", "localhost/pathseg", ROOT)
    shutil.rmtree(folder)
    return "localhost/pathseg"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_image_runs_a_project_without_internet(buildah, image, tmp_path):
    project = write_project(copy_workflow(tmp_path))
    for name in ("rules", "scripts", "Snakefile"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    container = buildah("from", image)
    entry = json.loads(buildah("inspect", container))["OCIv1"]["config"]["Entrypoint"]
    inside = ("--volume", f"{tmp_path}:/project", "--workingdir", "/project")
    ask = ("--cores", 2, "--configfile", "config/config.yaml")
    # A network of its own without any connection, as on a cluster's node.
    buildah("run", *inside, container, "--", *entry, *ask, before=("unshare", "--net"))
    summary = json.loads((project.folder / "results/slides/default/slide 0/summary.json").read_text())
    with tifffile.TiffFile(project.folder / "results/slides/default/slide 0/classes.tif") as tiff:
        assert tiff.pages[0].shape == (summary["model_height"], summary["model_width"])
    assert (project.folder / "results/run/times.tsv").exists()
    again = shlex.join([*entry, *map(str, ask)])
    assert "Nothing to be done" in buildah("run", *inside, container, "--", "sh", "-c", f"{again} 2>&1")
