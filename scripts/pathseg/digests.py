"""Digests of code and settings, by which the workflow knows what has changed."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("pathseg", "pathseg_demo")
# Modules that cannot change a result: what they say, and how much memory is given back.
SILENT = ("pathseg/errors.py", "pathseg/logs.py", "pathseg/memory.py")


def digest(value: Any) -> str:
    """Return a short digest of plain values that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest(script: str | Path) -> str:
    """Return a digest of a script, of all modules of our packages that it imports, directly or not, and of their data.

    Comments, docstrings and layout do not count, nor do modules that only speak to people: they cannot change a
    result. The Python version of whoever reads the workflow does not count either.

    Parameters
    ----------
    script
        A script whose folder holds the package.
    """
    script = Path(script)
    sources = {path.relative_to(script.parent).as_posix(): path for path in [script, *modules_of(script)]}
    counted = {name: path for name, path in sources.items() if name not in SILENT}
    return digest({name: _code(path) for name, path in counted.items()})


def modules_of(script: Path, folder: Path | None = None) -> set[Path]:
    """Return the files of the modules of our packages that a script imports, directly or not.

    Parameters
    ----------
    script
        A script or module.
    folder
        Folder that holds the packages; by default the script's.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        for module in _imports(waiting.pop(), folder or script.parent):
            if module not in found:
                found.add(module)
                waiting.append(module)
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(_tree(path)))


@cache
def _code(path: Path) -> str:
    """Return the digest of a module, and of the files beside it that its code names, such as the style of figures."""
    names = {node.value for node in _nodes(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = [file for file in sorted(path.parent.iterdir()) if file.name in names and file.is_file()]
    return digest([_plain(_tree(path)), *(file.read_text(encoding="utf-8") for file in files if file.suffix != ".py")])


def _plain(node: Any) -> str:
    """Return a syntax tree as text without docstrings, the same in each version of Python.

    Fields that are empty are left out, because newer versions have more of them; so is what a name is there for.
    """
    if isinstance(node, list):
        return ",".join(map(_plain, node))
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: getattr(node, name, None) for name in node._fields if name != "ctx"}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    filled = [f"{name}={_plain(value)}" for name, value in fields.items() if value is not None and value != []]
    return f"{type(node).__name__}({';'.join(filled)})"


@cache
def _imports(path: Path, folder: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = [folder.joinpath(*name.split(".")) for name in names if name.split(".")[0] in PACKAGES]
    return frozenset(file.with_suffix(".py") for file in files if file.with_suffix(".py").is_file())
