"""Train on given databases in a process of its own, which tests can kill.

Usage: train_in_a_process.py FOLDER [STEP]. Reads train.h5 and val.h5 in FOLDER, keeps its state in FOLDER/state, and
writes FOLDER/final.pt at the end. With STEP, it kills itself by SIGKILL after so many steps.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch

from pathseg.network import training
from pathseg.network.optimisation import TrainingSettings
from pathseg.network.pace import TimeLeft
from pathseg.network.processes import process_number
from pathseg.network.state import StateFolder
from pathseg.network.training import Trainer
from pathseg.network.unet import UNet
from pathseg.tiles.augmentation import Augmentation
from pathseg.tiles.batches import Tiles
from pathseg.tiles.database import TileDatabase

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=2,
    learning_rate=0.01,
    warmup_epochs=1,
    weight_decay=0.01,
    gradient_clip=1,
    ema_half_life=1,
    class_weights="balanced",
    edges="dilation",
    edge_weight=1.1,
    edge_width=2,
    edge_w0=10,
    dice_weight=1,
    patience=None,
    precision="float32",
    seed=1,
    augmentation=Augmentation(),
)


def trainer_of(
    folder: Path, settings: TrainingSettings = SETTINGS, definition: dict | None = None, **unet: object
) -> Trainer:
    """Return a trainer on the databases in a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Trainer(
        UNet(**{"depth": 2, "wf": 2, **unet}),
        Tiles([TileDatabase(folder / "train.h5")]),
        Tiles([TileDatabase(folder / "val.h5")]),
        settings,
        ["a", "b"],
        torch.device("cpu"),
        StateFolder(folder / "state", definition or {"settings": "1", "data": "1"}),
    )


def train_and_save(
    device: torch.device, folder: Path, file: str, epochs: int = 3, end_process: int | None = None
) -> None:
    """Train, alone or with other processes, and write the history; the given process is killed after three steps.

    Without batch norm: on the CPU PyTorch's cannot take the statistics of several processes together.
    """
    train_together(folder, file, dataclasses.replace(SETTINGS, batch_size=4, epochs=epochs), end_process)


def train_in_minutes(device: torch.device, folder: Path, file: str, minutes: float) -> None:
    """Do the same for so many minutes, of which the second process sees but half."""
    if process_number():
        training.TimeLeft = HalfOfIt
    train_together(folder, file, dataclasses.replace(SETTINGS, batch_size=4, epochs=None, minutes=minutes))


class HalfOfIt(TimeLeft):
    """A clock that is wrong."""

    def seconds(self) -> float:
        """Return half of what is left."""
        return super().seconds() / 2


def train_together(folder: Path, file: str, settings: TrainingSettings, end_process: int | None = None) -> None:
    """Train with given settings."""
    trainer = trainer_of(folder, settings, batch_norm=False)
    if process_number() == end_process:
        die_after(trainer, 3)
    trainer.run()
    if not process_number():
        (folder / file).write_text(json.dumps(trainer.history))


def die_after(trainer: Trainer, steps: int) -> None:
    """Let a training be killed after so many steps."""
    left = iter(range(steps))
    train_step = trainer._train_step

    def step_or_die(*batch: object) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        train_step(*batch)

    trainer._train_step = step_or_die


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    training.SECONDS_BETWEEN_SAVES = 0
    trainer = trainer_of(folder)
    if len(sys.argv) > 2:
        die_after(trainer, int(sys.argv[2]))
    best = trainer.run()
    history = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in trainer.history]
    torch.save({"best": best, "model": trainer.network.state_dict(), "history": history}, folder / "final.pt")
