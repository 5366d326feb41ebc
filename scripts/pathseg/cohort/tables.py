"""Read the tables of samples and slides.

Only the standard library and `jsonschema` are used: this runs each time that the workflow is read, also in a
plain Snakemake installation, and opens no file but the tables, and what may be DICOM.
"""

import difflib
import glob
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

from pathseg.cohort.formats import SLIDE_ENDINGS, address_fault, is_address, series_of, tidied
from pathseg.cohort.settings import schema_errors, shortened, twin_errors
from pathseg.errors import TableError, as_list
from pathseg.names import name_fault, path_fault

Row = dict[str, Any]

SAMPLE_COLUMNS = ("sample", "patient", "image", "mask", "instances", "mpp", "part")
HISTOQC_HEADER = "#dataset:"
# What others call our columns; names that are nearly ours are found by themselves.
OTHER_NAMES = {"fold": "part", "split": "part", "set": "part", "subset": "part"}
# Tables of other kinds, which would be taken for images.
OTHER_TABLES = (".csv", ".txt", ".xlsx", ".xls", ".ods")
# Files that stand beside the folders of the slides, which are named after them.
TAKEN_SLIDE_NAMES = tuple(
    f"{name}.{ending}" for name in ("summary", "measurements") for ending in ("tsv", "html", "png")
)


def read_samples(path: str | Path, schema: dict[str, Any], complete: bool = True) -> list[Row]:
    """Read the table of images with masks.

    Parameters
    ----------
    path
        Tab-separated table; its relative file names are relative to its folder.
    schema
        `config/schemas/samples.schema.yaml`.
    complete
        Whether to look where links lead. Not in a job: ten thousand images take a network disk seconds.

    Returns
    -------
    list of dict
        `sample`, `patient`, `image`, `mask` (paths), `instances` (path or None), `mpp` (µm per pixel or None), `part`
        (or None), in the table's order.

    Raises
    ------
    TableError
        Naming the table, the line and the column.
    """
    path = _table_path(path)
    rows = _read_rows(path, schema)
    errors = _duplicates(path, rows, "sample")
    for column in ("sample", "patient"):
        errors += twin_errors(f"{path}, column {column}", [row[column] for row in rows])
    parts: dict[str, Row] = {}
    images: dict[str, Row] = {}
    for row in rows:
        row["part"] = row.get("part") or None
        earlier = parts.setdefault(row["patient"], row)
        if row["part"] != earlier["part"]:
            errors.append(
                f"{path}, line {row['line']}: patient {row['patient']!r} has part {row['part'] or 'empty'!r} here and "
                f"{earlier['part'] or 'empty'!r} in line {earlier['line']}; a patient is in one part only"
            )
        for column in ("image", "mask"):
            row[column] = _beside(path.parent, row[column])
        row["instances"] = _beside(path.parent, row["instances"]) if row.get("instances") else None
        for column in ("image", "mask", "instances"):
            # From here, not from the table: what leads to a folder may begin otherwise than its name.
            if fault := address_fault(row[column]) if is_address(row[column] or "") else path_fault(row[column] or ""):
                errors.append(f"{path}, line {row['line']}: {column} {row[column]} {fault}")
        earlier = images.setdefault(os.path.realpath(row["image"]) if complete else row["image"], row)
        if row["sample"] != earlier["sample"]:
            errors.append(
                f"{path}, line {row['line']}: the image of sample {row['sample']!r}, patient {row['patient']!r}, is "
                f"that of sample {earlier['sample']!r}, patient {earlier['patient']!r}, in line {earlier['line']} "
                f"({row['image']} and {earlier['image']}); it could be learned from and scored on, so keep one"
            )
    _raise(errors)
    return [{key: row[key] for key in SAMPLE_COLUMNS} for row in rows]


def read_slides(
    slides: str | list[str], schema: dict[str, Any], folder: str | None = None, complete: bool = True
) -> list[Row]:
    """List the slides to predict.

    Parameters
    ----------
    slides
        Table, file or pattern, or a list of these.
    schema
        `config/schemas/slides.schema.yaml`.
    folder
        Folder that the names in tables are relative to; by default each table's own.
    complete
        Whether all must be right; otherwise those that are not are left out.

    Returns
    -------
    list of dict
        `slide` (name: the file name without its ending; of DICOM with several files, their folder's name), `path`,
        `mpp` (µm per pixel or None), `tissue` and `regions` (files or None), `patient` (or None). Files of one DICOM
        series are one slide.

    Raises
    ------
    TableError
        If a pattern matches nothing, a table is wrong, or two slides have the same name.
    """
    rows: list[Row] = []
    for item in [slides] if isinstance(slides, str) else slides:
        rows += _slide_table(_table_path(item), schema, folder) if item.endswith(".tsv") else _matches(item, complete)
    by_name: dict[str, Row] = {}
    errors, doubtful = [], set()
    folders: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        fault = path_fault(row["path"]) or (is_address(row["path"]) and address_fault(row["path"], SLIDE_ENDINGS))
        if fault:
            errors.append(f"slide {shortened(row['path'])} {fault}")
            continue
        faults = [(key, path_fault(row[key] or "")) for key in ("tissue", "regions")]
        if wrong := [f"{key} {shortened(row[key])} {fault}" for key, fault in faults if fault]:
            errors += wrong
            continue
        row["path"], row["slide"] = _first_and_name(row["path"], folders)
        earlier = by_name.setdefault(row["slide"], row)
        if earlier is not row and (contradictions := _same_name(earlier, row)):
            errors += contradictions
            doubtful.add(row["slide"])
        elif fault := slide_name_fault(row["slide"]):
            errors.append(f"{row['path']}: rename the slide: its name {fault}")
    errors += twin_errors("slides", by_name)
    if complete:
        _raise(errors)
    return [row for name, row in by_name.items() if name not in doubtful]


