"""Writing files so that a file under its final name is always complete."""

import errno
import glob
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pathseg.errors import ResourceError

# Why a file cannot be written, and what to do.
WRITE_ERRORS = {
    errno.ENOSPC: "the disk is full; make room and run again",
    errno.EDQUOT: "your quota of the disk is used up; make room and run again",
    errno.EROFS: "the file system is read-only; choose another folder, or have it mounted for writing",
    errno.EACCES: "you may not write there; ask for the permission, or choose another folder",
}


@contextmanager
def atomic_path(path: str | Path, shared: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to `path` when the block ends without an error.

    The temporary file (or folder) is in the same folder, so that the rename is atomic, and keeps the
    suffix, because many writers choose the format by it. On an error nothing remains; what a killed
    process has left is removed.

    Parameters
    ----------
    path
        Final name of a file or folder.
    shared
        Whether others may be writing it too, here or on another machine: what looks left by a killed one is let be.

    Yields
    ------
    Path
        Name to write to.

    Raises
    ------
    ResourceError
        If the disk is full or may not be written to.
    """
    path = Path(path)
    writer = f"{socket.gethostname()}.{os.getpid()}" if shared else os.getpid()
    temporary = path.with_name(f".{writer}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in [] if shared else path.parent.glob(f".*.part.{glob.escape(path.name)}"):
            _remove(left)
        yield temporary
        _flush(temporary)
        if temporary.is_dir():
            _remove(path)
        temporary.replace(path)
        _flush(path.parent)
    except Exception as error:
        reason = _why_not_written(error)
        if reason is None:
            raise
        raise ResourceError(f"{path}: cannot be written: {reason}") from error
    finally:
        _remove(temporary)


def _why_not_written(error: BaseException | None) -> str | None:
    """Say why a file could not be written; None if an error, and those that it was raised from, are of another kind."""
    while error is not None:
        # An input that may not be read has the same number as an output that may not be written.
        if isinstance(error, OSError) and (error.errno != errno.EACCES or ".part." in str(error.filename)):
            return WRITE_ERRORS.get(error.errno or 0)
        error = error.__cause__ or error.__context__
    return None


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
