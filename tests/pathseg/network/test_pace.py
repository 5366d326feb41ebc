import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathseg.network.pace import LEAST_EPOCHS, Pace, pace_within


@pytest.mark.parametrize(
    ("seconds", "step", "validation", "steps", "expected"),
    [
        (1000, 1, 10, 90, Pace(10, 90)),
        (80, 1, 2, 90, Pace(LEAST_EPOCHS, 8)),
        (1, 1, 10, 90, Pace(1, 1)),
    ],
    ids=["whole epochs", "epochs that are cut short", "no time at all"],
)
def test_paces(seconds, step, validation, steps, expected):
    assert pace_within(seconds, step, validation, steps) == expected


def test_of_few_epochs_none_is_spent_on_the_rise_of_the_learning_rate():
    assert Pace(4, 100).steps_of(1) == pytest.approx(40)
    assert Pace(40, 100).steps_of(1) == 100


@given(st.floats(1, 1e6), st.floats(1e-3, 10), st.floats(1e-3, 1e3), st.integers(1, 100_000))
def test_a_time_is_kept_where_it_can_be(seconds, step, validation, steps):
    pace = pace_within(seconds, step, validation, steps)
    assert 1 <= pace.steps <= steps
    takes = pace.epochs * (pace.steps * step + validation)
    if seconds >= 20 * (step + validation):
        assert 0.8 * seconds <= takes <= 1.2 * seconds
