"""Logging of a job: to its log file in full, to the terminal in short."""

import atexit
import contextlib
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from pathseg.errors import PathsegError, WantOfMemoryError

Item = TypeVar("Item")

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start_log(path: str | Path, mode: str = "w") -> logging.Logger:
    """Send log messages to a file and to the terminal, and uncaught errors to both.

    A `PathsegError` reaches the terminal as its message alone: its traceback is in the file. The log of an attempt that
    failed is kept beside, as `NAME.failed-1.log` and so on: Snakemake removes log files before each new attempt.

    Parameters
    ----------
    path
        The job's log file; its folder is made.
    mode
        "w" to replace an older file, "a" to go on with it.

    Returns
    -------
    logging.Logger
        The logger named `pathseg`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "w":
        _keep_failed(path)
    to_file = logging.FileHandler(path, mode=mode, encoding="utf-8")
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.addFilter(_is_for_terminal)
    logging.basicConfig(
        level=logging.INFO, format=FORMAT, datefmt="%H:%M:%S", handlers=[to_file, to_terminal], force=True
    )
    logging.captureWarnings(True)
    logger = logging.getLogger("pathseg")
    if mode == "w":
        _mark_unfinished(path)

    # A log file on a full disk is no reason to bury the message in errors of logging.
    logging.raiseExceptions = False

    def log_uncaught(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        atexit.unregister(_finish)
        log_error(error, path)

    sys.excepthook = log_uncaught
    return logger


def log_error(error: BaseException, path: str | Path) -> BaseException:
    """Log an error, to the terminal as its sentence alone if it is the input's fault, and say where more is.

    Returns
    -------
    BaseException
        The error, or what it means to a user.
    """
    logger = logging.getLogger("pathseg")
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        error = WantOfMemoryError("the memory is used up; give the job more, or free some")
    logger.error(details, extra={"file_only": isinstance(error, PathsegError)})
    if isinstance(error, PathsegError):
        logger.error("%s (details: %s)", error, path)
    return error


@contextlib.contextmanager
def also_logged(path: str | Path) -> Iterator[None]:
    """Send log messages to one more file; where that cannot be, as on a full disk, what is logged says so elsewhere."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    except OSError:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.stem}.unfinished.log")


def _mark_unfinished(path: Path) -> None:
    """Give a log a second, hidden name until its job has ended well: that one Snakemake does not remove."""
    # Some file systems know no second names; there the log of a failed attempt is lost.
    with contextlib.suppress(OSError):
        os.link(path, _unfinished(path))
        atexit.register(_finish, path)


def _finish(path: Path) -> None:
    _unfinished(path).unlink(missing_ok=True)


def _keep_failed(path: Path) -> None:
    """Name the log of an earlier attempt that did not end well, if there is one."""
    if _unfinished(path).exists():
        names = (path.with_name(f"{path.stem}.failed-{number}{path.suffix}") for number in itertools.count(1))
        _unfinished(path).rename(next(name for name in names if not name.exists()))


def _is_for_terminal(record: logging.LogRecord) -> bool:
    return not getattr(record, "file_only", False)


def progress(items: Iterable[Item] | None, what: str, total: float | None = None, unit: str = "it") -> "tqdm[Item]":
    """Show the progress of a loop, or of what its user counts: a bar on a terminal, a line now and then elsewhere."""
    seconds_between_lines = 0.5 if sys.stderr.isatty() else 20
    return tqdm(
        items, desc=what, total=total, unit=unit, file=sys.stderr, mininterval=seconds_between_lines, dynamic_ncols=True
    )
