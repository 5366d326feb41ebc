import csv

import pandas as pd
import pytest

from conftest import ROOT
from pathseg.errors import TableError
from pathseg.table_files import read_table, save_table

# Words that pandas takes for missing, and what spreadsheets take for formulas.
NAMES = ["NA", "None", "null", "nan", "n/a", "", "N/A", "<NA>", "all", "Bär", 'a "b"', "007", "1e5", "True"]
FORMULAS = ["=1+1", "+P", "-x", "@b", "'=x", "''+x", "'quoted'"]


def test_a_table_is_written_for_programs_and_for_people(tmp_path):
    long = "b" * 200
    table = pd.DataFrame({"name": ["<b>", long], "value": [1 / 3, None], "count": pd.array([1, None], "Int64")})
    save_table(table, tmp_path / "t.tsv", tmp_path / "t.html")
    assert (tmp_path / "t.tsv").read_text() == f"name\tvalue\tcount\n<b>\t0.3333\t1\n{long}\tNA\tNA\n"
    page = (tmp_path / "t.html").read_text()
    assert "<td>&lt;b&gt;</td>" in page
    assert f"<td>{long}</td>" in page
    assert page.count("<td>–</td>") == 2


def test_names_are_read_as_they_were_written(tmp_path):
    table = pd.DataFrame({"name": NAMES + FORMULAS, "value": [0.5] * 20 + [None]})
    save_table(table, tmp_path / "t.tsv", tmp_path / "t.html")
    again = read_table(tmp_path / "t.tsv", ["value"])
    assert list(again["name"]) == NAMES + FORMULAS
    assert again["value"].isna().sum() == 1
    assert again["value"].dtype == float


def test_no_cell_of_text_is_a_formula(tmp_path):
    """Read back as a spreadsheet does: a cell that begins so is calculated, quoted or not."""
    table = pd.DataFrame({"class": [*FORMULAS, "\t=x", "\r=x", "a\nb"], "=head": -0.5})
    save_table(table, tmp_path / "t.tsv", tmp_path / "t.html")
    with open(tmp_path / "t.tsv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["class", "'=head"]
    assert [name[0] for name, _ in rows] == ["'"] * len(FORMULAS) + [" ", " ", "a"]
    # Numbers are numbers.
    assert {value for _, value in rows} == {"-0.5"}
    assert list(read_table(tmp_path / "t.tsv", ["=head"]).columns) == ["class", "=head"]


def test_every_table_is_written_by_this_module():
    """So none is without its guard against formulas."""
    writers = [path for path in (ROOT / "scripts").rglob("*.py") if "to_csv(" in path.read_text()]
    assert [path.name for path in writers] == ["table_files.py"]


@pytest.mark.parametrize("text", ["", "value\nmany\n"])
def test_what_is_no_table_is_named(tmp_path, text):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(TableError, match=r"t\.tsv: .*delete it and run again"):
        read_table(tmp_path / "t.tsv", ["value"])
