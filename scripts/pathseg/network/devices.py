"""Choose where and in which arithmetic the network runs."""

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from pathseg.memory import keep_freed_memory

logger = logging.getLogger("pathseg")

SECONDS_BETWEEN_LOOKS = 2.0
# Locks on the GPUs that this process uses.
_taken: list[int] = []


def choose_devices(gpus: int, threads: int) -> list[torch.device]:
    """Return the devices to use, and set the number of threads of the CPU.

    Of the GPUs that the process sees (CUDA_VISIBLE_DEVICES) it takes free ones and keeps them until it ends.

    Parameters
    ----------
    gpus
        GPUs that the scheduler has granted; 0 means CPU.
    threads
        Threads that the scheduler has granted.
    """
    torch.set_num_threads(threads)
    visible = torch.cuda.device_count() if gpus else 0
    if not visible:
        if gpus and os.environ.get("CUDA_VISIBLE_DEVICES"):
            logger.warning(
                "a GPU was granted (CUDA_VISIBLE_DEVICES=%s), but PyTorch %s cannot use it: takes the CPU; is it a CPU "
                "build, or the driver too old?",
                os.environ["CUDA_VISIBLE_DEVICES"],
                torch.__version__,
            )
        keep_freed_memory()
        return [torch.device("cpu")]
    prepare_gpu()
    if visible < gpus:
        logger.warning("%d GPUs are granted, but %d can be seen; uses those", gpus, visible)
    if visible <= gpus:
        return [torch.device("cuda", number) for number in range(visible)]
    everything = ",".join(str(number) for number in range(visible))
    names = os.environ.get("CUDA_VISIBLE_DEVICES", everything).split(",")[:visible]
    taken = take_free(names, gpus, Path(tempfile.gettempdir()) / "pathseg-gpus")
    return [torch.device("cuda", number) for number in taken]


def prepare_gpu() -> None:
    """Let this process's GPU compute at its best speed."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def take_free(names: list[str], count: int, folder: Path) -> list[int]:
    """Wait until so many devices are free, and take them until this process ends.

    A device is taken by a lock on a file, which the system frees when the process ends, however it ends.

    Parameters
    ----------
    names
        Names of the devices, the same in all processes.
    count
        How many to take.
    folder
        Folder of the lock files, shared by the users of the machine.

    Returns
    -------
    list of int
        Positions in `names`.
    """
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's folder, made so by them
        folder.chmod(0o1777)
    waited = False
    while True:
        tried = {position: _lock(folder / f"{name.strip()}.lock") for position, name in enumerate(names)}
        locks = {position: lock for position, lock in tried.items() if lock is not None}
        for position in list(locks)[count:]:
            os.close(locks.pop(position))
        if len(locks) == count:
            _taken.extend(locks.values())
            return list(locks)
        for lock in locks.values():
            os.close(lock)
        if not waited:
            logger.info("waits until %d of the %d GPUs are free (locks in %s)", count, len(names), folder)
            waited = True
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _lock(path: Path) -> int | None:
    """Lock a file and return its descriptor, or None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def describe(device: torch.device, count: int = 1) -> str:
    """Name a device, or so many like it, for a log line."""
    times = f"{count} x " if count > 1 else ""
    if device.type == "cuda":
        return f"{times}GPU {torch.cuda.get_device_name(device)}"
    return f"{times}CPU, {torch.get_num_threads()} threads"


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
