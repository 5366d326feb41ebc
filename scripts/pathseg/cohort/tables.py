"""Read the tables of samples and slides.

Only the standard library and `jsonschema` are used: this runs each time that the workflow is read, also in a
plain Snakemake installation, and opens no file but the tables.
"""

import csv
import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pathseg.cohort.settings import schema_errors
from pathseg.errors import TableError, as_list

Row = dict[str, Any]

SAMPLE_COLUMNS = ("sample", "patient", "image", "mask", "instances", "mpp", "part")
HISTOQC_HEADER = "#dataset:"


def read_samples(path: str | Path, schema: dict[str, Any]) -> list[Row]:
    """Read the table of images with masks.

    Parameters
    ----------
    path
        Tab-separated table; its relative file names are relative to its folder.
    schema
        `config/schemas/samples.schema.yaml`.

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
    path = Path(path)
    rows = _read_rows(path, schema)
    errors = _duplicates(path, rows, "sample")
    parts: dict[str, Row] = {}
    for row in rows:
        row["part"] = row.get("part") or None
        earlier = parts.setdefault(row["patient"], row)
        if row["part"] != earlier["part"]:
            errors.append(
                f"{path}, line {row['line']}: patient {row['patient']!r} has part {row['part'] or 'empty'!r} here and "
                f"{earlier['part'] or 'empty'!r} in line {earlier['line']}; a patient is in one part only"
            )
        for column in ("image", "mask"):
            row[column] = _beside(path, row[column])
        row["instances"] = _beside(path, row["instances"]) if row.get("instances") else None
    _raise(errors)
    return [{key: row[key] for key in SAMPLE_COLUMNS} for row in rows]


def read_slides(slides: str | list[str], schema: dict[str, Any], folder: str | None = None) -> list[Row]:
    """List the slides to predict.

    Parameters
    ----------
    slides
        Table, file or pattern, or a list of these.
    schema
        `config/schemas/slides.schema.yaml`.
    folder
        Folder that the names in tables are relative to; by default each table's own.

    Returns
    -------
    list of dict
        `slide` (name: the file name without its ending), `path`, `mpp` (µm per pixel or None), `tissue` (file or None).

    Raises
    ------
    TableError
        If a pattern matches nothing, a table is wrong, or two slides have the same name.
    """
    rows: list[Row] = []
    for item in [slides] if isinstance(slides, str) else slides:
        rows += _slide_table(Path(item), schema, folder) if item.endswith(".tsv") else _matches(item)
    by_name: dict[str, Row] = {}
    errors = []
    for row in rows:
        row["slide"] = slide_name(row["path"])
        earlier = by_name.setdefault(row["slide"], row)
        if earlier is not row:
            errors.append(
                f"two slides have the name {row['slide']!r}: {earlier['path']} and {row['path']}; rename one, "
                "because outputs are named after the slide"
            )
        if any(character in row["slide"] for character in '{}<>:"|?*\\') or row["slide"].startswith(("-", ".")):
            errors.append(f'{row["path"]}: rename the slide, its name starts with - or . or has one of {{}}<>:"|?*\\')
    _raise(errors)
    return rows


def slide_name(path: str | Path) -> str:
    """Return a slide's file name without its ending (`.ome.tif` is one ending)."""
    return Path(path).stem.removesuffix(".ome")


def _matches(pattern: str) -> list[Row]:
    if not glob.has_magic(pattern):
        return [{"path": pattern, "mpp": None, "tissue": None}]
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not paths:
        raise TableError(f"slides: no file matches {pattern!r}; patterns are relative to the working directory")
    return [{"path": path, "mpp": None, "tissue": None} for path in paths]


def _slide_table(path: Path, schema: dict[str, Any], folder: str | None) -> list[Row]:
    rows = _read_rows(path, schema)
    _raise(_duplicates(path, rows, "slide"))
    base = Path(folder) / "table.tsv" if folder else path
    return [
        {
            "path": _beside(base, row["slide"]),
            "mpp": row["mpp"],
            "tissue": _beside(base, row["tissue"]) if row.get("tissue") else None,
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
    for number, cells in enumerate(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
        if not cells or not "".join(cells).strip():
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


def _beside(table: Path, name: str) -> str:
    """Return `name` as a path from the working directory, if it is relative to the table's folder."""
    joined = table.parent / name
    parts: list[str] = []
    for part in joined.parts:
        # Written without resolving links, so that Snakemake sees results/x.png and not config/../results/x.png.
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return str(Path(*parts)) if parts else "."


def missing_files(rows: Iterable[Row], columns: Iterable[str], made_under: str) -> list[str]:
    """Return a message for each file that a table names and that is neither there nor made by the workflow.

    Parameters
    ----------
    rows, columns
        Rows of `read_samples` or `read_slides`, and which of their columns are file names.
    made_under
        Folder whose files the workflow itself makes.
    """
    return [
        f"{row.get('sample') or row.get('slide')}: {column} {row[column]} {why_no_file(row[column], column)}"
        for row in rows
        for column in columns
        if row[column] and not row[column].startswith(made_under + "/") and not Path(row[column]).is_file()
    ]


def why_no_file(path: str, column: str = "") -> str:
    """Say what is wrong with a path that is no file, from a column of a table."""
    if not Path(path).is_dir():
        return "does not exist"
    # Slides, whose column is `path`, need not be named one by one.
    return f"is a folder; name a file{f', or a pattern such as {path}/*.svs' if column == 'path' else ''}"


def _raise(errors: list[str]) -> None:
    if errors:
        raise TableError(as_list(errors))