def slide_name_fault(name: str) -> str | None:
    """Say why a slide may not have this name; None if it may."""
    if name.casefold() in TAKEN_SLIDE_NAMES:
        return "is that of a file which stands beside the slides' folders"
    return name_fault(name)


def _first_and_name(path: str, folders: dict[str, dict[str, list[str]]]) -> tuple[str, str]:
    """Return the file that a slide is read from, and its name: of a DICOM series the first file, and the folder's name.

    `folders` keeps what is known of folders: their series, and the files of each.
    """
    if is_address(path):
        return path, PurePath(path).parent.name if path.lower().endswith(".dcm") else slide_name(path)
    series = series_of(path)
    if series is None:
        return path, slide_name(path)
    folder = str(Path(path).parent)
    if folder not in folders:
        folders[folder] = {}
        for other in sorted(Path(folder).iterdir()):
            folders[folder].setdefault(series_of(str(other)) or "", []).append(str(other))
    first, *others = folders[folder][series]
    return first, Path(folder).absolute().name if others else slide_name(first)


def _same_name(earlier: Row, row: Row) -> list[str]:
    """Join two rows of one file, named twice; return what is wrong if they are of two, or contradict each other."""
    if os.path.realpath(earlier["path"]) != os.path.realpath(row["path"]):
        both = f"{earlier['path']} and {row['path']}"
        mend = "rename one, because outputs are named after the slide"
        if slide_name(row["path"]) != row["slide"]:
            mend = "name one file of a DICOM series, and give each series a folder of its own: it names the slide"
        return [f"two slides have the name {row['slide']!r}: {both}; {mend}"]
    errors = []
    for key in ("mpp", "tissue", "regions", "patient"):
        if earlier[key] and row[key] and earlier[key] != row[key]:
            errors.append(f"slide {row['path']} is listed twice, with {key} {earlier[key]} and {row[key]}; keep one")
        earlier[key] = earlier[key] or row[key]
    return errors


def slide_name(path: str | Path) -> str:
    """Return a slide's file name without its ending (`.ome.tif` is one ending)."""
    return Path(path).stem.removesuffix(".ome")


def _matches(pattern: str, complete: bool) -> list[Row]:
    if pattern.lower().endswith(OTHER_TABLES):
        raise TableError(
            f"slides: {shortened(pattern)} is no image; a table of slides is text separated by tabs, and ends in .tsv"
        )
    if is_address(pattern):
        return [_slide_row(tidied(pattern))]
    # A name may have brackets of its own.
    if not glob.has_magic(pattern) or is_file(pattern):
        return [_slide_row(from_here(pattern))]
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if complete and not paths:
        raise TableError(
            f"slides: no file matches {shortened(pattern)}; patterns are relative to the working directory"
        )
    return [_slide_row(from_here(path)) for path in paths]


def _slide_row(path: str) -> Row:
    """Return the row of a slide of which only the file is known."""
    return {"path": path, "mpp": None, "tissue": None, "regions": None, "patient": None}


def _table_path(table: str | Path) -> Path:
    if is_address(str(table)):
        raise TableError(
            f"{table}: a table is read from this machine; fetch it, the files that it names may stay there"
        )
    return Path(table)


def _slide_table(path: Path, schema: dict[str, Any], folder: str | None) -> list[Row]:
    rows = _read_rows(path, schema)
    _raise(_duplicates(path, rows, "slide"))
    base = folder or path.parent
    return [
        {
            "path": _beside(base, row["slide"]),
            "mpp": row["mpp"],
            "tissue": _beside(base, row["tissue"]) if row.get("tissue") else None,
            "regions": _beside(base, row["regions"]) if row.get("regions") else None,
            "patient": row.get("patient") or None,
        }
        for row in rows
    ]


