"""How long a dry run of a large project takes: patients, images and slides that exist in name only.

Usage: python benchmarks/scale.py [--slides 1000 10000]. `make bench` runs it.
"""

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENTS, IMAGES = 2000, 10_000
CONFIG = """
samples: data/samples.tsv
slides: data/slides.tsv
classes: [{name: stroma, mask_value: 0}, {name: tumour, mask_value: 255}]
split: {val: 0.2, test: 0.2}
tiles: {size: 256, stride: 128, mpp: 1.0}
"""


def copy_workflow(folder: Path) -> None:
    """Copy the workflow's code into a folder."""
    for name in ("Snakefile", "rules", "scripts", "envs", "profiles", "report", "config"):
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder)


def write_project(folder: Path, n_slides: int) -> None:
    """Write a project whose images and slides are empty files."""
    copy_workflow(folder)
    data = folder / "data"
    data.mkdir()
    lines = ["sample\tpatient\timage\tmask\tmpp"]
    for number in range(IMAGES):
        lines.append(f"s{number}\tp{number % PATIENTS}\ti{number}.png\tm{number}.png\t0.5")
        (data / f"i{number}.png").touch()
        (data / f"m{number}.png").touch()
    (data / "samples.tsv").write_text("\n".join(lines) + "\n")
    for number in range(n_slides):
        (data / f"slide{number}.svs").touch()
    (data / "slides.tsv").write_text("slide\n" + "".join(f"slide{number}.svs\n" for number in range(n_slides)))
    (folder / "config.yaml").write_text(CONFIG)


def dry_run(folder: Path) -> tuple[float, int]:
    """Return the seconds and the number of jobs of a dry run."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--dry-run", "--quiet", "rules"]
    started = time.perf_counter()
    printed = subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout
    jobs = re.search(r"^total +(\d+)$", printed, re.MULTILINE)
    return time.perf_counter() - started, int(jobs.group(1)) if jobs else 0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[1000, 10_000])
    options = parser.parse_args()
    print(f"{PATIENTS} patients, {IMAGES} images")
    for n_slides in options.slides:
        with tempfile.TemporaryDirectory() as name:
            write_project(Path(name), n_slides)
            seconds, jobs = dry_run(Path(name))
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"  {n_slides:6d} slides: {jobs} jobs planned in {seconds:.1f} s, at most {memory:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
