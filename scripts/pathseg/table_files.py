"""Tables as files: TSV for programs, HTML for people."""

from pathlib import Path

import pandas as pd

from pathseg.files import atomic_path

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ margin: 24px; font: 14px/1.4 system-ui, sans-serif; color: #222; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 4px 12px; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums; }}
th {{ position: sticky; top: 0; background: #f0f0f0; }}
tr:hover td {{ background: #f7f7f7; }}
</style>
</head>
<body>
{table}
</body>
</html>
"""


def save_table(table: pd.DataFrame, tsv: str | Path, html: str | Path, digits: int = 4) -> None:
    """Write a table as TSV and as a page; numbers are rounded, and what is missing is NA in one and – in the other."""
    table = table.round(digits)
    with atomic_path(tsv) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="NA")
    # Pandas would write what is missing in its own way for each type.
    text = table.astype(object).where(table.notna(), "–").to_html(index=False, border=0, justify="left")
    with atomic_path(html) as temporary:
        temporary.write_text(PAGE.format(title=Path(html).stem, table=text), encoding="utf-8")
