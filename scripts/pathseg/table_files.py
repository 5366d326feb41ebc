"""Tables as files: TSV for programs and spreadsheets, plain HTML that stands by itself for people."""

import re
from collections.abc import Collection
from html import escape
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd

from pathseg.errors import TableError
from pathseg.files import atomic_path

# What stands for a number that is missing: in our own tables, in those written by hand, and in Snakemake's.
MISSING = ("NA", "nan", "", "-")
# Spreadsheets take text that begins so for a formula. Text that already has quotes before such a beginning gets one
# more, so that one can be taken away again.
_FORMULA = re.compile(r"'*[=+@-]")
_QUOTED_FORMULA = re.compile(r"''*[=+@-]")
# Names have none; other text would tear its row apart.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ margin: 24px; font: 14px/1.4 system-ui, sans-serif; color: #222; }}
table {{ border-collapse: collapse; width: max-content; }}
td {{ max-width: 48ch; overflow-wrap: anywhere; }}
th, td {{ padding: 4px 12px; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums; }}
th {{ position: sticky; top: 0; background: #f0f0f0; }}
tr:hover td {{ background: #f7f7f7; }}
.sheet {{ display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 24px; }}
.sheet figure {{ margin: 0; max-width: 160px; overflow-wrap: anywhere; font-size: 12px; }}
</style>
</head>
<body>
{table}
</body>
</html>
"""


def table_page(title: str, table: pd.DataFrame, links: str | None = None, above: str = "") -> str:
    """Return a page of a table; what is missing is –.

    Parameters
    ----------
    title
        Of the page.
    table
        Its text is escaped.
    links
        Column that holds HTML already.
    above
        HTML to stand above the table.
    """
    # Pandas would write what is missing in its own way for each type.
    shown = table.astype(object).where(table.notna(), "–")
    for column in shown.columns.drop(links or []):
        cells: list[Any] = [value if isinstance(value, Number) else escape(str(value)) for value in shown[column]]
        shown[column] = cells
    shown.columns = [escape(column) for column in shown.columns]
    # Pandas cuts long texts off where it is not told otherwise.
    with pd.option_context("display.max_colwidth", None):
        return _PAGE.format(
            title=escape(title), table=above + shown.to_html(index=False, border=0, justify="left", escape=False)
        )


def save_table(table: pd.DataFrame, tsv: str | Path, html: str | Path, digits: int = 4, above: str = "") -> None:
    """Write a table as TSV and as a page; numbers are rounded, and what is missing is NA in one and – in the other.

    `above` is HTML to stand above the table on the page.
    """
    table = table.round(digits)
    save_tsv(table, tsv)
    with atomic_path(html) as temporary:
        temporary.write_text(table_page(Path(html).stem, table, above=above), encoding="utf-8")


def save_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as TSV; what is missing is NA.

    Text that a spreadsheet would take for a formula gets a ' before it, which `read_table` takes away; control
    characters become spaces.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(tsv_text(table), encoding="utf-8", newline="")


def tsv_text(table: pd.DataFrame, header: bool = True) -> str:
    """Return a table as the text of a TSV file, with or without its heading, as `save_tsv` writes it."""
    text: str = without_formulas(table).to_csv(None, sep="\t", index=False, header=header, na_rep="NA")
    return text


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts and headings are one line each, with a ' before what looks like a formula."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in safe.dtypes]]:
        safe[column] = safe[column].map(_as_text)
    return safe.rename(columns=_as_text)


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _CONTROL.sub(" ", value)
    return f"'{text}" if _FORMULA.match(text) else text


def read_table(path: str | Path, numbers: Collection[str]) -> pd.DataFrame:
    """Read a table, a TSV, as it was written: text stays what it is, be it "NA", "null" or "None".

    Parameters
    ----------
    path
        Written by `save_table`, or by pandas or Snakemake.
    numbers
        Columns of numbers, if the table has them; in them, and only there, NA is what is missing (NaN).

    Raises
    ------
    TableError
        If it is no table, or something else than a number stands in such a column.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except ValueError as error:
        raise TableError(f"{path}: cannot be read as a table ({error}); delete it and run again") from error
    table = table.rename(columns=_as_written)
    for column in table.columns:
        if column not in numbers:
            table[column] = table[column].map(_as_written)
            continue
        try:
            table[column] = pd.to_numeric(table[column].mask(table[column].isin(MISSING)))
        except ValueError as error:
            raise TableError(f"{path}: column {column!r} has no number ({error}); delete it and run again") from error
    return table


def _as_written(text: str) -> str:
    return text[1:] if _QUOTED_FORMULA.match(text) else text
