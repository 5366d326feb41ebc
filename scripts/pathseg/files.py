"""Writing files so that a file under its final name is always complete."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to `path` when the block ends without an error.

    The temporary file (or folder) is in the same folder, so that the rename is atomic, and keeps the
    suffix, because many writers choose the format by it. On an error nothing remains.

    Parameters
    ----------
    path
        Final name of a file or folder.

    Yields
    ------
    Path
        Name to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    _remove(temporary)
    try:
        yield temporary
        _flush(temporary)
        if temporary.is_dir():
            _remove(path)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Ask the system to put a file, or a folder's entries, on the disk: a rename may outlive the data otherwise."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
