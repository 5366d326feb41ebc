"""The scripts that set scores side by side and write them down."""

import re

import numpy as np
import pytest
from compare_experiments import comparison, draw_comparison
from summarize_scores import figures_of
from write_model_card import calibration_text, data_table, limits_text, resolution_text, score_lines

from conftest import CLASSES
from pathseg.errors import DatabaseError
from pathseg.scores.counts import Counts, PatientCounts
from pathseg.scores.figures import draw_confusion
from pathseg.scores.tables import patient_table, score_table
from pathseg.table_files import read_table, save_table

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


def changed(patients, rng, share):
    """Return the same patients with a share of the pixels of the second class lost."""
    counts = []
    for of in patients.counts:
        one = of + Counts.zeros(2)
        lost = np.rint(share * rng.uniform(0.5, 1.5) * one.confusion[1, 1])
        one.confusion[1] += [lost, -lost]
        counts.append(one)
    return PatientCounts(patients.parts, patients.patients, counts, patients.objects)


@pytest.fixture
def many(rng):
    """Six validation patients who differ much, and a test patient."""
    counts = [Counts.zeros(2) for _ in range(7)]
    for of, hit in zip(counts, rng.integers(400, 900, 7), strict=True):
        of.confusion[:] = [[2000, 1000 - hit], [1000 - hit, hit]]
    return PatientCounts(["validation"] * 6 + ["test"], list("ABCDEFT"), counts, "components")


def test_experiments_side_by_side(many, rng):
    worse = changed(many, rng, 0.05)
    rows = comparison({"plain": many, "Deeper": worse}, NAMES)
    assert list(rows["experiment"][:2]) == ["plain", "Deeper"]
    assert list(rows["part"].unique()) == ["test", "validation"]
    first, second = rows[(rows["part"] == "validation") & (rows["class"] == "epithelium")].to_dict("records")
    # Their own intervals overlap widely; that of the difference does not hold 0.
    assert second["dice_low"] < first["dice"] < second["dice_high"]
    assert first["interval"] == "95 %"
    assert np.isnan(first["difference"])
    for name, own in (("difference", "dice"), ("mean_difference", "dice_mean_over_patients")):
        assert second[name] == pytest.approx(second[own] - first[own])
        assert second[f"{name}_low"] < second[name] < second[f"{name}_high"] < 0
    own = second["dice_high"] - second["dice_low"]
    assert second["difference_high"] - second["difference_low"] < own / 3
    assert rows.loc[rows["part"] == "test", "interval"].unique() == [""]


def test_the_comparison_is_drawn_with_differences(many, rng):
    rows = comparison({"plain": many, "Deeper": changed(many, rng, 0.05)}, NAMES)
    figure = draw_comparison(rows, CLASSES)
    dice, difference = figure.axes[:2]
    assert [label.get_text() for label in dice.get_yticklabels()] == ["plain", "Deeper"]
    assert difference.get_xlabel() == "difference to plain, 95 % interval over patients"
    drawn = [line for line in difference.lines if line.get_label() == "epithelium"]
    expected = rows[(rows["part"] == "validation") & (rows["class"] == "epithelium")]["difference"]
    np.testing.assert_array_equal(drawn[0].get_xdata(), expected)
    alone = draw_comparison(comparison({"plain": many}, NAMES), CLASSES)
    assert len(alone.axes) == 2
    assert not [axes for axes in alone.axes if "difference" in axes.get_xlabel()]


def test_experiments_on_other_patients_are_not_compared(many):
    others = PatientCounts(many.parts, list("ABCDEXT"), many.counts, many.objects)
    with pytest.raises(DatabaseError, match="plain and other were scored on different patients"):
        comparison({"plain": many, "other": others}, NAMES)


def test_a_class_may_have_any_name(many, tmp_path):
    """What pandas takes for missing, and what spreadsheets take for a formula, is a name like others."""
    names = ["None", "=1+1"]
    table = score_table(many, names).assign(objects="components")
    save_table(table, tmp_path / "m.tsv", tmp_path / "m.html")
    again = read_table(tmp_path / "m.tsv", ["patients", "value", "low", "high"])
    lines = score_lines(again, names)
    assert "| validation, 6 patients | None | 0." in lines
    assert "| validation, 6 patients | =1+1 | 0." in lines
    assert set(comparison({"NA": many}, names)["class"]) == set(names)
    assert list(patient_table(many, names)["patient"].unique()) == list("ABCDEFT")


