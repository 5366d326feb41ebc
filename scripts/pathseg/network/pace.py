"""How many epochs of how many steps: as the settings say, or as fit into a given time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pathseg.network.devices import synchronize
from pathseg.network.processes import mean_over_processes

# Epochs that a time has, if validation leaves room: fewer would leave little to choose from. They are cut short for it.
LEAST_EPOCHS = 8
# Validation takes at most about this share of the time, if epochs can be longer.
VALIDATION_SHARE = 0.25
# Where epochs follow from a time, what is said in epochs (the rise of the learning rate, the memory of the averaged
# weights) takes at most this share of all steps: there may be few and long ones.
MOST_SHARE = 0.1
# Steps, or batches, that are measured together at most.
MOST_MEASURED = 16


@dataclass(frozen=True)
class Pace:
    """Epochs, and steps of each."""

    epochs: int
    steps: int

    def steps_of(self, epochs: float) -> float:
        """Return the steps of so many epochs, if the number of all follows from a time: at most a share of them."""
        return self.steps * min(epochs, MOST_SHARE * self.epochs)


def pace_within(seconds: float, step: float, validation: float, steps: int) -> Pace:
    """Return the epochs that fit into a time.

    Parameters
    ----------
    seconds
        How long they may take together.
    step, validation
        Seconds that a step takes, and the validation at the end of an epoch.
    steps
        Steps of an epoch that goes through all tiles; where few epochs fit, an epoch takes fewer, of random tiles.
    """
    whole = steps * step + validation
    if seconds >= LEAST_EPOCHS * whole:
        return Pace(round(seconds / whole), steps)
    epochs = min(LEAST_EPOCHS, max(1, int(VALIDATION_SHARE * seconds / max(validation, 1e-9))))
    short = int((seconds / epochs - validation) / step)
    if short < steps:
        return Pace(epochs, max(1, short))
    return Pace(max(1, round(seconds / whole)), steps)


def seconds_of_some(run: Callable[[int], object], count: int, limit: float, device: torch.device) -> tuple[float, int]:
    """Return the seconds that some steps or batches take, and how many fit into a limit; all processes agree."""
    started = time.monotonic()
    run(count)
    synchronize(device)
    seconds = mean_over_processes(time.monotonic() - started, device)
    return seconds, min(MOST_MEASURED, max(1, int(limit * count / max(seconds, 1e-9))))
