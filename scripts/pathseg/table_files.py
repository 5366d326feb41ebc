"""Tables as files: TSV for programs, HTML for people."""

from pathlib import Path

import pandas as pd

from pathseg.files import atomic_path
from pathseg.pages import table_page


def save_table(table: pd.DataFrame, tsv: str | Path, html: str | Path, digits: int = 4) -> None:
    """Write a table as TSV and as a page; numbers are rounded, and what is missing is NA in one and – in the other."""
    table = table.round(digits)
    with atomic_path(tsv) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="NA")
    with atomic_path(html) as temporary:
        temporary.write_text(table_page(Path(html).stem, table), encoding="utf-8")
