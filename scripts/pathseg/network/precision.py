"""In which arithmetic a network computes: as asked for, or as measured on this very network and device.

What a processor says of itself is no speed. With the same flag (avx512_bf16), bfloat16 is faster than float32 on one
kind and slower on another.
"""

import copy
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from pathseg.network.devices import has_bfloat16, machine_of, synchronize
from pathseg.network.folding import cast, folded
from pathseg.network.processes import all_reduce_sum
from pathseg.network.unet import UNet, smallest_input

logger = logging.getLogger("pathseg")

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A measurement goes on for so long, and for at least one round after the first, which makes ready.
SECONDS_TO_MEASURE = 0.3
# Pixels of a batch of training tiles that is measured, and side of an image that is predicted.
MEASURED_PIXELS, MEASURED_SIDE = 2**17, 256
# A lower precision is taken if it needs less than this share of the time.
WORTH_IT = 0.95


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context in which convolutions compute in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type as the configuration has it."""
    return str(dtype).removeprefix("torch.")


def candidates(device: torch.device) -> list[torch.dtype]:
    """Return the types that may be fastest on a device, the most precise first."""
    if device.type == "cpu":
        return [torch.float32, torch.bfloat16]
    if device.type == "cuda":
        # Those before Ampere (8.0) have no bfloat16, but fast float16.
        return [torch.float32, torch.bfloat16 if has_bfloat16(device) else torch.float16]
    return [torch.float32]


def training_type(precision: str, network: UNet, side: int, batch_size: int, device: torch.device) -> torch.dtype:
    """Return the type that convolutions of a training compute in.

    Parameters
    ----------
    precision
        A name of `TYPES`, or "auto" for the type in which steps are fastest.
    network
        On the device; it is not changed.
    side, batch_size
        Side of a tile in pixels, and tiles of a batch.
    device
        Where it is trained.
    """
    if precision != "auto":
        return TYPES[precision]
    trial = copy.deepcopy(network).train()
    count = max(1, min(batch_size, MEASURED_PIXELS // side**2))
    images = torch.rand(count, network.in_channels, side, side, device=device)

    def step(dtype: torch.dtype) -> None:
        with autocast(device, dtype):
            logits = trial(images.to(dtype, memory_format=torch.channels_last))
        trial.zero_grad()
        logits.float().square().mean().backward()

    seconds = measured(step, device)
    # All processes take the same.
    totals = all_reduce_sum(torch.tensor([*seconds.values()], device=device)).tolist()
    return fastest(dict(zip(seconds, totals, strict=True)), "a training step")


def prediction_type(precision: str, network: UNet, device: torch.device, record: object = None) -> torch.dtype:
    """Return the type that convolutions of a prediction compute in.

    Parameters
    ----------
    precision
        A name of `TYPES`, or "auto" for the type in which the network is fastest.
    network
        In evaluation mode; it is not changed.
    device
        Where it predicts.
    record
        What `record_of` has put into the model file, if anything: on the same machine it is not measured again.
    """
    if precision != "auto":
        return TYPES[precision]
    if isinstance(record, dict) and record.get("machine") == machine_of(device) and record.get("prediction") in TYPES:
        return TYPES[record["prediction"]]
    prepared = folded(network)
    networks = {dtype: cast(copy.deepcopy(prepared), device, dtype) for dtype in candidates(device)}
    side = max(MEASURED_SIDE, 2 * network.stride) if network.padding else smallest_input(network, MEASURED_SIDE // 2)
    image = torch.rand(1, network.in_channels, side, side, device=device).mul_(255)
    image = image.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(dtype: torch.dtype) -> None:
        networks[dtype](image.to(dtype))

    return fastest(measured(predict, device), "prediction")


def record_of(training: torch.dtype, network: UNet, device: torch.device) -> dict[str, str]:
    """Return what a model file says of a trained network's arithmetic, and of the machine on which it was measured."""
    prediction = prediction_type("auto", network, device)
    return {"training": name_of(training), "prediction": name_of(prediction), "machine": machine_of(device)}


def fastest(seconds: dict[torch.dtype, float], what: str) -> torch.dtype:
    """Return the type that needs the least time, the more precise where there is little between them.

    Parameters
    ----------
    seconds
        Of each type, the most precise first.
    what
        Name of what was measured, for the log.
    """
    chosen = next(iter(seconds))
    for dtype, needed in seconds.items():
        if needed < WORTH_IT * seconds[chosen]:
            chosen = dtype
    times = ", ".join(f"{name_of(dtype)} {1000 * needed:.1f} ms" for dtype, needed in seconds.items())
    logger.info("precision auto: %s on some tiles takes %s; computes in %s", what, times, name_of(chosen))
    return chosen


def measured(run: Callable[[torch.dtype], None], device: torch.device) -> dict[torch.dtype, float]:
    """Return the least seconds that something takes in each type; types take turns, so that other load meets all."""
    types = candidates(device)
    if len(types) == 1:
        return {types[0]: 0.0}
    for dtype in types:
        _seconds(run, dtype, device)
    least = dict.fromkeys(types, float("inf"))
    ends = time.perf_counter() + SECONDS_TO_MEASURE
    while float("inf") in least.values() or time.perf_counter() < ends:
        for dtype in types:
            least[dtype] = min(least[dtype], _seconds(run, dtype, device))
    return least


def _seconds(run: Callable[[torch.dtype], None], dtype: torch.dtype, device: torch.device) -> float:
    started = time.perf_counter()
    run(dtype)
    synchronize(device)
    return time.perf_counter() - started