def test_figures_say_what_the_tables_say(patients, table):
    before = np.zeros((256, 2))
    before[204] = 30, 70
    figures = figures_of(patients, table, patient_table(patients, NAMES), CLASSES, {"before": before, "after": before})
    error = table[(table["score"] == "ece") & (table["part"] == "test")]["value"].iloc[0]
    legend = [text.get_text() for text in figures["calibration"].axes[0].get_legend().get_texts()]
    assert f"test: error {error:.3f}" in legend
    assert "validation, not calibrated: error 0.100" in legend
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figures["confusion"].axes]
    assert len(titles) == 2
    points = [len(dots.get_offsets()) for dots in figures["patients"].axes[0].collections]
    assert points == [3, 3, 1, 1]


def test_a_card_has_scores_with_intervals_and_warns(table):
    lines = score_lines(table, NAMES)
    assert "validation, 3 patients | epithelium | 0." in lines
    # Three patients: their range only.
    assert " (patients 0." in lines
    assert "validation, 3 patients | stroma | 0." in lines
    assert "The test scores are of 1 patient only" in limits_text(table, NAMES)
    assert "probabilities are off" in limits_text(table, NAMES)


def test_a_card_has_intervals_of_four_patients_or_more(many):
    line = score_lines(score_table(many, NAMES), NAMES).splitlines()[3]
    found = re.match(r"\| validation, 6 patients \| epithelium \| (0\.\d{3}) \((0\.\d{3}) to (0\.\d{3})\) \|", line)
    dice, low, high = map(float, found.groups())
    assert low < dice < high


def test_a_card_says_what_calibration_did():
    errors = {"before": 0.061, "after": 0.01, "unseen": 0.02}
    calibration = {"temperature": 1.5, "bias": [0.25, -0.25], "errors": errors}
    text = calibration_text({"calibration": calibration}, NAMES)
    assert "temperature 1.50, biases stroma +0.25, epithelium -0.25" in text
    assert "0.061 as trained, 0.010 calibrated, 0.020 on validation patients whom" in text
    errors.pop("unseen")
    assert "on the same patient" in calibration_text({"calibration": calibration}, NAMES)


def test_a_card_warns_of_what_the_search_for_tissue_takes(table):
    assert "for glass" not in limits_text(table, NAMES)
    lost = table["score"] == "lost_in_search"
    table.loc[lost, "value"] = 0.034
    assert "takes 3.4 % of what is not stroma for glass" in limits_text(table, NAMES)


def test_a_card_counts_patients_once():
    class Database:
        patients, source_digests, class_pixels = ["A", "A", "B"], ["x", "y"], np.array([1e6, 2e6])
        digest = "x"

        def __len__(self):
            return 3

    text = data_table([Database(), Database()], Database(), NAMES)
    assert "| training | 2 | 4 | 6 | 2.00 | 4.00 |" in text
    assert "| validation | 2 | 2 | 3 | 1.00 | 2.00 |" in text


def test_a_card_says_at_which_resolution_the_model_works():
    assert "at 0.5 µm per pixel" in resolution_text({"mpp": 0.5, "resize": None, "tile_size": 256})
    assert "brought to 0.25 times their size" in resolution_text({"mpp": None, "resize": 0.25, "tile_size": 256})


def test_shares_in_the_confusion_figure_are_of_the_true_class():
    one = Counts.zeros(2)
    one.confusion[:] = [[90, 10], [20, 20]]
    figure = draw_confusion(PatientCounts(["test"], ["A"], [one], "components"), NAMES)
    # From the top left, row by row; rows are the truth.
    texts = {text.get_position()[::-1]: text.get_text() for text in figure.axes[0].texts}
    assert [texts[place] for place in np.ndindex(2, 2)] == ["90.0 %", "10.0 %", "50.0 %", "50.0 %"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted", "true")
