"""Whether the jobs can use what the schema lets through: random configurations, each run to the end by Snakemake.

Settings are drawn from config/schemas/config.schema.yaml itself, with its least and largest values often among them;
those that only cost time (sizes, epochs, depth) are cut down to what 64-pixel images allow. Each must be refused in a
sentence when the configuration is read, or run to the end; a sentence of a job is counted, a traceback is a failure.

Usage: PYTHONPATH=scripts python benchmarks/random_settings.py [--runs 100] [--seed 1] [--folder DIR]

Python's start and its imports are spared, or a run would take minutes: each script runs in a process that is forked
from one with the libraries. All else is Snakemake's own, with the rules and profiles that are delivered.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
import yaml
from snakemake import cli
from snakemake.benchmark import benchmarked
from snakemake.script import PythonScript

import pathseg.figures
import pathseg.prediction.inference
import pathseg.tiles.database  # noqa: F401  so that forks have it
from pathseg.cohort.settings import load_schema, load_settings
from pathseg.errors import ConfigError
from pathseg.names import class_name_fault

ROOT = Path(__file__).parents[1]
SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")
FIXED = {"samples": "data/samples.tsv", "slides": "data/slides.tsv"}
NOT_DRAWN = {*FIXED, "archive", "slide_folder", "model", "classes", "experiments", "demo", "viewer", "ignore_value"}
# What larger (or smaller) values would cost is time or memory alone.
CHEAP = {
    "split.folds": (2, 3),
    "plan.minutes": (0.001, 0.02),
    "tiles.size": (16, 96),
    "tiles.stride": (12, 96),
    "tiles.mpp": (0.1, 100),
    "tiles.resize": (0.001, 4),
    "tiles.pad": (0, 64),
    "unet.depth": (1, 4),
    "unet.wf": (0, 3),
    "training.epochs": (1, 2),
    "training.minutes": (0.001, 0.02),
    "training.augmentation.crop": (16, 96),
    "panels.per_group": (1, 3),
    "network_pictures.tile": (0, 1),
}
# What may be left to the plan here: its epochs would take long.
PLANNED = {"tiles.size", "tiles.stride", "tiles.mpp", "unet.depth", "unet.wf", "training.batch_size"}
NAMES = [
    "None",
    "NA",
    "null",
    "nan",
    "1",
    "yes",
    "$x^$",
    "Tumor: positive",
    "<b>&amp;",
    "Größe 組",
    '"',
    "a,b",
    "{x}",
    "_a",
    "%s",
]


def draw(schema: dict[str, Any], key: str, rng: random.Random) -> Any:
    """Return a value that a part of the schema allows."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = rng.choice(kinds) if isinstance(kinds := schema["type"], list) else kinds
    if kind == "object":
        inner = {name: f"{key}.{name}".lstrip(".") for name in schema["properties"]}
        return {
            name: draw(schema["properties"][name], path, rng)
            for name, path in inner.items()
            if path not in NOT_DRAWN and rng.random() < 0.4
        }
    if kind in ("integer", "number"):
        return draw_number(schema, key, kind, rng)
    if kind == "string" and key in PLANNED:
        return "auto"
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        return [draw(schema["items"], f"{key}.", rng) for _ in range(2)]
    return None if kind == "null" else schema.get("default")


