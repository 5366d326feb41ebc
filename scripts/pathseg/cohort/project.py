"""All that the workflow must know of a project before it starts: configuration, samples and slides."""

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pathseg.cohort.settings import Settings, doubled_keys, load_schema, load_settings, with_types
from pathseg.cohort.tables import Row, fetched_or_here, from_here, missing_files, read_samples, read_slides, why_no_file
from pathseg.errors import ConfigError, TableError, as_list, counted
from pathseg.names import path_fault

LONGEST_MODEL_NAME = 58


class Rows(dict[str, Row]):
    """Rows by the name of their slide; a target may name one that is not there."""

    def __missing__(self, name: str) -> Row:
        """Say it."""
        raise TableError(f"there is no slide {name!r} among the `slides` of the configuration")


@dataclass(frozen=True)
class Project:
    """A checked project.

    Attributes
    ----------
    settings : dict
        The complete configuration.
    samples, slides : list of dict
        Rows of the sample and slide tables.
    models : list of str
        Given models; then nothing is trained.
    folds : list of str
        `holdout`, or `fold1` ... `foldK`.
    parts : list of str
        Parts that patients are divided into.
    experiments : list of str
        Names of the experiments; given models are one of their own, named after the first file.
    unfetched : str or None
        Folder that the archive of images is still to be unpacked into; all that can be done for now is to fetch it.
    """

    settings: Settings
    samples: list[Row]
    slides: list[Row]
    models: list[str]
    folds: list[str]
    parts: list[str]
    experiments: list[str]
    unfetched: str | None

    def summary(self) -> str:
        """Say in words what there is to work on."""
        if self.unfetched:
            return "The archive of images, to be fetched"
        patients = len({row["patient"] for row in self.samples})
        trained = 0 if self.models else len(self.experiments) * len(self.folds)
        counts = [
            (len(self.samples), "image", f" of {counted(patients, 'patient')}"),
            (trained, "model", " to train"),
            (len(self.models), "given model", ""),
            (len(self.slides), "slide", ""),
        ]
        return ", ".join(counted(count, name) + more for count, name, more in counts if count)


