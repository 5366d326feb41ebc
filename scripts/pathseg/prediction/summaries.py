"""The summaries of slides: what predicting a slide says in `summary.json`."""

import json
from pathlib import Path
from typing import Any


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read a slide's `summary.json`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def areas_text(summary: dict[str, Any]) -> str:
    """Return the areas of the classes but the first as a line of text."""
    rows = summary["classes"][1:]
    if summary["mpp"]:
        return ", ".join(f"{row['name']} {row['area_mm2']:.3f} mm²" for row in rows)
    return ", ".join(f"{row['name']} {row['pixels']:,} pixels" for row in rows)
