"""Make a QuPath project of all slides, or add to it what is new.

Outputs
-------
project : qpproj
    The project, see `pathseg.export.projects`: slides, classes, pixel classifiers and scripts. What a person has
    changed is left as it is.
record : JSON
    What pathseg has put there, and where the project's scripts find predictions and suggestions.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pathseg.colors import colors_of
from pathseg.export.projects import (
    QUPATH_CLASSES,
    Record,
    add_classes,
    add_file,
    add_images,
    read_record,
    write_record,
)
from pathseg.logs import start_log


def classes_of(records: list[dict[str, Any]], configured: list[dict[str, Any]]) -> dict[str, str]:
    """Return the colours of all classes of exported models by name, and of those that QuPath gives a meaning."""
    colors: dict[str, str] = {}
    for record in records:
        colors |= dict(zip(record["classes"], colors_of(record["classes"], configured), strict=True))
    return colors | QUPATH_CLASSES


def classifier_text(path: str) -> str | None:
    """Return the text of an exported pixel classifier, whose graph lies beside it; None if QuPath cannot run it."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if "pixel_classifier_type" not in content:
        return None
    # Results may have been moved since.
    content["op"]["op"]["ops"][0]["model"]["pathModel"] = uri_of(Path(path).with_name("model.onnx"))
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def by_experiment(files: Sequence[str], experiments: list[str]) -> dict[str, list[str]]:
    """Return the files of each experiment: as many for each, one experiment after another."""
    count = len(files) // len(experiments)
    return {name: list(files[number * count :][:count]) for number, name in enumerate(experiments)}


def files_of_slides(
    folder: Path, record: Record, rows: list[dict[str, Any]], predictions: dict[str, list[str]]
) -> None:
    """Note for the project's scripts what there is of each slide.

    Parameters
    ----------
    folder
        Of the project.
    record
        Of the project; `slides` is set.
    rows
        `slide` and `mpp` of each slide.
    predictions
        By experiment, the annotations of the slides in the same order.
    """
    results = folder.parent
    record.slides = {}
    for index, row in enumerate(rows):
        if row["slide"] not in record.images:
            continue
        suggested = {name: results / "suggestions" / name / f"{row['slide']}.geojson" for name in predictions}
        record.slides[str(record.images[row["slide"]]["entry"])] = {
            "slide": row["slide"],
            "mpp": row["mpp"],
            "predictions": {name: relative(files[index], folder) for name, files in predictions.items()},
            "suggestions": {name: relative(path, folder) for name, path in suggested.items()},
        }


def uri_of(path: str | Path) -> str:
    """Return a file's URI; of a link its own, not that of what it leads to, whose name may say nothing."""
    return Path(os.path.normpath(Path(path).absolute())).as_uri()


def relative(path: str | Path, folder: Path) -> str:
    """Return a path as a project's script finds it: relative to the project's folder."""
    return Path(os.path.relpath(path, folder)).as_posix()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files = snakemake.params, snakemake.input
    project = Path(snakemake.output.project)
    folder = project.parent
    record = read_record(folder)
    exported = [json.loads(Path(path).read_text(encoding="utf-8")) for path in files.records]
    slides = [row | {"uri": uri_of(path)} for row, path in zip(params.slides, files.slides, strict=True)]
    said: list[str | None] = [*add_images(folder, record, slides)]
    add_classes(folder, record, classes_of(exported, params.classes))
    for experiment, path, about in zip(params.experiments, files.classifiers, exported, strict=True):
        text = classifier_text(path)
        name = f"classifiers/pixel_classifiers/{experiment}.json"
        said.append(add_file(folder, record, name, text) if text else f"{experiment}: {about['qupath']}")
    for script in params.scripts:
        text = (Path(__file__).parent / "qupath" / script).read_text(encoding="utf-8")
        said.append(add_file(folder, record, f"scripts/{script}", text))
    files_of_slides(folder, record, slides, by_experiment(files.annotations, params.experiments))
    write_record(folder, record)
    # Younger than what it was made from, also if nothing was new.
    project.touch()
    for sentence in filter(None, said):
        log.info("%s", sentence)
    log.info("open %s in QuPath: %d slides; the scripts are under Automate, Project scripts", project, len(slides))
