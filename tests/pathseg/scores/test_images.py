import json

import numpy as np
import pytest

from pathseg.errors import DatabaseError
from pathseg.scores.counts import Counts, PatientCounts, pooled
from pathseg.scores.images import image_row, image_table, words_lines

NAMES = ["a", "b", "c"]
SAID = {"word": "usual", "reason": "r", "shift": 1.0, "excess": 0.5}


def row_of(confusion, expected, **who):
    counts = Counts.zeros(3)
    counts.confusion[:] = confusion
    return who | image_row(counts, SAID | {"expected_dice": dict(zip(NAMES, expected, strict=True))}, NAMES)


def test_the_mean_is_over_classes_that_have_both():
    """The first class does not count, nor does one that is neither there nor predicted."""
    row = row_of([[9, 0, 0], [1, 4, 0], [0, 3, 5]], [0.99, 0.6, 0.9])
    assert row["dice"] == pytest.approx((8 / 12 + 10 / 13) / 2)
    assert row["expected_dice"] == pytest.approx(0.75)
    row = row_of([[9, 1, 0], [1, 4, 0], [0, 0, 0]], [0.99, 0.6, 0.3])
    assert (row["dice"], row["expected_dice"]) == pytest.approx((0.8, 0.6))
    row = row_of([[9, 0, 0], [0, 0, 0], [0, 0, 0]], [0.99, None, None])
    assert (row["dice"], row["expected_dice"]) == (None, None)


def test_images_of_folds_come_together_and_back_from_a_file(tmp_path):
    folds = []
    for fold, (part, word) in enumerate([("test", "unusual"), ("validation", "usual"), ("validation", "unusual")]):
        row = row_of([[9, 1, 0], [1, 4 + fold, 0], [0, 0, 0]], [1, 0.5, None], part=part, patient=f"P{fold}")
        PatientCounts([part], [f"P{fold}"], [Counts.zeros(3)], "components", [row | {"word": word}]).save(
            tmp_path / f"{fold}.npz"
        )
        folds.append(PatientCounts.load(tmp_path / f"{fold}.npz"))
    table = image_table(pooled(folds).images)
    assert list(table["patient"]) == ["P1", "P2", "P0"]
    assert table["dice"].dtype == float
    assert words_lines(table) == [
        "validation: 1 usual (mean Dice 0.833, lowest 0.833), 1 unusual (mean Dice 0.857, lowest 0.857)",
        "test: 1 unusual (mean Dice 0.800, lowest 0.800)",
    ]
    assert "there is a word" in words_lines(table.assign(word=None))[0]


def test_a_file_without_images_is_said_to_be_damaged(tmp_path):
    PatientCounts(["test"], ["P"], [Counts.zeros(3)], "components").save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        content = dict(file)
    assert json.loads(str(content.pop("images"))) == []
    np.savez(tmp_path / "c.npz", **content)
    with pytest.raises(DatabaseError, match="is damaged; delete it"):
        PatientCounts.load(tmp_path / "c.npz")
