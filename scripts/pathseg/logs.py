"""Logging of a job: to its log file in full, to the terminal in short."""

import logging
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from pathseg.errors import PathsegError, ResourceError

Item = TypeVar("Item")

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start_log(path: str | Path, mode: str = "w") -> logging.Logger:
    """Send log messages to a file and to the terminal, and uncaught errors to both.

    A `PathsegError` reaches the terminal as its message alone: its traceback is in the file.

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
    to_file = logging.FileHandler(path, mode=mode, encoding="utf-8")
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.addFilter(_is_for_terminal)
    logging.basicConfig(
        level=logging.INFO, format=FORMAT, datefmt="%H:%M:%S", handlers=[to_file, to_terminal], force=True
    )
    logging.captureWarnings(True)
    logger = logging.getLogger("pathseg")

    # A log file on a full disk is no reason to bury the message in errors of logging.
    logging.raiseExceptions = False

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        details = "".join(traceback.format_exception(kind, error, trace))
        if isinstance(error, MemoryError):
            error = ResourceError("the memory is used up; give the job more, or free some")
        logger.error(details, extra={"file_only": isinstance(error, PathsegError)})
        if isinstance(error, PathsegError):
            logger.error("%s (details: %s)", error, path)

    sys.excepthook = log_uncaught
    return logger


def _is_for_terminal(record: logging.LogRecord) -> bool:
    return not getattr(record, "file_only", False)


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "it") -> Iterable[Item]:
    """Show the progress of a loop: a live bar on a terminal, a line now and then elsewhere."""
    seconds_between_lines = 0.5 if sys.stderr.isatty() else 20
    return tqdm(
        items, desc=what, total=total, unit=unit, file=sys.stderr, mininterval=seconds_between_lines, dynamic_ncols=True
    )
