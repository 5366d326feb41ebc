"""What all rules share: the checked configuration, the tables, and what follows from them. No rules."""

import csv
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The folder above rules/, also when another workflow imports this one as a module.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
SCRIPTS = ROOT / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

from pathseg.digests import code_digest, digest
from pathseg.errors import PathsegError, TableError
from pathseg.settings import load_schema, load_settings
from pathseg.tables import missing_files, read_samples, read_slides

SCHEMAS = ROOT / "config" / "schemas"
DEMO = "results/demo"


def read_project(config):
    """Return the complete configuration, the samples and the slides."""
    settings = load_settings(config, load_schema(SCHEMAS / "config.schema.yaml"))
    samples, slides = [], []
    # A given model only predicts: the training data need not be there.
    if settings["samples"] and not settings["model"]:
        samples = read_samples(settings["samples"], load_schema(SCHEMAS / "samples.schema.yaml"))
    if settings["slides"]:
        schema = load_schema(SCHEMAS / "slides.schema.yaml")
        slides = read_slides(settings["slides"], schema, settings["slide_folder"])
    missing = missing_files(samples, ["image", "mask"], DEMO) + missing_files(slides, ["path"], DEMO)
    if missing:
        more = [f"... and {len(missing) - 20} more"] if len(missing) > 20 else []
        raise TableError("files are missing:\n  " + "\n  ".join(missing[:20] + more))
    if not samples and not settings["model"]:
        raise TableError("nothing to do: give `samples` to train with, or a trained `model` to predict with")
    if settings["model"] and not slides:
        raise TableError("nothing to do: give the `slides` that the model is to predict")
    return settings, samples, slides


try:
    SETTINGS, SAMPLES, SLIDES = read_project(config)
except PathsegError as error:
    raise WorkflowError(str(error)) from None

SLIDES_BY_NAME = {row["slide"]: row for row in SLIDES}
# Without their colours, whose change must not cut tiles or train again.
CLASS_VALUES = [{key: class_[key] for key in ("name", "mask_value")} for class_ in SETTINGS["classes"]]
MODELS = [SETTINGS["model"]] if isinstance(SETTINGS["model"], str) else SETTINGS["model"] or []
HELD_OUT = ["test"] if SETTINGS["split"]["test"] or any(row["part"] == "test" for row in SAMPLES) else []
FOLDS = [f"fold{k}" for k in range(1, (SETTINGS["split"]["folds"] or 0) + 1)] or ["holdout"]
PARTS = (FOLDS if SETTINGS["split"]["folds"] else ["train", "val"]) + HELD_OUT
# Given models are an experiment of their own, named after the first file.
GIVEN = "model-" + re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(MODELS[0]).stem) if MODELS else None
EXPERIMENTS = [GIVEN] if MODELS else list(SETTINGS["experiments"])


wildcard_constraints:
    experiment=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    fold=r"holdout|fold[1-9][0-9]*",
    part=r"train|val|test|fold[1-9][0-9]*",
    slide=r"[^/]+",


def code(rule):
    """Return the digest of a rule's script and of the modules that it uses."""
    return code_digest(SCRIPTS / f"{rule}.py")


def growing(megabytes):
    """Return a resource function that asks for more memory at each attempt."""

    def of_attempt(wildcards, attempt):
        return megabytes * attempt

    return of_attempt


def training_parts(fold):
    """Return the parts that a fold trains on."""
    return ["train"] if fold == "holdout" else [part for part in FOLDS if part != fold]


def validation_part(fold):
    """Return the part that a fold validates on."""
    return "val" if fold == "holdout" else fold


def part_rows(*parts):
    """Return the rows of the split table that are in the given parts. The split is made first, if need be."""
    path = checkpoints.split_patients.get().output.split
    with open(path, encoding="utf-8", newline="") as table:
        return [row for row in csv.DictReader(table, delimiter="\t") if row["part"] in parts]


def rows_digest(rows):
    """Return a digest of what a database or a score depends on beside the files themselves."""
    return digest([[row[key] for key in ("sample", "patient", "part", "image", "mask", "mpp")] for row in rows])
