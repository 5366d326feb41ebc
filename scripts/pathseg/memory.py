"""Memory: what to say when it is used up, and when the C library keeps what is freed."""

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from pathseg.errors import WantOfMemoryError

# glibc's mallopt parameters (malloc.h). Large activations are otherwise given back to the system after each layer and
# faulted in again at the next.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP_BYTES = 2**30


@contextlib.contextmanager
def memory_errors_explained(device: torch.device, advice: str) -> Iterator[None]:
    """Turn a want of memory into an error that says what to do.

    Raises
    ------
    WantOfMemoryError
        If the block runs out of the memory of a device, or of the system's.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_want_of_memory(error):
            raise
        raise WantOfMemoryError(f"the memory of {device} is used up; {advice}") from error


def _is_want_of_memory(error: BaseException) -> bool:
    """Tell a want of memory from other errors that speak of memory, such as an illegal access."""
    # On the CPU PyTorch raises a plain RuntimeError.
    text = str(error).lower()
    said = "out of memory" in text or "can't allocate memory" in text or "cannot allocate memory" in text
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or said


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next layer, where that can be asked for."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        mallopt(parameter, _KEEP_BYTES)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def give_back_memory(above: int) -> None:
    """Give freed memory back to the system, if the process holds more than `above` bytes.

    What `keep_freed_memory` keeps falls into pieces over time; giving it back now and then costs little.
    """
    statistics = Path("/proc/self/statm")
    if not statistics.is_file() or int(statistics.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE < above:
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
