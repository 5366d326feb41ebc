"""Divide patients into parts: never an image, always a patient; and who has a part keeps it.

Only the standard library is used: this runs each time that the workflow is read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathseg.errors import SplitError, counted
from pathseg.files import atomic_path


def part_shares(val: float, test: float, folds: int | None) -> dict[str, float]:
    """Return the parts of a split and the share of all images that each should get.

    Parameters
    ----------
    val, test
        Shares for validation (unused with folds) and test; a part with share 0 is not made.
    folds
        Number of equal parts for cross-validation, or None for a hold-out split.
    """
    held_out = {"test": test} if test else {}
    if folds:
        return {f"fold{k}": (1 - test) / folds for k in range(1, folds + 1)} | held_out
    return {"train": 1 - val - test, "val": val} | held_out


def divide(samples: list[dict[str, Any]], split: dict[str, Any], kept: str | Path) -> dict[str, str]:
    """Choose a part for each patient; one who was placed before, by the same settings, stays there.

    Parameters
    ----------
    samples
        Rows with `patient` and `part` (None where it is free), one for each image. A given part goes before all.
    split
        `split` of the configuration.
    kept
        File of `write_parts`, if there is one: where patients were placed before.

    Returns
    -------
    dict
        Part of each patient of the table, in the order of their names.

    Raises
    ------
    SplitError
        If there are fewer patients than parts, a given part is not one of them, or the file is damaged.
    """
    images = Counter(row["patient"] for row in samples)
    given = {row["patient"]: row["part"] for row in samples if row["part"]}
    # A test part that only the table names takes the share that it has there.
    in_test = sum(images[patient] for patient, part in given.items() if part == "test") / max(1, len(samples))
    shares = part_shares(split["val"], split["test"] or in_test, split["folds"])
    for patient, part in given.items():
        if part not in shares:
            raise SplitError(
                f"patient {patient!r} has part {part!r} in the table, but this split has the parts "
                f"{', '.join(shares)}; change the table or the `split` settings"
            )
    before = {patient: part for patient, part in read_parts(kept, split).items() if patient in images}
    placed = {patient: part for patient, part in before.items() if part in shares} | given
    return dict(sorted(place_patients(images, placed, shares, split["seed"]).items()))


def divided(samples: list[dict[str, Any]], split: dict[str, Any], kept: str | Path) -> list[dict[str, Any]]:
    """Return the rows of the sample table with the part that `divide` chooses for each patient."""
    parts = divide(samples, split, kept) if samples else {}
    return [row | {"part": parts[row["patient"]]} for row in samples]


def place_patients(
    images: Mapping[str, int], placed: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Give each patient without a part to the part that lacks most of its share of the images.

    Those with many images come first, about: their order is drawn from the seed and their names, so that neither the
    order of the table nor another patient matters to it.

    Parameters
    ----------
    images
        Images of each patient.
    placed
        Parts of patients that stay where they are.
    shares
        See `part_shares`.
    seed
        Seed of the draw.

    Raises
    ------
    SplitError
        If a part would be empty.
    """
    parts = dict(placed)
    got = dict.fromkeys(shares, 0)
    for patient, part in parts.items():
        got[part] += images[patient]
    waiting = [patient for patient in images if patient not in parts]
    empty = [part for part in shares if not got[part]]
    if len(waiting) < len(empty):
        raise SplitError(
            f"{len(images)} patients ({len(waiting)} without a part) are too few for the parts "
            f"{', '.join(shares)}: each needs a patient of its own; add patients, ask for fewer parts, or divide anew "
            "with another `split.seed`"
        )
    total = sum(images.values())

    def lack(part: str) -> float:
        return 1 - got[part] / (shares[part] * total)

    for patient in sorted(waiting, key=lambda patient: -images[patient] * (0.5 + drawn(seed, patient))):
        parts[patient] = max(shares, key=lack)
        got[parts[patient]] += images[patient]
    return parts


def drawn(seed: int, name: str) -> float:
    """Return a number of [0, 1) that a seed and a name fix, on any machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\t{name}".encode()).digest()[:6]) / 2**48


def read_parts(path: str | Path, split: dict[str, Any] | None = None) -> dict[str, str]:
    """Return where patients were placed: nothing if nobody was, or by other settings than the given ones.

    Raises
    ------
    SplitError
        If the file is damaged.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return dict(content["patients"]) if split in (None, content["split"]) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SplitError(
            f"{path}: says which part each patient is in, and cannot be read ({error}); delete it to divide them anew"
        ) from error


def note_parts(path: str | Path, parts: dict[str, str], split: dict[str, Any]) -> list[str]:
    """Write down where patients are placed, if that is not yet there; say who is new and who has moved since.

    Jobs do it before anything learns from the division. Several may at once: they write the same. Who is no longer in
    the table is remembered, and comes back to the same part.
    """
    before, known = read_parts(path), read_parts(path, split)
    if parts.items() <= known.items():
        return []
    with atomic_path(path, shared=True) as temporary:
        write_parts(temporary, known | parts, split)
    if not before:
        return []
    moved = [
        f"{patient}: from {before[patient]} to {part}"
        for patient, part in parts.items()
        if before.get(patient, part) != part
    ]
    new = counted(len(set(parts) - set(before)), "new patient")
    return [f"{new}, {len(moved)} moved, by the table or by `split`", *moved]


def write_parts(path: str | Path, parts: dict[str, str], split: dict[str, Any]) -> None:
    """Write down where patients are placed, and by which settings."""
    content = {"split": split, "patients": dict(sorted(parts.items()))}
    Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
