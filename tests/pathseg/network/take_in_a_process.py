"""Take devices in a process of its own, which tests can kill."""

import os
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from pathseg.errors import PathsegError
from pathseg.network.devices import take_free

GPUS = ["0", "GPU-4f1c", "2"]


def take_and_tell(folder: Path, count: int, answers: Queue, done: Event) -> None:
    """Take devices, say which, and keep them until told to end."""
    answers.put(take_free(GPUS, count, folder))
    done.wait(60)


def take_as_user(user: int, mask: int, folder: Path, answers: Connection) -> None:
    """Become a user with a mask of permissions, take one device, say which or what is wrong, and wait for the end."""
    os.umask(mask)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    try:
        answers.send(take_free(GPUS, 1, folder))
    except (PathsegError, OSError) as error:
        answers.send(repr(error))
    answers.poll(60)
