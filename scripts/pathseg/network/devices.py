"""Choose where the network runs."""

import errno
import fcntl
import logging
import os
import platform
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from pathseg.errors import ResourceError
from pathseg.memory import keep_freed_memory

logger = logging.getLogger("pathseg")

SECONDS_BETWEEN_LOOKS = 2.0
# Where all users of a machine look for locks, whatever their own folder for temporary files is.
SHARED_FOLDER = Path("/tmp")  # noqa: S108
# Locks on the GPUs that this process uses.
_taken: list[int] = []


def choose_devices(gpus: int, threads: int) -> list[torch.device]:
    """Return the devices to use, and set the number of threads of the CPU.

    Of the GPUs that the process sees (CUDA_VISIBLE_DEVICES) it takes free ones and keeps them until it ends, so that
    two jobs never share one, whatever the scheduler was told.

    Parameters
    ----------
    gpus
        GPUs that the scheduler has granted; 0 means CPU.
    threads
        Threads that the scheduler has granted.

    Raises
    ------
    ResourceError
        If the locks of the GPUs may not be made.
    """
    torch.set_num_threads(threads)
    # OpenCV takes all cores otherwise. The environment of a script that does not use it need not have it.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)
    visible = torch.cuda.device_count() if gpus else 0
    if visible:
        devices = _free_gpus(min(gpus, visible), gpus, visible)
        prepare_gpu(devices[0])
        return devices
    if gpus and os.environ.get("CUDA_VISIBLE_DEVICES"):
        logger.warning(
            "a GPU was granted (CUDA_VISIBLE_DEVICES=%s), but PyTorch %s cannot use it: takes the CPU; is it a CPU "
            "build, or the driver too old?",
            os.environ["CUDA_VISIBLE_DEVICES"],
            torch.__version__,
        )
    if gpus and torch.backends.mps.is_available():
        logger.warning("takes Apple's GPU (mps), on which pathseg is untried; for the CPU: --resources gpu=0")
        return [torch.device("mps")]
    keep_freed_memory()
    return [torch.device("cpu")]


def _free_gpus(count: int, granted: int, visible: int) -> list[torch.device]:
    if visible < granted:
        logger.warning("%d GPUs are granted, but %d can be seen; uses those", granted, visible)
    # Their own names: numbers mean other GPUs in each job where a scheduler shows a job its own alone.
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(visible)]
    folder = SHARED_FOLDER if SHARED_FOLDER.is_dir() else Path(tempfile.gettempdir())
    return [torch.device("cuda", number) for number in take_free(names, count, folder / "pathseg-gpus")]


def prepare_gpu(device: torch.device, same_shapes: bool = False) -> None:
    """Let this process compute on a GPU at its best speed; does nothing on other devices.

    Parameters
    ----------
    device
        The GPU.
    same_shapes
        Whether all batches have one of few shapes, so that trying all algorithms for each of them pays.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = same_shapes


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

    Raises
    ------
    ResourceError
        If the folder or a lock is not what it should be, or may not be opened.
    """
    _shared_folder(folder)
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


def _shared_folder(folder: Path) -> None:
    """Make the folder of the locks if need be; each user may add files to it, and remove their own alone."""
    with suppress(FileExistsError):
        folder.mkdir()
        # What the user's mask of permissions took off is given back.
        folder.chmod(0o1777)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ResourceError(f"{folder}: is not a folder, so that GPUs cannot be locked in it; remove it")


def _lock(path: Path) -> int | None:
    """Lock a file and return its descriptor, or None if another process holds it."""
    try:
        descriptor = _open_shared(path)
    except OSError as error:
        reasons = {
            errno.EACCES: "you may not open it; ask the user whom it belongs to to remove it",
            errno.ELOOP: "is a link, which is not followed; remove it",
        }
        reason = reasons.get(error.errno or 0, os.strerror(error.errno or 0))
        raise ResourceError(f"{path}: the lock of a GPU: {reason}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open_shared(path: Path) -> int:
    """Open a file that all users may lock, and make it if it is not there.

    A lock needs no right to write. The flag to make a file is not given for one that is there: in a folder like /tmp
    Linux refuses it for another user's file (fs.protected_regular).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)
            return descriptor


def describe(device: torch.device, count: int = 1) -> str:
    """Name a device, or so many like it, for a log line."""
    times = f"{count} x " if count > 1 else ""
    if device.type == "cuda":
        return f"{times}GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "Apple's GPU"
    return f"{times}CPU, {torch.get_num_threads()} threads"


def machine_of(device: torch.device) -> str:
    """Return what decides how fast a device computes: the model of the GPU, or of the processor and its threads."""
    if device.type != "cpu":
        return describe(device)
    known = ("model name", "cpu family", "model", "stepping")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    words = [fields[key].strip() for key in known if key in fields] or [platform.processor() or platform.machine()]
    return f"{' '.join(words)}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device has instructions for bfloat16; that it is fast in it does not follow."""
    if device.type == "cuda":
        # Since Ampere.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
