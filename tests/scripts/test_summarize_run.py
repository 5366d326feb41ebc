import pytest
from summarize_run import draw_times, duration_text, flat, read_times


def test_times_are_summed_by_rule(tmp_path):
    for name, seconds, memory in [
        ("train", 50, 700),
        ("predict/a/s 1", 3, 100),
        ("predict/a/s 2", 5, "-"),
        ("train/gone.holdout", 9, 9),
    ]:
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    times = read_times(tmp_path, {"a/s 1", "a/s 2"}).set_index("rule")
    assert list(times.index) == ["train", "predict"]
    assert list(times.loc["predict"]) == [2, 8, 5, 100]
    labels = [text.get_text() for text in draw_times(times.reset_index()).axes[0].texts]
    assert labels == ["50 s", "8 s"]


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_nested_settings_become_keys():
    settings = {"a": {"b": 1, "c": None}, "classes": [{"name": "x"}, {"name": "y"}], "list": [1, 2]}
    assert dict(flat(settings)) == {
        "a.b": "1",
        "a.c": "None",
        "classes.1.name": "x",
        "classes.2.name": "y",
        "list": "[1, 2]",
    }
