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

from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.summaries import areas_text, read_summary

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>pathseg: slides</title>
<link rel="icon" href="data:,">
<style>
body { margin: 40px auto; max-width: 900px; font: 15px/1.5 system-ui, sans-serif; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 6px 12px; border-bottom: 1px solid #ddd; text-align: left; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Slides</h1>
<table>
<tr><th>slide</th><th>experiment</th><th>area</th></tr>
"""
TAIL = """</table>
</body>
</html>
"""


def table_row(folder: Path, summary: dict[str, Any]) -> str:
    """Return the row of a slide, whose page is in `folder` beside this page."""
    link = f'<a href="{quote(folder.as_posix())}/index.html">{escape(summary["slide"])}</a>'
    return f"<tr><td>{link}</td><td>{escape(folder.parent.name)}</td><td>{escape(areas_text(summary))}</td></tr>\n"


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    page = Path(snakemake.output.page)
    rows = []
    for folder, path in zip(snakemake.input.pages, snakemake.input.summaries, strict=True):
        rows.append(table_row(Path(folder).relative_to(page.parent), read_summary(path)))
    with atomic_path(page) as temporary:
        temporary.write_text("".join([HEAD, *rows, TAIL]), encoding="utf-8")
    log.info("open %s in a browser: %d slides", page, len(rows))
