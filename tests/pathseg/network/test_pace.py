import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathseg.network.pace import LEAST_EPOCHS, Pace, TimeLeft, changed_pace, epochs_within


def pace_of(epochs, steps):
    return Pace.of(epochs, steps, warmup=1, half_life=1)


@pytest.mark.parametrize(
    ("seconds", "step", "validation", "steps", "expected"),
    [(1000, 1, 10, 90, (10, 90)), (80, 1, 2, 90, (LEAST_EPOCHS, 8)), (1, 1, 10, 90, (1, 1))],
    ids=["whole epochs", "epochs that are cut short", "no time at all"],
)
def test_epochs_within_a_time(seconds, step, validation, steps, expected):
    assert epochs_within(seconds, step, validation, steps) == expected


def test_of_few_epochs_none_is_spent_on_the_rise_of_the_learning_rate():
    assert Pace.of(4, 100, warmup=1, half_life=2, most=0.4).warmup == pytest.approx(40)
    assert Pace.of(4, 100, warmup=1, half_life=2, most=0.4).half_life == pytest.approx(40)
    assert Pace.of(40, 100, warmup=1, half_life=2, most=4).half_life == 200


def test_learning_rate_rises_and_falls_to_zero():
    pace = Pace.of(5, 10, warmup=1, half_life=0)
    rates = [pace.rate(step) for step in range(51)]
    assert int(np.argmax(rates)) == 10
    assert rates[10] == 1
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[30] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0)
    assert Pace.of(5, 10, warmup=0, half_life=0).rate(0) == 1


@given(st.floats(1, 1e6), st.floats(1e-3, 10), st.floats(1e-3, 1e3), st.integers(1, 100_000))
def test_a_time_is_kept_where_it_can_be(seconds, step, validation, steps):
    epochs, each = epochs_within(seconds, step, validation, steps)
    assert 1 <= each <= steps
    takes = epochs * (each * step + validation)
    if seconds >= 20 * (step + validation):
        assert 0.8 * seconds <= takes <= 1.2 * seconds


@pytest.mark.parametrize(
    ("step", "rest", "seconds", "epochs", "steps"),
    [
        (1, 10, 600, 10, 90),
        (2, 20, 600, 7, 90),
        (0.5, 5, 600, 16, 90),
        (1.2, 10, 600, 9, 90),
        (1.25, 10, 600, 9, 88),
        (1, 10, 60, 5, 50),
        (1, 10, 40, 5, 30),
        (1, 10, 10.9, 4, None),
        (1, 10, 0, 4, None),
        (1, 200, 650, 6, 90),
    ],
    ids=[
        "as planned",
        "slower",
        "faster",
        "none more",
        "one is cut",
        "the last one is cut",
        "little is left",
        "no time for one",
        "late",
        "validation",
    ],
)
def test_what_is_left_of_a_time_is_filled(step, rest, seconds, epochs, steps):
    pace = changed_pace(pace_of(10, 90), 4, 360, step, rest, seconds)
    assert pace.epochs == epochs
    assert steps in {None, pace.steps}
    assert pace.total == 360 + (epochs - 4) * (steps or 0)
    assert pace.warmup == 90


def test_an_epoch_that_was_cut_is_followed_by_whole_ones():
    cut = changed_pace(pace_of(10, 90), 4, 360, 1.25, 10, 600)
    assert changed_pace(cut, 5, 448, 1, 10, 400).steps == 90


def test_the_end_is_judged_by_the_last_epochs():
    left = TimeLeft(100)
    assert left.costs(epochs=1) is None
    assert 99 < left.seconds() <= 100
    for trained in (9.0, 1.0, 1.0, 4.0):
        left.note(10, trained, trained / 2)
    assert TimeLeft(9, left.state()[1]).costs(epochs=1) == left.costs(epochs=1) == pytest.approx((0.1, 0.5))
    assert left.costs(epochs=4) == left.costs(epochs=90) == pytest.approx((0.25, 1.25))


@given(
    st.integers(0, 2**32),
    st.integers(2, 60),
    st.sampled_from([5.0, 100.0]),
    st.sampled_from([2.0, 10.0]),
)
def test_a_time_is_kept_on_a_machine_that_is_slower_now_and_then(seed, planned, rest, most):
    """Epochs take up to `most` times as long as planned; no step that fits is left out, and the rate comes down."""
    generator = np.random.default_rng(seed)
    pace, seconds, done, epoch, last = pace_of(planned, 20), (20 + rest) * planned, 0, 0, 0.0
    left = TimeLeft(0)
    while epoch < pace.epochs:
        slow = generator.uniform(1, most)
        last = (pace.steps + rest) * slow
        left.note(pace.steps, pace.steps * slow, rest * slow)
        seconds, done, epoch = seconds - last, done + pace.steps, epoch + 1
        step, after = left.costs(pace.epochs - epoch)
        pace = changed_pace(pace, epoch, done, step, after, max(0, seconds))
    assert done == pace.total
    assert pace.rate(done) == pytest.approx(0) or done <= pace.warmup
    assert seconds >= -last
    assert seconds < step + after


def test_a_time_with_a_long_validation_is_not_spent_on_more_of_them():
    """Planned as four epochs of ten steps, which have a fifth of a step too little."""
    assert changed_pace(pace_of(4, 10), 1, 10, 1, 100, 385).total == 40


def test_epochs_that_stand_still_bring_the_rate_down_once():
    """As one of GlaS did, in which three of a hundred epochs of ten seconds were held up for minutes."""
    held_up = {40: 134, 41: 319, 42: 161}
    pace, left, seconds, epoch, done, rates = pace_of(119, 67), TimeLeft(0), 1188.0, 0, 0, []
    while epoch < pace.epochs:
        takes = held_up.get(epoch, 9.9)
        left.note(pace.steps, 0.84 * takes, 0.16 * takes)
        seconds, done, epoch = seconds - takes, done + pace.steps, epoch + 1
        pace = changed_pace(pace, epoch, done, *left.costs(pace.epochs - epoch), max(0, seconds))
        rates.append(pace.rate(done))
    assert 58 < epoch < 62
    assert abs(seconds) < 9.9
    assert np.diff(rates[1:]).max() < 0.03
    assert rates[-1] == pytest.approx(0)
