import pandas as pd
import pytest
from summarize_run import draw_times, duration_text, flat, read_times

from pathseg.table_files import save_table


def test_times_are_summed_by_rule(tmp_path):
    for name, seconds, memory in [("train", 50, 700), ("predict/a/s 1", 3, 100), ("predict/a/s 2", 5, "-")]:
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    times = read_times(tmp_path).set_index("rule")
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


def test_a_table_is_written_for_programs_and_for_people(tmp_path):
    long = "b" * 200
    table = pd.DataFrame({"name": ["<b>", long], "value": [1 / 3, None], "count": pd.array([1, None], "Int64")})
    save_table(table, tmp_path / "t.tsv", tmp_path / "t.html")
    assert (tmp_path / "t.tsv").read_text() == f"name\tvalue\tcount\n<b>\t0.3333\t1\n{long}\tNA\tNA\n"
    page = (tmp_path / "t.html").read_text()
    assert "<td>&lt;b&gt;</td>" in page
    assert f"<td>{long}</td>" in page
    assert page.count("<td>–</td>") == 2
