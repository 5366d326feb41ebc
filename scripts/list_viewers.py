"""List the pages of all slides.

Outputs
-------
page : HTML
    A link to each slide's page, with its areas.
"""

from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.prediction.summaries import areas_text, read_summary
from pathseg.table_files import table_page


def viewer_row(folder: Path, summary: dict[str, Any]) -> dict[str, str]:
    """Return the row of a slide, whose page is in `folder` beside this page."""
    link = f'<a href="{quote(folder.as_posix())}/index.html">{escape(summary["slide"])}</a>'
    word = summary.get("trust", {}).get("word")
    return {"slide": link, "experiment": folder.parent.name, "area": areas_text(summary), "trust": word or "–"}


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    page = Path(snakemake.output.page)
    rows = []
    for folder, path in zip(snakemake.input.pages, snakemake.input.summaries, strict=True):
        rows.append(viewer_row(Path(folder).relative_to(page.parent), read_summary(path)))
    with atomic_path(page) as temporary:
        temporary.write_text(table_page("Slides", pd.DataFrame(rows), links="slide"), encoding="utf-8")
    log.info("open %s in a browser: %d slides", page, len(rows))
