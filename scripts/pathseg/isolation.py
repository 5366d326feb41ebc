"""Work item by item in a process of its own: an item for which that process ends costs itself alone."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Generic, NamedTuple, TypeVar

from pathseg.errors import PathsegError

Item = TypeVar("Item")


class Outcome(NamedTuple):
    """What became of an item.

    Attributes
    ----------
    reason : str or None
        Why it failed; None if it did not.
    memory : bool
        Whether memory was wanting, so that it may succeed where there is more.
    """

    reason: str | None = None
    memory: bool = False


def each_alone(start: Callable[[], Callable[[Item], Outcome]], items: Iterable[Item]) -> Iterator[tuple[Item, Outcome]]:
    """Work on items one after another in another process, and on the rest in a new one if it ends.

    Parameters
    ----------
    start
        Called in that process; what it returns is called with each item, and must not raise.
    items
        What to work on.

    Yields
    ------
    item, Outcome
        Each as soon as it is done.

    Raises
    ------
    PathsegError
        Raised by `start`.
    """
    worker: _Worker[Item] | None = None
    try:
        for item in items:
            worker = worker or _Worker(start)
            outcome = worker.do(item)
            if worker.is_spoilt:
                worker.end()
                worker = None
            yield item, outcome
    finally:
        if worker:
            worker.end()


class _Worker(Generic[Item]):
    """A process that works on items; it has all the modules of this one, of which it is a copy."""

    def __init__(self, start: Callable[[], Callable[[Item], Outcome]]) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(start, self._connection, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self.is_spoilt = False
        try:
            error = self._connection.recv()
        except EOFError:
            error = PathsegError(self._ended().reason)
        if error is not None:
            self.end()
            raise error

    def do(self, item: Item) -> Outcome:
        """Have an item worked on."""
        try:
            self._connection.send(item)
            outcome = self._connection.recv()
        except (EOFError, OSError):
            outcome, self.is_spoilt = self._ended(), True
        # What could not be allocated may have left it in pieces.
        self.is_spoilt |= outcome.memory
        return outcome

    def _ended(self) -> Outcome:
        """Say what it means that the process has ended."""
        self._process.join()
        code = self._process.exitcode or 0
        by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        killed = code == -signal.SIGKILL
        return Outcome(f"the process was ended ({by})" + (", most likely for want of memory" if killed else ""), killed)

    def end(self) -> None:
        """End the process, which holds memory."""
        self._connection.close()
        self._process.kill()
        self._process.join()


def _work(
    start: Callable[[], Callable[[Item], Outcome]], other_end: Connection, connection: Connection, parent: int
) -> None:
    other_end.close()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        do = start()
    except Exception as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(do(item))


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: another may be at the same items soon."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