def read_project(
    config: dict[str, Any],
    schemas: Path,
    made_under: str,
    files: Iterable[str | Path] = (),
    complete: bool = True,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Project:
    """Read and check a project.

    Parameters
    ----------
    config
        What Snakemake has read.
    schemas
        Folder of the JSON schemas.
    made_under
        Folder whose files the workflow makes itself, so that they need not be there.
    files
        The files that the configuration is from.
    complete
        Whether all files must be there. Not for a job that runs by itself: it needs its own only.
    given
        What of the configuration is from the command line.

    Raises
    ------
    PathsegError
        If the configuration or a table is wrong, a file is missing, or there is nothing to do.
    """
    doubled = [line for file in files if Path(file).is_file() for line in doubled_keys(file)]
    if doubled:
        raise ConfigError(f"the configuration is wrong:\n  {as_list(doubled)}")
    schema = load_schema(schemas / "config.schema.yaml")
    settings = load_settings(with_types(config, given, schema), schema)
    models = [settings["model"]] if isinstance(settings["model"], str) else settings["model"] or []
    models = [from_here(model) for model in models]
    samples, slides = [], []
    unfetched = archive_folder(settings)
    # A given model only predicts: the training data need not be there.
    if settings["samples"] and not models and not unfetched:
        schema = load_schema(schemas / "samples.schema.yaml")
        samples = read_samples(settings["samples"], schema, complete)
    if settings["slides"]:
        schema = load_schema(schemas / "slides.schema.yaml")
        slides = read_slides(settings["slides"], schema, settings["slide_folder"], complete)
        slides = with_patients(slides, samples)
    if not samples and not models and not unfetched:
        raise ConfigError(
            "nothing to do: give `samples` to train with, or a trained `model` to predict with, in a file that "
            "--configfile names"
        )
    missing = [f"model {model} {why_no_file(model)}" for model in models if not fetched_or_here(model)]
    missing += missing_files(samples, ["image", "mask", "instances"], made_under)
    missing += missing_files(slides, ["path", "tissue", "regions"], made_under)
    if missing and complete:
        raise TableError(f"files are missing:\n  {as_list(missing)}")
    folds, parts = folds_and_parts(settings, samples)
    experiments = [given_name(models[0])] if models else list(settings["experiments"])
    return Project(settings, samples, slides, models, folds, parts, experiments, unfetched)


def with_patients(slides: list[Row], samples: list[Row]) -> list[Row]:
    """Return the slides, of those that are samples with the patient of the sample table.

    Raises
    ------
    TableError
        If the slide table has another one.
    """
    patients = {os.path.realpath(row["image"]): row["patient"] for row in samples}
    there = [row | {"patient": patients.get(os.path.realpath(row["path"]), row["patient"])} for row in slides]
    errors = [
        f"slide {row['path']}: is of patient {row['patient']!r} in the slide table, and of {known['patient']!r} in the "
        "sample table; correct one of them"
        for row, known in zip(slides, there, strict=True)
        if row["patient"] not in (None, known["patient"])
    ]
    if errors:
        raise TableError(as_list(errors))
    return there


def table_and_slides(project: Project, schemas: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows of the sample table, also where a given model needs none, and the slides with their patients.

    Raises
    ------
    ConfigError
        If the configuration names no table.
    TableError
        If it is wrong.
    """
    table = project.settings["samples"]
    if table is None:
        raise ConfigError(
            "samples: name the table there that is to get the annotated slides; it is made if there is none"
        )
    if project.samples or not Path(table).exists():
        return project.samples, project.slides
    samples = read_samples(table, load_schema(schemas / "samples.schema.yaml"))
    return samples, with_patients(project.slides, samples)


def check_folder(folder: str | Path) -> None:
    """Check that a folder that the workflow runs in, or is in, has no name that Snakemake or a cluster takes apart.

    Raises
    ------
    ConfigError
        If it has.
    """
    fault = path_fault(str(folder))
    if fault:
        raise ConfigError(f"the working folder, or that of the workflow, {str(folder)!r}: {fault}")


def archive_folder(settings: Settings) -> str | None:
    """Return the folder that the archive of images is to be unpacked into; None if there is nothing to fetch.

    The folder is named after the archive: Snakemake empties it before, and nobody else is to have files there.

    Raises
    ------
    ConfigError
        If it is there already.
    """
    archive, samples = settings["archive"], settings["samples"]
    if not archive or not samples or Path(samples).exists():
        return None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", archive["url"].rstrip("/").rpartition("/")[2].partition(".")[0])
    folder = Path(samples).parent / f"{stem}-{archive['sha256'][:8]}"
    if folder.exists():
        raise ConfigError(
            f"{folder} is there and {samples} is not: the archive would be unpacked over it. Move the folder away, or "
            "bring the table back"
        )
    return str(folder)


def folds_and_parts(settings: Settings, samples: list[Row]) -> tuple[list[str], list[str]]:
    """Return the folds and the parts of a split; there is a test part also if the table fixes one."""
    split = settings["split"]
    folds = [f"fold{k}" for k in range(1, (split["folds"] or 0) + 1)]
    held_out = ["test"] if split["test"] or any(row["part"] == "test" for row in samples) else []
    return folds or ["holdout"], [*(folds or ["train", "val"]), *held_out]


def given_name(model: str) -> str:
    """Return the name of the experiment that a given model file is."""
    return "model-" + re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(model).stem)[:LONGEST_MODEL_NAME]


def refuse_other_models(models: list[str], folder: Path) -> None:
    """Check that a folder of predicted slides is of these models, and not of others with the same name.

    Raises
    ------
    ConfigError
        If it is not: it would be overwritten.
    """
    for summary in itertools.islice(folder.glob("*/summary.json"), 1):
        earlier = [model["file"] for model in json.loads(summary.read_text(encoding="utf-8"))["models"]]
        if [os.path.realpath(model) for model in earlier] != [os.path.realpath(model) for model in models]:
            raise ConfigError(
                f"{folder}: holds predictions of {', '.join(earlier)}; those of {', '.join(models)} would have the "
                "same name and overwrite them: rename the model's file, or move that folder away"
            )
