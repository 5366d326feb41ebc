"""What names and paths may hold. That what is allowed works, and how, is in tests/workflow/test_slurm.py."""

import pytest

from pathseg.names import class_name_fault, folded, name_fault, path_fault, twins

NFD = "Mu\u0308ller"


@pytest.mark.parametrize(
    "name", ["S1", "Größe µ 組織", NFD, "a #1;&[2](3)=+@~^'x", "TCGA-A2-01Z.29A5", "x" * 170, "–°×", "O'Brien"]
)
def test_names_that_hold(name):
    assert name_fault(name) is None
    assert path_fault(f"scans/{name}.svs") is None


@pytest.mark.parametrize(
    "sign",
    [*'$`"\\!{}<>', "\n", "\t", "\x00", "\x1b", "\x7f", "\u202e", "\u2028", "\u200b", "\udcff", "\u00a0", "\u3000"],
)
def test_what_a_shell_takes_apart_is_in_no_name_and_in_no_path(sign):
    shown = sign if " " < sign < "\x7f" else f"U+{ord(sign):04X}"
    for fault in (name_fault(f"a{sign}b"), path_fault(f"data/a{sign}b/x.svs")):
        assert f"has {shown}" in fault


@pytest.mark.parametrize("sign", [*",%:*?|/"])
def test_what_only_a_path_may_hold(sign):
    assert "has " in name_fault(f"a{sign}b")
    assert path_fault(f"data/a{sign}b/x.svs") is None


@pytest.mark.parametrize("name", ["=1+1", "+P", "@b", "-rf", ".hidden", "'a'", "a'", "a.", " a", "a ", "", " "])
def test_how_no_name_begins_or_ends(name):
    assert name_fault(name)


@pytest.mark.parametrize(
    "name", ["=1+1", "+P", "@b", "-x", "", "a\nb", "a|b", "all", "ALL", "Ignore*", "ignore *", "Region*", "x" * 101]
)
def test_names_that_no_class_may_have(name):
    assert class_name_fault(name)


@pytest.mark.parametrize(
    "name", ["Tumor: positive", "CD3+/CD8-", "$x$", "NA", "None", "null", "overall", "Region", "<b>"]
)
def test_names_that_a_class_may_have(name):
    assert class_name_fault(name) is None


def test_bytes_are_counted_not_letters():
    assert name_fault("組" * 57) == "has 171 bytes; 170 are the most"
    assert "more than 255 bytes" in path_fault("組" * 86)
    assert "4095" in path_fault("a/" * 3000)


def test_twins_are_found():
    assert folded(NFD) == folded("MÜLLER") == folded("müller")
    assert twins(["A", "b", "a", "A"]) == [("A", "a")]
    assert twins(["Müller", NFD]) == [("Müller", NFD)]
