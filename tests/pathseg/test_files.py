import pytest

from pathseg.files import atomic_path, file_digest


def test_a_file_appears_when_it_is_complete(tmp_path):
    with atomic_path(tmp_path / "new" / "x.txt") as temporary:
        temporary.write_text("done")
        assert temporary.suffix == ".txt"
        assert not (tmp_path / "new" / "x.txt").exists()
    assert (tmp_path / "new" / "x.txt").read_text() == "done"
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path, kind):
    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyError), atomic_path(tmp_path / "x") as temporary:
        if kind == "file":
            temporary.write_text("half")
        else:
            temporary.mkdir()
            (temporary / "a").touch()
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_folder_replaces_a_folder(tmp_path):
    for name in ("one", "two"):
        with atomic_path(tmp_path / "x") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["two"]


def test_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x").startswith("ba7816bf")


@pytest.mark.parametrize("shared", [False, True])
def test_what_others_may_be_writing_is_let_be(tmp_path, shared):
    """Alone, one removes what a killed process has left."""
    (tmp_path / ".7.part.x").touch()
    with atomic_path(tmp_path / "x", shared) as temporary:
        temporary.touch()
    assert {path.name for path in tmp_path.iterdir()} == ({"x", ".7.part.x"} if shared else {"x"})
