"""Rows of the sample table as jobs get them: what is said of an image by itself, and its files by themselves.

So nothing is done again only because files have moved, and Snakemake knows of every file that a job reads.
"""

from collections.abc import Iterable
from typing import Any

COLUMNS = ("sample", "patient", "part", "mpp")


def without_files(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row says apart from its files; `instances` is whether it has such an image."""
    return {key: row[key] for key in COLUMNS} | {"instances": row["instances"] is not None}


def with_files(
    rows: Iterable[dict[str, Any]], images: Iterable[str], masks: Iterable[str], instances: Iterable[str]
) -> list[dict[str, Any]]:
    """Put the files back into rows of `without_files`; `instances` are those of the rows that have one, in order."""
    waiting = iter(instances)
    return [
        row | {"image": image, "mask": mask, "instances": next(waiting) if row["instances"] else None}
        for row, image, mask in zip(rows, images, masks, strict=True)
    ]
