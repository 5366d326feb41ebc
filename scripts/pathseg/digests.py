"""Digests of code and settings, by which the workflow knows what has changed."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("pathseg", "pathseg_demo")


def digest(value: Any) -> str:
    """Return a short digest of plain values that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(script: str | Path) -> str:
    """Return a digest of a script and of all modules of our packages that it imports, directly or not.

    Comments, docstrings and layout do not count: they cannot change a result. The Python version of whoever reads
    the workflow may count.

    Parameters
    ----------
    script
        A script whose folder holds the package.
    """
    script = Path(script)
    sources = [script, *sorted(modules_of(script))]
    return digest({path.relative_to(script.parent).as_posix(): _code(path) for path in sources})


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
def _code(path: Path) -> str:
    # A tree of its own, because docstrings are taken out of it.
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _imports(path: Path, folder: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = [folder.joinpath(*name.split(".")) for name in names if name.split(".")[0] in PACKAGES]
    return {file.with_suffix(".py") for file in files if file.with_suffix(".py").is_file()}