def _read_rows(path: Path, schema: dict[str, Any]) -> list[Row]:
    """Read a tab-separated table whose header is its first line, or HistoQC's line that starts with #dataset:."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text; save the table as UTF-8") from error
    header: list[str] | None = None
    rows: list[Row] = []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        cells = line.split("\t")
        if not line.strip():
            continue
        if cells[0].startswith(HISTOQC_HEADER):
            header = ["slide", *cells[1:]]
        elif cells[0].startswith("#"):
            continue
        elif header is None:
            header = [cell.strip() for cell in cells]
            _check_header(path, header, schema)
        else:
            rows.append(_row(path, number, header, cells))
    if not rows:
        raise TableError(f"{path}: has no rows")
    _raise([f"{path}, line {row['line']}: {line}" for row in rows for line in schema_errors(row, schema)])
    for row in rows:
        row["mpp"] = float(row["mpp"]) if row.get("mpp") else None
    return rows


def _check_header(path: Path, header: list[str], schema: dict[str, Any]) -> None:
    missing = [column for column in schema["required"] if column not in header]
    if missing:
        hint = "; the cells must be separated by tabs, not commas" if len(header) == 1 and "," in header[0] else ""
        raise TableError(f"{path}: column {', '.join(map(repr, missing))} is missing from the first line{hint}")
    double = sorted({column for column in header if column and header.count(column) > 1})
    if double:
        raise TableError(f"{path}: column {double[0]!r} stands twice in the first line")
    known = list(schema["properties"])
    for column in header:
        meant = _meant_column(column, known)
        if meant:
            raise TableError(
                f"{path}: column {shortened(column)} is not known, and looks like {meant!r}; call it so, or something "
                "else if it is something else"
            )


def _meant_column(column: str, known: list[str]) -> str | None:
    """Return the column that an unknown one may be meant for: its values would silently be lost."""
    if not column or column in known:
        return None
    plain = column.casefold().strip(" _*:")
    close = difflib.get_close_matches(plain, known, 1, 0.8)
    meant = close[0] if close else OTHER_NAMES.get(plain)
    return meant if meant in known else None


def _row(path: Path, number: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header):
        raise TableError(f"{path}, line {number}: has {len(cells)} cells, the first line {len(header)}")
    row: Row = dict.fromkeys(header, "")
    row |= {column: cell.strip() for column, cell in zip(header, cells, strict=False)}
    return row | {"line": number}


def _duplicates(path: Path, rows: Iterable[Row], column: str) -> list[str]:
    lines: dict[str, int] = {}
    errors = []
    for row in rows:
        earlier = lines.setdefault(row[column], row["line"])
        if earlier != row["line"]:
            errors.append(f"{path}, line {row['line']}: {column} {row[column]!r} is already in line {earlier}")
    return errors


def _beside(folder: str | Path, name: str) -> str:
    """Return `name` as a path from the working directory, if it is relative to a folder, or as an address."""
    if is_address(name) or is_address(str(folder)):
        return tidied(name if is_address(name) else f"{folder}/{name}")
    joined = Path(from_here(Path(folder) / name))
    parts: list[str] = []
    for part in joined.parts:
        # Written without resolving links, so that Snakemake sees results/x.png and not config/../results/x.png.
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return str(Path(*parts)) if parts else "."


def from_here(path: str | Path) -> str:
    """Return a path from the working directory, if it lies there: it is the same file, whatever name it is given by."""
    return str(Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else path)


def missing_files(
    rows: Iterable[Row], columns: Iterable[str], made_under: str, there: Callable[[str], bool] | None = None
) -> list[str]:
    """Return a message for each file that a table names and that is neither there nor made by the workflow.

    Parameters
    ----------
    rows, columns
        Rows of `read_samples` or `read_slides`, and which of their columns are file names.
    made_under
        Folder whose files the workflow itself makes.
    there
        Says whether a file is there; by default addresses are taken for it.
    """
    return [
        f"{row.get('sample') or row.get('slide')}: {column} {row[column]} {why_no_file(row[column], column)}"
        for row in rows
        for column in columns
        if row[column] and not row[column].startswith(made_under + "/") and not (there or fetched_or_here)(row[column])
    ]


def fetched_or_here(path: str) -> bool:
    """Say whether a path is a file, or an address, which Snakemake looks up."""
    return is_address(path) or is_file(path)


def is_file(path: str) -> bool:
    """Say whether a path is a file; one that is too long for the disk, or has a NUL, is none."""
    return _answer(Path.is_file, path)


def _answer(question: Callable[[Path], bool], path: str) -> bool:
    try:
        return question(Path(path))
    except (OSError, ValueError):
        return False


def why_no_file(path: str, column: str = "") -> str:
    """Say what is wrong with a path that is no file, from a column of a table."""
    if not _answer(Path.is_dir, path):
        there = _answer(Path.exists, path) or _answer(Path.is_symlink, path)
        return "is a device, a pipe or a link that leads nowhere" if there else "does not exist"
    # Slides, whose column is `path`, need not be named one by one.
    return f"is a folder; name a file{f', or a pattern such as {path}/*.svs' if column == 'path' else ''}"


def _raise(errors: list[str]) -> None:
    if errors:
        raise TableError(as_list(errors))
