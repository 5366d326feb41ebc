"""How many epochs of how many steps: as the settings say, or as fit into a given time."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Self

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
# Share of a given time that is for what comes before the first epoch and after the last one.
REST_SHARE = 0.01
# What epochs take is the median of at least so many.
LEAST_SEEN = 3


@dataclass(frozen=True)
class Pace:
    """How long a training is, and the learning rates that follow from it.

    Attributes
    ----------
    epochs : int
        Epochs from the beginning to the end.
    steps : int
        Steps of each epoch that is still to come.
    most_steps : int
        Steps that an epoch was planned with.
    total : int
        Steps from the beginning to the end: the learning rate comes down to zero there.
    warmup : float
        Steps over which the learning rate rises first.
    half_life : float
        Steps after which a step counts half in the averaged weights.
    """

    epochs: int
    steps: int
    most_steps: int
    total: int
    warmup: float
    half_life: float

    @classmethod
    def of(cls, epochs: int, steps: int, warmup: float, half_life: float, most: float = math.inf) -> Self:
        """Return the pace of a training that begins; `warmup` and `half_life` are epochs here, at most `most`."""
        return cls(epochs, steps, steps, epochs * steps, min(warmup, most) * steps, min(half_life, most) * steps)

    def rate(self, step: int) -> float:
        """Return the share of the highest learning rate at a step: a linear rise, then half a cosine down to zero."""
        warmup = round(self.warmup)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, self.total - warmup)))) / 2


class TimeLeft:
    """What is left of a given time, and what epochs have taken of it.

    Parameters
    ----------
    seconds
        The time, from now on.
    seen
        What an earlier process has noted.
    """

    def __init__(self, seconds: float, seen: Iterable[tuple[int, float, float]] = ()) -> None:
        self._end = time.monotonic() + seconds
        self._seen = list(seen)

    def seconds(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def state(self) -> tuple[float, list[tuple[int, float, float]]]:
        """Return from what another process goes on."""
        return self.seconds(), self._seen

    def note(self, steps: int, trained: float, rest: float) -> None:
        """Note an epoch: its steps, and the seconds that they and all that follows them took."""
        self._seen.append((steps, trained, rest))

    def costs(self, epochs: int) -> tuple[float, float] | None:
        """Return the seconds of a step and of what follows an epoch, as in the last epochs: so many as are to come.

        A machine is slower now and then: what is long is judged by what was long, and the end by what was just now.
        Medians, so that an epoch in which it stood still counts no more than others. None if no epoch has been noted.
        """
        if not self._seen:
            return None
        last = self._seen[-max(epochs, LEAST_SEEN) :]
        return median(trained / steps for steps, trained, _ in last), median(rest for _, _, rest in last)


def changed_pace(pace: Pace, epoch: int, done: int, step: float, rest: float, seconds: float) -> Pace:
    """Return the pace with which a training keeps its time: that of the most steps.

    Parameters
    ----------
    pace
        The pace so far.
    epoch, done
        Epochs and steps that are done.
    step, rest
        Seconds of a step, and of the validation and all else at the end of an epoch.
    seconds
        What is left.
    """
    whole = int(seconds / (pace.most_steps * step + rest))
    # One more, if all that are left are cut for it.
    cut = min(pace.most_steps, max(0, int((seconds / (whole + 1) - rest) / step)))
    epochs, steps = max((whole, pace.most_steps), (whole + 1, cut), key=math.prod)
    return dataclasses.replace(pace, epochs=epoch + epochs, steps=steps, total=done + epochs * steps)


def epochs_within(seconds: float, step: float, validation: float, steps: int) -> tuple[int, int]:
    """Return how many epochs fit into a time, and how many steps each has.

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
        return round(seconds / whole), steps
    epochs = min(LEAST_EPOCHS, max(1, int(VALIDATION_SHARE * seconds / max(validation, 1e-9))))
    short = int((seconds / epochs - validation) / step)
    if short < steps:
        return epochs, max(1, short)
    return max(1, round(seconds / whole)), steps


def seconds_of_some(run: Callable[[int], object], count: int, limit: float, device: torch.device) -> tuple[float, int]:
    """Return the seconds that some steps or batches take, and how many fit into a limit; all processes agree."""
    started = time.monotonic()
    run(count)
    synchronize(device)
    seconds = mean_over_processes(time.monotonic() - started, device)
    return seconds, min(MOST_MEASURED, max(1, int(limit * count / max(seconds, 1e-9))))
