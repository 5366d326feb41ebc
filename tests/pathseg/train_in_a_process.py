"""Train on given databases in a process of its own, which tests can kill.

Usage: train_in_a_process.py FOLDER [STEP]. Reads train.h5 and val.h5 in FOLDER, keeps its state in FOLDER/state, and
writes FOLDER/final.pt at the end. With STEP, it kills itself by SIGKILL after so many steps.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from pathseg import training
from pathseg.augment import Augmentation
from pathseg.database import TileDatabase
from pathseg.training import Tiles, Trainer, TrainingSettings
from pathseg.unet import UNet

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=2,
    learning_rate=0.01,
    warmup_epochs=1,
    weight_decay=0.01,
    gradient_clip=1,
    ema_decay=0.9,
    class_weights="balanced",
    edge_weight=1.1,
    edge_width=2,
    dice_weight=1,
    patience=None,
    precision="float32",
    seed=1,
    augmentation=Augmentation(),
)


def trainer_of(folder: Path, settings: TrainingSettings = SETTINGS, definition: dict | None = None) -> Trainer:
    """Return a trainer on the databases in a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Trainer(
        UNet(depth=2, wf=2),
        Tiles([TileDatabase(folder / "train.h5")]),
        Tiles([TileDatabase(folder / "val.h5")]),
        settings,
        ["a", "b"],
        torch.device("cpu"),
        folder / "state",
        definition or {"settings": "1", "data": "1"},
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    training.SECONDS_BETWEEN_SAVES = 0
    trainer = trainer_of(folder)
    if len(sys.argv) > 2:
        steps_left = int(sys.argv[2])
        train_step = trainer._train_step

        def step_and_die(*batch: torch.Tensor) -> torch.Tensor:
            """Train a step, or die."""
            global steps_left
            if not steps_left:
                os.kill(os.getpid(), signal.SIGKILL)
            steps_left -= 1
            return train_step(*batch)

        trainer._train_step = step_and_die
    best = trainer.run()
    history = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in trainer.history]
    torch.save({"best": best, "model": trainer.network.state_dict(), "history": history}, folder / "final.pt")
