"""Rows for a person's sample table: what stands there stays as it is, letter for letter, and new rows come after it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pathseg.cohort.splitting import place_patients

# The columns that a new table gets, and those that are added to one when a row needs them.
FIRST_COLUMNS = ["sample", "patient", "image", "mask"]
MORE_COLUMNS = ["mpp", "part"]


def with_rows(text: str, rows: list[dict[str, str]]) -> str:
    """Return the text of a table with more rows.

    Parameters
    ----------
    text
        Of the table, empty if there is none; its columns may be in any order, and others may be among them.
    rows
        Cells by column; those of `MORE_COLUMNS` may be empty.
    """
    end = next((end for end in ("\r\n", "\n", "\r") if end in text), "\n")
    # As the reader of tables does: of lines, and that the first which is neither empty nor a remark names the columns.
    lines = (text or "\t".join(FIRST_COLUMNS)).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    plain = [line.removeprefix("\ufeff") for line in lines]
    first = next(n for n, line in enumerate(plain) if line.strip() and not line.startswith("#"))
    columns = [cell.strip() for cell in plain[first].split("\t")]
    missing = [column for column in MORE_COLUMNS if column not in columns and any(row[column] for row in rows)]
    # The rows that are there may be shorter than the first line: their new cells are empty.
    lines[first] = "\t".join([lines[first], *missing])
    columns += missing
    lines += ["\t".join(row.get(column, "") for column in columns) for row in rows]
    return end.join(lines) + end


def part_of(patient: str, samples: list[dict[str, Any]], placed: Mapping[str, str], split: dict[str, Any]) -> str:
    """Return what a new row of a patient must have in the column `part`.

    A patient who has a part keeps it. One who is new is learned from: what is annotated because a model is unsure of
    it, or with a model's help, would make scores other than they are.

    Parameters
    ----------
    patient
        Of the new row.
    samples
        Rows of the table, with `patient` and `part` as the table has it.
    placed
        Parts of all patients who were placed.
    split
        `split` of the configuration.
    """
    for row in samples:
        if row["patient"] == patient:
            return row["part"] or ""
    if patient in placed or not samples:
        return ""
    folds = [f"fold{k}" for k in range(1, (split["folds"] or 0) + 1)] or ["train"]
    there = {other: part for other, part in placed.items() if part in folds}
    images = Counter(row["patient"] for row in samples if row["patient"] in there) + Counter([patient])
    there = {other: part for other, part in there.items() if other in images}
    return place_patients(images, there, dict.fromkeys(folds, 1 / len(folds)), split["seed"])[patient]
