"""The rooms of the package: each imports only what its own docstring says."""

import ast

import pytest

from conftest import ROOT

PACKAGE = ROOT / "scripts" / "pathseg"
GROUND = "the ground floor"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


def may_use(folder):
    """Return the rooms that a room says it may use."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    (line,) = [line for line in docstring.splitlines() if line.startswith("May use: ")]
    return set(line.removeprefix("May use: ").rstrip(".").split(", "))


def rooms_imported(module):
    """Return the rooms that a module imports from, and the packages that are not pathseg's."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in names:
        first, *rest = name.split(".")
        yield (rest[0] if rest[0] in ROOMS else GROUND) if first == "pathseg" else first


def test_the_rooms_are_there():
    assert {"cohort", "images", "labels", "network", "prediction", "scores", "tiles"} <= set(ROOMS)


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may_use(module):
    room = module.parent
    allowed = may_use(room) | ({room.name} if room != PACKAGE else {GROUND})
    unwanted = {name for name in rooms_imported(module) if name in {*ROOMS, GROUND} and name not in allowed}
    assert not unwanted, f"{module}: {room.name} may not use {unwanted}"
    assert "snakemake" not in set(rooms_imported(module))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_all_that_it_says(room):
    imported = {name for module in (PACKAGE / room).glob("*.py") for name in rooms_imported(module)}
    assert may_use(PACKAGE / room) <= imported


@pytest.mark.parametrize("room", ["cohort", "images", "labels", "tiles", "scores"])
def test_who_is_there_and_what_is_known_is_known_without_networks(room):
    """Whatever a docstring may come to say."""
    assert not may_use(PACKAGE / room) & {"network", "prediction", "export"}


def test_no_two_rooms_use_each_other():
    """Arrows go down only: there is an order in which each room uses only those before it."""
    left, built = set(ROOMS), {GROUND}
    while left:
        ready = {room for room in left if may_use(PACKAGE / room) <= built}
        assert ready, f"a circle among {sorted(left)}"
        built |= ready
        left -= ready
