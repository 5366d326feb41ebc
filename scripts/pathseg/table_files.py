"""Tables as files: TSV for programs, plain HTML that stands by itself for people."""

from html import escape
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd

from pathseg.files import atomic_path

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ margin: 24px; font: 14px/1.4 system-ui, sans-serif; color: #222; }}
table {{ border-collapse: collapse; }}
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
    with atomic_path(tsv) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="NA")
    with atomic_path(html) as temporary:
        temporary.write_text(table_page(Path(html).stem, table, above=above), encoding="utf-8")
