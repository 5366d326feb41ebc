"""Every command of the README and the docs is one that works."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from conftest import PAGES, ROOT

# What is run as it stands elsewhere, or cannot be run in a test.
ELSEWHERE = {
    "snakemake --workflow-profile profiles/slurm": "test_slurm.py",
    "CONDA_OVERRIDE_CUDA=12.9 snakemake --sdm conda --conda-create-envs-only": "needs conda",
    "snakemake --configfile config/epistroma.yaml": "test_archive.py",
    "snakemake --configfile config/demo-nuclei.yaml": "test_demo_nuclei.py",
    "snakemake measure --configfile config/demo-nuclei.yaml": "test_demo_nuclei.py",
    "cp -r results/models/default round1": "test_loop.py",
    "snakemake --default-storage-provider s3 --default-storage-prefix s3://bucket/project": "test_storage.py",
    "PIP_EXTRA_INDEX_URL=$CPU_INDEX make run": "needs PyTorch's index",
    ".venv/bin/pip install --force-reinstall 'torch==2.13.0+cu126' --index-url $CUDA_INDEX": "needs PyTorch's index",
    "apptainer build pathseg.sif pathseg.def": "needs Apptainer",
    "apptainer build pathseg.sif docker-archive:pathseg.tar": "needs Apptainer",
    "apptainer run --nv pathseg.sif --configfile my.yaml --cores 16": "needs Apptainer",
    "sbatch --gpus 1 --cpus-per-task 16 --mem 64G --time 1-0 "
    "--wrap 'apptainer run --nv pathseg.sif --configfile my.yaml --cores 16'": "needs Apptainer",
    "snakemake --workflow-profile profiles/slurm --sdm apptainer "
    "--apptainer-args='--nv --bind /scans'": "needs Apptainer",
    "docker build --tag pathseg . && docker save --output pathseg.tar pathseg": "needs Docker",
}


def commands(page):
    """Return the commands of a page's blocks of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


ALL = sorted({command for page in PAGES for command in commands(page)})


@pytest.fixture(scope="module")
def as_documented(finished, tmp_path_factory):
    """The finished project with the files that the pages name."""
    folder = tmp_path_factory.mktemp("documented") / "project"
    shutil.copytree(finished.folder, folder)
    shutil.copy(folder / "results/models/default/holdout/best.pt", folder)
    for fold in ("holdout", "fold1", "fold2"):
        shutil.copytree(folder / "results/models/default/holdout", folder / "round1" / fold)
    (folder / "my.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGES[0].read_text(), re.DOTALL).group(1))
    (folder / "scans").mkdir()
    shutil.copy(folder / "data/slide 0.tif", folder / "scans/a.svs")
    shutil.copy(ROOT / "Makefile", folder)
    return type(finished)(folder)


@pytest.mark.parametrize("command", [command for command in ALL if command not in ELSEWHERE])
def test_a_command_works(as_documented, command):
    words = shlex.split(command)
    if words[0] == "make":
        done = subprocess.run([*words, "--dry-run"], cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    assert words[0] == "snakemake", f"{command}: is neither of Snakemake nor of make; say in ELSEWHERE where it is run"
    as_documented.snakemake(*(word for word in words[1:] if word not in ("--dry-run", "-n")), "--dry-run")


def test_what_is_left_out_is_there():
    assert set(ELSEWHERE) <= {*ALL, "snakemake --configfile config/epistroma.yaml"}


def test_settings_of_the_docs_are_right(as_documented):
    """Blocks of YAML in docs/ are parts of a configuration that Snakemake accepts."""
    path = as_documented.folder / as_documented.configuration_file
    own = path.read_text()
    for page in PAGES[2:]:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            settings = yaml.safe_load(block)
            if settings.get("split", {}).get("folds"):
                # The project has five patients.
                settings["split"]["folds"] = 2
            if "objects" in settings:
                # Nor has it glands.
                settings["objects"]["class"] = "epithelium"
            if "measurements" in settings:
                # Nor stroma.
                settings["measurements"]["ratios"] = [["epithelium", "None"]]
            config = yaml.safe_load(own)
            if "minutes" in settings.get("training", {}):
                del config["training"]["epochs"]
            path.write_text(yaml.safe_dump(config))
            as_documented.configure(**settings)
            as_documented.snakemake("--dry-run", "--quiet")