def draw_number(schema: dict[str, Any], key: str, kind: str, rng: random.Random) -> float:
    """Return a number in a schema's range: often an end of it, else anything between, small ones as likely as large."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1))
    low, high = CHEAP.get(key, (low, high))
    if kind == "integer":
        value = rng.choice([low, high, rng.randint(low, high), min(high, low + 8 * rng.randint(0, 8))])
        return float(value) if rng.random() < 0.1 else value
    least = low if "exclusiveMinimum" not in schema else max(low, rng.choice([5e-324, 1e-12, 1e-3]))
    most = high if "exclusiveMaximum" not in schema else rng.choice([0.5, 1 - 2**-53])
    between = least + (most - least) * rng.random() ** rng.choice([1, 6])
    return rng.choice([least, most, between, between])


def draw_config(rng: random.Random) -> dict[str, Any]:
    """Return a configuration that the schema and the check of contradictions let through."""
    while True:
        config = draw(SCHEMA, "", rng) | FIXED
        tiles = config.setdefault("tiles", {})
        # Exactly one of both; and most sizes fit no network, as the check says.
        tiles.pop("resize" if rng.random() < 0.6 else "mpp", None)
        if not tiles.get("mpp") and not tiles.get("resize"):
            tiles["mpp"] = rng.choice([0.25, 0.5, 1.0])
        tiles.setdefault("size", rng.choice([16, 32, 64]))
        tiles.setdefault("stride", tiles["size"])
        config.setdefault("unet", {}).setdefault("depth", 2)
        config["unet"].setdefault("wf", 1)
        training = config.setdefault("training", {})
        training.setdefault("epochs", 1)
        names = rng.sample(NAMES, 2)
        config["classes"] = [{"name": name, "mask_value": value} for name, value in zip(names, (0, 255), strict=True)]
        config["ignore_value"] = rng.choice([None, 7, 65535])
        if rng.random() < 0.3:
            config["experiments"] = {
                "a": {"training": draw(SCHEMA["properties"]["training"], "training", rng)},
                "b": None,
            }
        with contextlib.suppress(ConfigError):
            load_settings(config, SCHEMA)
            assert not any(class_name_fault(name) for name in names)
            return config


def write_project(folder: Path) -> None:
    """Write the workflow, six images of 64 pixels with masks, of six patients, and two slides."""
    for name in ("Snakefile", "rules", "scripts", "envs", "profiles", "report", "config"):
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder)
    data, rng = folder / "data", np.random.default_rng(0)
    data.mkdir()
    lines = ["sample\tpatient\timage\tmask\tmpp\tpart"]
    for number in range(6):
        mask = np.zeros((64, 64), np.uint8)
        cv2.circle(mask, tuple(map(int, rng.integers(16, 48, 2))), 14, 255, -1)
        image = rng.integers(150, 240, (64, 64, 3), dtype=np.uint8)
        image[mask > 0] //= 2
        cv2.imwrite(str(data / f"i{number}.png"), image)
        cv2.imwrite(str(data / f"m{number}.png"), mask)
        lines.append(f"NA {number}\tnull{number}\ti{number}.png\tm{number}.png\t0.5\t")
    (data / "samples.tsv").write_text("\n".join(lines) + "\n")
    for number in range(2):
        picture = np.full((128, 160, 3), 240, np.uint8)
        picture[20:110, 30:130] = rng.integers(60, 200, (90, 100, 3))
        resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(data / f"s{number}.tif", picture, tile=(64, 64), metadata=None, **resolution)
    (data / "slides.tsv").write_text("slide\ns0.tif\ns1.tif\n")


def run_in_fork(script: PythonScript, path: str, edit: bool = False) -> None:  # noqa: ARG001  Snakemake's own signature
    """Run a script in a fork of this process, instead of in a new Python."""
    child = os.fork()
    if not child:
        code = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stderr.flush()
        os._exit(code)
    with benchmarked(child, script.bench_record) if script.bench_record else contextlib.nullcontext():
        status = os.waitpid(child, 0)[1]
    if status:
        raise RuntimeError(f"{path} failed")


def run(config: dict[str, Any], folder: Path) -> str:
    """Run a configuration to the end; return what was printed and, if it failed, what the jobs' logs say."""
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    shutil.rmtree(folder / "results", ignore_errors=True)
    shutil.rmtree(folder / ".snakemake", ignore_errors=True)
    printed = folder / "printed.txt"
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            PythonScript.execute_script = run_in_fork
            with contextlib.redirect_stdout(io.TextIOWrapper(os.fdopen(1, "wb"))):
                try:
                    cli.main(["--cores", "1", "--nolock"])
                except SystemExit as end:
                    code = int(end.code or 0)
        os._exit(code)
    code = os.waitpid(child, 0)[1]
    text = printed.read_text(errors="replace")
    if not code and (folder / "results/run/times.tsv").exists():
        return ""
    logs = [path.read_text(errors="replace") for path in sorted((folder / "results").glob("logs/**/*.log"))]
    return "\n".join([text, *(log for log in logs if "ERROR" in log)])


def reasons(text: str) -> Iterator[str]:
    """Return why a run failed: sentences of jobs, and the last lines of tracebacks that are none."""
    sentences = re.findall(r"ERROR (.*) \(details: ", text)
    yield from sorted({f"sentence: {sentence}" for sentence in sentences})
    ends = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", text)
    yield from sorted({f"TRACEBACK: {end}" for end in ends if not end.startswith("pathseg.errors.")})


def main() -> None:
    """Run random configurations, and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the failures there; by default a temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ended, failed = Counter(), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_project(folder)
        for number in range(arguments.seed, arguments.seed + arguments.runs):
            config, started = draw_config(random.Random(number)), time.monotonic()  # noqa: S311
            text = run(config, folder)
            found = list(reasons(text)) or (["TRACEBACK: of Snakemake itself"] if text else ["ran to the end"])
            ended[tuple(sorted({reason.partition(": ")[0] for reason in found}))] += 1
            failed += any(reason.startswith("TRACEBACK") for reason in found)
            print(f"{number}: {time.monotonic() - started:.0f} s: {' | '.join(found)}", flush=True)
            if text and arguments.folder:
                arguments.folder.mkdir(parents=True, exist_ok=True)
                shown = json.dumps(config, ensure_ascii=False, indent=1)
                (arguments.folder / f"{number}.txt").write_text(f"{shown}\n{text}", encoding="utf-8")
    print(", ".join(f"{count} {' and '.join(how)}" for how, count in ended.most_common()))
    sys.exit(failed > 0)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(2)
