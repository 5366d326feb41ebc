"""Take devices in a process of its own, which tests can kill."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from pathseg.network.devices import take_free

GPUS = ["0", "GPU-4f1c", "2"]


def take_and_tell(folder: Path, count: int, answers: Queue, done: Event) -> None:
    """Take devices, say which, and keep them until told to end."""
    answers.put(take_free(GPUS, count, folder))
    done.wait(60)
