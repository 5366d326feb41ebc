"""Several processes that train one network together, each on its own GPU (or, in tests, on the CPU).

All that is here also works in a single process, where it does nothing.
"""

import signal
import tempfile
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pathseg.errors import PathsegError, TrainingError

Network = TypeVar("Network", bound=nn.Module)

# What a process has to end in when another has failed.
SECONDS_TO_END = 30


def process_count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_number() -> int:
    """Return this process's number; 0 writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(indices: Any) -> slice:
    """Return which of the elements of a sequence this process works on: each is in one process."""
    count, number, length = process_count(), process_number(), len(indices)
    return slice(length * number // count, length * (number + 1) // count)


class _Total(torch.autograd.Function):
    """Sum over the processes; the gradient is summed likewise.

    PyTorch's own (torch.distributed.nn.functional.all_reduce) is deprecated, and what takes its place is private.
    """

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum a tensor of any shape over all processes. What is computed from it can be differentiated.

    A loss of such sums is the same in each process, and the mean of the processes' gradients, which
    DistributedDataParallel takes, is the gradient of that loss.
    """
    return _Total.apply(values) if process_count() > 1 else values


def mean_over_processes(number: float, device: torch.device) -> float:
    """Return the mean of a number over all processes, so that they decide alike."""
    return float(all_reduce_sum(torch.tensor(number, dtype=torch.float32, device=device))) / process_count()


def with_synchronised_norms(network: Network, device: torch.device) -> Network:
    """Let the batch norms of a network on GPUs see the batches of all processes. Names of weights stay as they are.

    On the CPU PyTorch cannot do that; there several processes serve tests alone.
    """
    if process_count() == 1 or device.type == "cpu":
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def run_on_devices(function: Callable[..., None], devices: list[torch.device], *arguments: Any) -> None:
    """Call `function(device, *arguments)` once for each device, in processes that can talk to each other.

    With one device it is called here. A SIGTERM reaches all processes. If one fails, the others are ended.

    Parameters
    ----------
    function
        A function of a module, so that the processes can import it.
    devices
        Where each process works.
    arguments
        What can be pickled.

    Raises
    ------
    TrainingError
        Raised by a process, or if a process was killed.
    """
    if len(devices) == 1:
        function(devices[0], *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        errors: SimpleQueue[str] = torch.multiprocessing.get_context("spawn").SimpleQueue()
        context = torch.multiprocessing.start_processes(
            _work,
            args=(function, devices, f"file://{folder}/meeting", errors, torch.get_num_threads(), arguments),
            nprocs=len(devices),
            join=False,
            start_method="spawn",
        )

        asked = False

        def pass_on(_number: int, _frame: FrameType | None) -> None:
            nonlocal asked
            asked = True
            for process in context.processes:
                if process.is_alive():
                    process.terminate()

        before = signal.signal(signal.SIGTERM, pass_on)
        try:
            while not context.join(grace_period=SECONDS_TO_END):
                pass
        except torch.multiprocessing.ProcessExitedException as error:
            if not errors.empty():
                raise TrainingError(errors.get()) from error
            if asked:
                raise TrainingError("stopped by SIGTERM; the next run goes on from the last saved state") from error
            raise TrainingError(
                f"process {error.error_index} of {len(devices)} was ended ({error.signal_name or error.exit_code}), "
                "perhaps for want of memory; the next run goes on from the last saved state"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)


def _work(
    number: int,
    function: Callable[..., None],
    devices: list[torch.device],
    meeting: str,
    errors: "SimpleQueue[str]",
    threads: int,
    arguments: tuple[Any, ...],
) -> None:
    device = devices[number]
    torch.set_num_threads(max(1, threads // len(devices)))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=number, world_size=len(devices))
    try:
        function(device, *arguments)
    except PathsegError as error:
        errors.put(str(error))
        raise SystemExit(1) from error
    # Not after an error: it might wait for what the others, who are ended from outside then, no longer do.
    dist.destroy_process_group()
