"""Choose where and in which arithmetic the network runs."""

import contextlib
import ctypes
import logging
import mmap
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import torch

logger = logging.getLogger("pathseg")

# glibc's mallopt parameters (malloc.h). Large activations are otherwise given back to the system after each layer and
# faulted in again at the next.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP_BYTES = 2**30
PAGE_SIZE = mmap.PAGESIZE


def choose_device(gpus: int, threads: int) -> torch.device:
    """Return the device to use, and set the number of threads of the CPU.

    Parameters
    ----------
    gpus
        GPUs that the scheduler has granted; 0 means CPU.
    threads
        Threads that the scheduler has granted.
    """
    torch.set_num_threads(threads)
    if gpus and torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda", 0)
    _keep_freed_memory()
    return torch.device("cpu")


def describe(device: torch.device) -> str:
    """Name a device for a log line."""
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    return f"CPU, {torch.get_num_threads()} threads"


def _keep_freed_memory() -> None:
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

    What `_keep_freed_memory` keeps falls into pieces over time; giving it back now and then costs little.
    """
    statistics = Path("/proc/self/statm")
    if not statistics.is_file() or int(statistics.read_text(encoding="ascii").split()[1]) * PAGE_SIZE < above:
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that convolutions compute in.

    Parameters
    ----------
    precision
        "float32", "bfloat16", or "auto" for bfloat16 where the hardware has it.
    device
        Where they run.
    """
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device computes in bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context in which convolutions compute in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
