"""Take annotations that were exported from QuPath into the sample table: the regions in which all is known.

Outputs
-------
changes : TSV
    A row for each region: `slide`, `patient`, `what` (added, changed, unchanged, gone, or kept: gone from an export in
    which none is left), `x`, `y`, `width` and `height` in the slide's finest pixels, the number of `annotations` in it,
    and the mask `file`.

Beside the sample table, the folder `annotations` gets a copy of each export that has regions, and `history.tsv` what
has changed at any time; the table gets a row for each slide that has none yet. What a person has written there stays:
rows, masks, and copies that were edited. A copy whose regions are gone from the new export is kept in
`annotations/earlier`.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pathseg.cohort.additions import part_of, with_rows
from pathseg.cohort.formats import is_address
from pathseg.errors import PathsegError, ProjectError, as_list
from pathseg.export.projects import read_record
from pathseg.files import atomic_path, file_digest
from pathseg.images.slides import open_slide
from pathseg.labels.corrections import Export, check_export, compare_regions, read_export, waiting_regions
from pathseg.labels.geojson import read_annotations
from pathseg.labels.regions import answered_regions
from pathseg.logs import start_log
from pathseg.table_files import save_tsv, tsv_text

FOLDER, RECORD, EARLIER, HISTORY = "annotations", "taken.json", "earlier", "history.tsv"
# What is no news: the sample is what it was.
SAME = ("unchanged", "kept")
COLUMNS = ["slide", "patient", "what", "x", "y", "width", "height", "annotations", "file"]


@dataclass(frozen=True)
class Cohort:
    """What is there before: a sample table, and whom and what it knows.

    Attributes
    ----------
    table : Path
        The sample table.
    samples : list of dict
        Its rows.
    placed : dict
        Part of each patient.
    split : dict
        `split` of the configuration.
    slides : dict
        Rows of the slide table by name.
    classes : list of dict
        Of the configuration.
    project : str or None
        Folder of the QuPath project that exports must be from; None if they may be from any.
    """

    table: Path
    samples: list[dict[str, Any]]
    placed: dict[str, str]
    split: dict[str, Any]
    slides: dict[str, dict[str, Any]]
    classes: list[dict[str, Any]]
    project: str | None

    @property
    def folder(self) -> Path:
        """Where copies of exports are kept."""
        return self.table.parent / FOLDER

    def sample_of(self, slide: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row of the sample table whose image a slide is; None if there is none."""
        path = os.path.realpath(slide["path"])
        return next((row for row in self.samples if os.path.realpath(row["image"]) == path), None)


def slide_of(export: Export, cohort: Cohort) -> dict[str, Any]:
    """Return the row of the slide that an export is of.

    Raises
    ------
    ProjectError
        If it is of another project, of no slide of the configuration, or of a slide whose patient is not known.
    """
    if cohort.project and export.project not in (None, read_record(Path(cohort.project)).project):
        raise ProjectError(
            f"{export.path}: was exported from another QuPath project than results/qupath/project.qpproj; export again "
            "from this one, or name the file in `annotations` of the configuration to take it all the same"
        )
    slide = cohort.slides.get(export.slide)
    if slide is None:
        raise ProjectError(
            f"{export.path}: there is no slide {export.slide!r} among the `slides` of the configuration; if its file "
            "was moved or renamed, name it there again, under this name"
        )
    if slide["patient"] is None:
        raise ProjectError(
            f"{export.path}: it is not known which patient slide {export.slide!r} is from; say so in a column "
            "`patient` of the slide table"
        )
    return slide


def mask_of(export: Export, slide: dict[str, Any], cohort: Cohort) -> Path:
    """Return where the copy of an export is kept.

    Raises
    ------
    ProjectError
        If a row of the sample table or an edited file would be lost.
    """
    mask = cohort.folder / f"{export.slide}.geojson"
    sample = cohort.sample_of(slide)
    if sample and os.path.realpath(sample["mask"]) != os.path.realpath(mask):
        raise ProjectError(
            f"{export.path}: sample {sample['sample']!r} of {cohort.table} is this slide and has the mask "
            f"{sample['mask']}, which is kept; to learn from the regions instead, write {FOLDER}/{mask.name} there, "
            "put the export in that place, and run again"
        )
    named = next((row for row in cohort.samples if row["sample"] == export.slide), None)
    if named and not sample:
        raise ProjectError(
            f"{export.path}: sample {export.slide!r} of {cohort.table} has another image, {named['image']}, than this "
            f"slide, {slide['path']}; correct the one that has moved, or rename the sample"
        )
    if mask.exists() and file_digest(mask) not in (
        read_digests(cohort.folder).get(mask.name),
        file_digest(export.path),
    ):
        raise ProjectError(
            f"{export.path}: {mask} was edited since it was taken, and is kept; move it away to take the export"
        )
    return mask


