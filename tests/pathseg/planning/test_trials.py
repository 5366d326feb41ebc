import dataclasses

import numpy as np
import pandas as pd
import pytest

from pathseg.planning.choices import Cohort
from pathseg.planning.trials import COLUMNS, choice, held_out, lead, resolutions, still_open

COHORT = Cohort("µm", 9, 18, 0.25, np.tile((500, 400), (18, 1)), {"a": 0.6, "b": 0.4}, {"b": 60.0}, 20.0, 1.0)
EVEN = np.array([0.8, 0.7, 0.9, 0.85])


def table(*rows):
    """Return trials of rows of round, resolution, Dice, lead and its error."""
    content = [(number, mpp, 1.0, 4, *found) for number, mpp, *found in rows]
    return pd.DataFrame(content, columns=list(COLUMNS))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1.4, 0.93, 2.1]),
        ({"finest": 1.2}, [1.4, 1.2, 2.1]),
        ({"finest": 1.39}, [1.4, 2.1]),
        ({"finest": 1.39, "gap": 3.0}, [1.4]),
        ({"gap": 3.0}, [1.4, 0.93]),
    ],
)
def test_finer_and_coarser_are_tried_as_far_as_pixels_and_gaps_allow(changes, expected):
    assert resolutions(dataclasses.replace(COHORT, **changes)) == expected


def test_a_third_of_the_patients_is_held_out_always_the_same():
    patients = [f"P{number}" for number in range(7) for _ in range(3)]
    found = held_out(patients)
    assert len(found) == 2
    assert found < set(patients)
    assert held_out(patients[::-1]) == found
    assert len(held_out(["a", "b", "c"])) == 1
    assert held_out(["a", "a", "b"]) == set()


def test_the_lead_is_of_the_same_images():
    ahead, error = lead(EVEN + [0.1, 0.2, 0.3, np.nan], EVEN)
    assert ahead == pytest.approx(0.2)
    assert error == pytest.approx(0.1 / np.sqrt(3))
    assert lead(EVEN[:1], EVEN[:1] - 0.1) == (pytest.approx(0.1), np.inf)


def test_what_is_clearly_behind_is_not_tried_any_longer_unless_it_is_finer():
    noisy = EVEN - [0.0, 0.1, 0.2, -0.1]
    assert still_open({1.4: EVEN, 0.93: EVEN - 0.1, 2.1: EVEN - 0.1}) == [1.4, 0.93]
    assert still_open({1.4: EVEN, 0.93: EVEN - 0.1, 2.1: noisy}) == [1.4, 0.93, 2.1]
    assert still_open({1.4: EVEN - 0.1, 0.93: EVEN, 2.1: EVEN - 0.2}) == [0.93]
    assert still_open({1.4: EVEN[:1] - 0.1, 0.93: EVEN[:1]}) == [1.4, 0.93]


def test_another_takes_the_place_of_the_planned_if_it_leads_clearly():
    close = table((1, 1.4, 0.80, 0, 0), (1, 0.93, 0.82, 0.05, 0.03), (1, 2.1, 0.7, -0.1, 0.03))
    assert choice(close)[0] == 1.4
    second = table((2, 1.4, 0.81, 0, 0), (2, 0.93, 0.86, 0.05, 0.02))
    found, why = choice(pd.concat([close, second]))
    assert found == 0.93
    assert why.endswith("1.4 µm 0.800, 0.93 µm 0.820, 2.1 µm 0.700, 1.4 µm 0.810, 0.93 µm 0.860")
    dropped = table((1, 1.4, 0.8, 0, 0), (1, 0.93, 0.9, 0.1, 0.01), (2, 0.93, 0.9, 0, 0))
    assert choice(dropped)[0] == 0.93
    assert choice(table((1, 1.4, 0.8, 0, 0), (1, 0.93, 0.803, 0.003, 0.001)))[0] == 1.4


def test_where_nothing_was_tried_nothing_follows():
    assert choice(table()) is None
