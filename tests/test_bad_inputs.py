"""Each wrong or hostile input ends in one readable error that names it and says what to do."""

import sys

import pytest
from bad_inputs import CASES, message_of, project, table

from conftest import ROOT
from pathseg import errors

sys.path.append(str(ROOT / "docs"))
from make_errors import errors_page

KINDS = {name for name in vars(errors) if name.endswith("Error")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.topic}: {case.name}")
def test_what_is_wrong_is_said(case, tmp_path):
    kind, _, message = message_of(case, tmp_path).partition(": ")
    assert kind in KINDS
    for word in case.words:
        assert word in message
    assert "Traceback" not in message
    assert not (tmp_path / "trap").exists()


def test_there_are_many_and_each_is_one():
    assert len(CASES) >= 50
    assert len({(case.topic, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("name", "encoding", "end"),
    [("a 'b' \"c\"".replace('"', ""), "utf-8", "\n"), ("Größe µ 組織", "utf-8-sig", "\n"), ("plain", "utf-8", "\r\n")],
    ids=["spaces and quotes", "unicode and a byte-order mark", "Windows line ends"],
)
def test_unusual_tables_are_read(name, encoding, end, tmp_path):
    table(tmp_path, f"{name}\tP 1\ti0.png\tm0.png", encoding=encoding)
    path = tmp_path / "data" / "samples.tsv"
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    assert project(tmp_path).samples[0]["sample"] == name


def test_the_page_of_errors_is_made_from_the_cases():
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == errors_page()