def read_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each copy as it was written, by file name."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def take(export: Export, cohort: Cohort) -> tuple[list[dict[str, Any]], list[str]]:
    """Take an export; return a row for each of its regions, and what is to be said.

    Raises
    ------
    PathsegError
        If it cannot be taken; nothing is changed then.
    """
    slide = slide_of(export, cohort)
    said = []
    if waiting := waiting_regions(export):
        said.append(f"{export.slide}: {waiting} suggested regions are still to do, and are left out")
    mask = mask_of(export, slide, cohort)
    size = None
    if not is_address(slide["path"]):
        opened = open_slide(slide["path"], slide["mpp"])
        size = opened.width, opened.height
    said += check_export(export, cohort.classes, size)
    before = read_annotations(mask) if mask.exists() else []
    about = {"slide": export.slide, "patient": slide["patient"], "file": mask.name}
    rows = [about | row for row in compare_regions(before, export.annotations)]
    what = {row["what"] for row in rows}
    if answered_regions(export.annotations):
        # What is the same in all regions is not learned again.
        if what != {"unchanged"}:
            keep_copy(export, mask, lost="gone" in what)
    elif before:
        rows = [about | row | {"what": "kept"} for row in compare_regions(before, before)]
        said.append(
            f"{export.slide}: has no region any more; what it had is still learned from. To forget it, remove its row "
            f"from {cohort.table}, and {mask}"
        )
    else:
        said.append(
            f"{export.slide}: has no region (an annotation of the class Region*) that is done; nothing is taken"
        )
    return rows, said


def keep_copy(export: Export, mask: Path, lost: bool) -> None:
    """Copy an export beside the sample table, and keep the copy before it if regions of that one are lost."""
    mask.parent.mkdir(parents=True, exist_ok=True)
    if lost:
        earlier = mask.parent / EARLIER / f"{mask.stem}-{file_digest(mask)[:8]}.geojson"
        earlier.parent.mkdir(exist_ok=True)
        shutil.copyfile(mask, earlier)
    with atomic_path(mask) as temporary:
        shutil.copyfile(export.path, temporary)
    record = read_digests(mask.parent) | {mask.name: file_digest(mask)}
    with atomic_path(mask.parent / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def new_rows(names: list[str], cohort: Cohort) -> list[dict[str, str]]:
    """Return rows for the slides that are not in the sample table yet."""
    rows: list[dict[str, str]] = []
    samples = list(cohort.samples)
    for name in names:
        slide = cohort.slides[name]
        if cohort.sample_of(slide):
            continue
        part = part_of(slide["patient"], samples, cohort.placed, cohort.split)
        samples.append({"patient": slide["patient"], "part": part or None})
        path = slide["path"]
        kept = is_address(path) or Path(path).is_absolute()
        rows.append(
            {
                "sample": name,
                "patient": slide["patient"],
                "image": path if kept else Path(os.path.relpath(path, cohort.table.parent)).as_posix(),
                "mask": f"{FOLDER}/{name}.geojson",
                "mpp": f"{slide['mpp']:g}" if slide["mpp"] else "",
                "part": part,
            }
        )
    return rows


def add_rows(table: Path, rows: list[dict[str, str]]) -> None:
    """Add rows to the sample table, which is made if there is none."""
    text = ""
    if table.exists():
        with open(table, encoding="utf-8", newline="") as file:
            text = file.read()
    with atomic_path(table) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(with_rows(text, rows))


def add_to_history(changes: pd.DataFrame, folder: Path) -> None:
    """Add what is new to the history of a sample table: it stays on record whatever becomes of this run."""
    news = changes[~changes["what"].isin(SAME)]
    if news.empty:
        return
    path = folder / HISTORY
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with atomic_path(path) as temporary:
        text = tsv_text(news.assign(date=time.strftime("%Y-%m-%d")), header=not before)
        temporary.write_text(before + text, encoding="utf-8", newline="")


def take_all(paths: list[str], cohort: Cohort) -> tuple[pd.DataFrame, list[str], list[str], list[str]]:
    """Take all exports that can be taken.

    Returns
    -------
    changes : pandas.DataFrame
        A row for each region.
    added : list of str
        Slides that got a row of the sample table.
    said, refused : list of str
        What is to be said, and why exports were not taken.
    """
    exports, said, refused = [], [], []
    for path in paths:
        try:
            exports.append(read_export(path))
        except PathsegError as error:
            refused.append(str(error))
    changes: list[dict[str, Any]] = []
    taken = []
    for export in exports:
        twins = [str(other.path) for other in exports if other.slide == export.slide]
        try:
            if len(twins) > 1:
                raise ProjectError(f"{' and '.join(twins)} are both of slide {export.slide!r}; keep the right one")
            rows, words = take(export, cohort)
        except PathsegError as error:
            if str(error) not in refused:
                refused.append(str(error))
            continue
        changes += rows
        said += words
        if answered_regions(export.annotations):
            taken.append(export.slide)
    rows = new_rows(taken, cohort)
    if rows:
        add_rows(cohort.table, rows)
    return pd.DataFrame(changes, columns=COLUMNS), [row["sample"] for row in rows], said, refused


def refuse(sentences: list[str]) -> None:
    """Stop if exports were not taken, with what is wrong with each."""
    if sentences:
        raise ProjectError(f"some exports were not taken, the others were:\n  {as_list(sentences)}")


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params = snakemake.params
    if not snakemake.input.exports:
        raise ProjectError(
            "there are no exported annotations; in QuPath, run the script `Export all annotations` of the project that "
            "`snakemake qupath` makes, or name their files in `annotations` of the configuration"
        )
    cohort = Cohort(table=Path(params.table), classes=params.classes, **params.cohort)
    changes, added, said, refused = take_all(list(snakemake.input.exports), cohort)
    for sentence in said:
        log.warning("%s", sentence)
    counts = changes["what"].value_counts().to_dict()
    log.info("regions: %s", ", ".join(f"{count} {what}" for what, count in counts.items()) or "none")
    if added:
        log.info("%s: new rows for %s", params.table, ", ".join(added))
    if added or set(counts) - set(SAME):
        log.info("run Snakemake again to train with them")
    add_to_history(changes, cohort.folder)
    refuse(refused)
    save_tsv(changes, snakemake.output.changes)
