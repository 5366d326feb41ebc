"""Scores of single images, beside what was said of them before anyone looked at their masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pathseg.scores.counts import Counts
from pathseg.scores.pixels import pixel_scores

COLUMNS = ("sample", "patient", "part", "fold", "word", "shift", "excess", "expected_dice", "dice", "reason")
NUMBERS = ("shift", "excess", "expected_dice", "dice")


def image_row(counts: Counts, trust: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Set what is said of an image beside its scores.

    Parameters
    ----------
    counts
        Of the image.
    trust
        `word`, `reason`, `shift`, `excess`, and `expected_dice` by class, see `pathseg.prediction.trust.judge`.
    names
        Of the classes.

    Returns
    -------
    dict
        `word`, `reason`, `shift`, `excess`; `expected_dice` and `dice`, means over all classes but the first that have
        both, None if there is none.
    """
    expected = np.array([trust["expected_dice"][name] for name in names[1:]], float)
    true = pixel_scores(counts.confusion)["dice"][1:]
    both = np.isfinite(expected) & np.isfinite(true)
    means = {"expected_dice": expected, "dice": true}
    return {key: trust[key] for key in ("word", "reason", "shift", "excess")} | {
        key: float(values[both].mean()) if both.any() else None for key, values in means.items()
    }


def image_table(images: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row for each image, with `COLUMNS`; a number that is missing is NaN."""
    table = pd.DataFrame(images, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(NUMBERS, float))


def words_lines(table: pd.DataFrame) -> list[str]:
    """Say in a line for each part how well images with each word were predicted."""
    lines = []
    for part, rows in table[table["word"].notna()].groupby("part", sort=False):
        said = [
            f"{len(dice)} {word} (mean Dice {dice.mean():.3f}, lowest {dice.min():.3f})"
            for word, dice in rows.groupby("word", sort=False)["dice"]
        ]
        lines.append(f"{part}: {', '.join(said)}")
    return lines or ["Of no image there is a word: the model file does not say what it was trained on."]
