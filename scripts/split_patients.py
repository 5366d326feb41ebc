"""Write down which part each patient is in, and draw what fell where.

Outputs
-------
split : TSV
    A row for each image: sample, patient, part, and `pixels_NAME` for each class.
figure : PNG
    Images and patients of each part, and the share of each class.

Beside them `parts.json` is brought up to date: the part of each patient, and the settings by which they were divided.
The workflow looks at it the next time, so that everyone keeps their part. `build_database` does so too.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pathseg.cohort.splitting import note_parts
from pathseg.errors import as_list, counted
from pathseg.figures import save_figure
from pathseg.images.masks import read_labels
from pathseg.labels.geojson import is_annotation_file, read_annotations
from pathseg.labels.regions import has_regions, within_regions
from pathseg.labels.values import class_counts, to_class_indices
from pathseg.logs import progress, start_log
from pathseg.table_files import save_tsv


def count_pixels(masks: list[str], classes: list[dict[str, Any]], ignore_value: int | None, threads: int) -> np.ndarray:
    """Count the pixels of each class in each mask: int64 [images, C]."""

    def count(path: str) -> np.ndarray:
        if is_annotation_file(path):
            return annotated_areas(path, [class_["name"] for class_ in classes])
        return class_counts(to_class_indices(read_labels(path), classes, ignore_value, path), len(classes))

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(progress(pool.map(count, masks), "counting pixels", total=len(masks), unit="mask")))


def annotated_areas(path: str, names: list[str]) -> np.ndarray:
    """Return the area of a file's annotations of each class in pixels, overlaps counted twice: int64 [C].

    Of regions the background is what has no annotation.
    """
    areas = np.zeros(len(names))
    annotations = read_annotations(path)
    for annotation in within_regions(annotations, names[0]):
        if annotation.name in names:
            areas[names.index(annotation.name)] += annotation.polygon.area
    if has_regions(annotations):
        areas[0] = max(areas[0] - areas[1:].sum(), 0)
    return areas.round().astype(np.int64)


def draw_split(split: pd.DataFrame, parts: list[str], classes: list[dict[str, Any]]) -> Figure:
    """Draw how many images and patients each part has, and its share of each class.

    Parameters
    ----------
    split
        The split table.
    parts
        Names of the parts in the order to draw them.
    classes
        The configuration's classes.
    """
    by_part = split.groupby("part")
    figure = Figure(figsize=(11, 1.8 + 0.45 * len(parts)))
    left, right = figure.subplots(1, 2, sharey=True)
    images, patients = by_part.size().reindex(parts), by_part["patient"].nunique().reindex(parts)
    left.barh(parts, images, color="#56B4E9")
    for row, part in enumerate(parts):
        left.text(
            images[part], row, f" {counted(images[part], 'image')} of {counted(patients[part], 'patient')}", va="center"
        )
    left.set(xlabel="images", title="No patient is in two parts", xlim=(0, images.max() * 1.75))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.grid(visible=False)
    left.invert_yaxis()
    columns = [f"pixels_{class_['name']}" for class_ in classes]
    pixels = by_part[columns].sum().reindex(parts)
    share = 100 * pixels.div(pixels.sum(axis=1), axis=0)
    before = np.zeros(len(parts))
    for class_, column in zip(classes, columns, strict=True):
        right.barh(parts, share[column], left=before, color=class_["color"], label=class_["name"])
        before += share[column].to_numpy()
    right.set(xlabel="share of the pixels (%)", title="Classes in each part", xlim=(0, 100))
    figure.legend(loc="outside lower right", ncols=min(6, len(classes)))
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    rows = pd.DataFrame(params.rows)
    now = dict(zip(rows["patient"], rows["part"], strict=True))
    if changes := note_parts(params.parts_file, now, params.split):
        log.warning(as_list(changes))
    pixels = count_pixels(list(snakemake.input.masks), params.classes, params.ignore_value, snakemake.threads)
    for number, class_ in enumerate(params.classes):
        rows[f"pixels_{class_['name']}"] = pixels[:, number]
    save_tsv(rows, output.split)
    parts = [part for part in params.parts if part in set(now.values())]
    save_figure(draw_split(rows, parts, params.classes), output.figure)
    log.info("patients by part: %s", ", ".join(f"{part} {list(now.values()).count(part)}" for part in parts))
