"""The scripts that set scores side by side and write them down."""

import numpy as np
import pytest
from compare_experiments import comparison, draw_comparison
from summarize_scores import figures_of
from write_model_card import data_table, limits_text, score_lines

from conftest import CLASSES
from pathseg.scores.counts import Counts, PatientCounts
from pathseg.scores.tables import patient_table, score_table

NAMES = [class_["name"] for class_ in CLASSES]


@pytest.fixture
def patients(rng):
    """Four patients, one of whom has no pixel of the second class."""
    counts = [Counts.zeros(2) for _ in range(4)]
    for number, of in enumerate(counts):
        truth = (rng.random(300) > 0.5).astype(int) * (number > 0)
        predicted = np.where(rng.random(300) > 0.2, truth, 1 - truth)
        probability = np.where(predicted == 1, rng.integers(128, 256, 300), rng.integers(0, 128, 300)).astype(np.uint8)
        of.add_pixels(truth, predicted, np.stack([255 - probability, probability]))
    return PatientCounts(["validation"] * 3 + ["test"], list("ABCD"), counts, "components")


@pytest.fixture
def table(patients):
    table = score_table(patients, NAMES)
    return table.assign(objects="components")


def test_experiments_side_by_side(table):
    worse = table.assign(value=table["value"] - 0.1)
    rows = comparison({"plain": table, "Deeper": worse})
    assert list(rows["experiment"][:2]) == ["plain", "Deeper"]
    assert list(rows["part"].unique()) == ["test", "validation"]
    assert rows["dice"].iloc[0] - rows["dice"].iloc[1] == pytest.approx(0.1)
    assert (rows["dice_low"] <= rows["dice"])[rows["part"] == "validation"].iloc[0]
    ticks = [label.get_text() for label in draw_comparison(rows, CLASSES).axes[0].get_yticklabels()]
    assert ticks == ["plain", "Deeper"]


def test_figures_say_what_the_tables_say(patients, table):
    figures = figures_of(patients, table, patient_table(patients, NAMES), CLASSES)
    error = table[(table["score"] == "ece") & (table["part"] == "test")]["value"].iloc[0]
    legend = [text.get_text() for text in figures["calibration"].axes[0].get_legend().get_texts()]
    assert f"test: calibration error {error:.3f}" in legend
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figures["confusion"].axes]
    assert len(titles) == 2
    points = [len(dots.get_offsets()) for dots in figures["patients"].axes[0].collections]
    assert points == [3, 3, 1, 1]


def test_a_card_has_scores_with_intervals_and_warns(table):
    lines = score_lines(table, NAMES)
    assert "validation, 3 patients | epithelium | 0." in lines
    assert " to 0." in lines
    assert "The test scores are of 1 patient only" in limits_text(table, NAMES)
    assert "probabilities are off" in limits_text(table, NAMES)


def test_a_card_counts_patients_once():
    class Database:
        patients, source_digests, class_pixels = ["A", "A", "B"], ["x", "y"], np.array([1e6, 2e6])

        def __len__(self):
            return 3

    text = data_table([Database(), Database()], Database(), NAMES)
    assert "| training | 2 | 4 | 6 | 2.00 | 4.00 |" in text
    assert "| validation | 2 | 2 | 3 | 1.00 | 2.00 |" in text
