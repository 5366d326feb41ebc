"""Train a U-Net on tile databases and keep its best snapshot.

Outputs
-------
model : PyTorch checkpoint
    The snapshot with the best mean Dice on the validation tiles, see `pathseg.checkpoint`.
history : TSV
    Losses and scores of each epoch.
tensorboard : folder
    The same for TensorBoard, with rates of each class and pictures.

What an interrupted run goes on from is kept in `.state` beside the model, where Snakemake does not delete it, and
removed at the end. `tensorboard --logdir` of that folder shows a training that runs.
"""

import resource
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pathseg import __version__
from pathseg.checkpoint import save_checkpoint
from pathseg.database import TileDatabase, check_databases
from pathseg.devices import choose_device, describe
from pathseg.digests import digest
from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.training import Tiles, Trainer, TrainingSettings
from pathseg.unet import UNet


def define_training(
    unet: dict[str, Any], training: dict[str, Any], databases: list[TileDatabase], code: str
) -> dict[str, str]:
    """Return digests of all that makes a training what it is, by name."""
    return {
        "network": digest(unet),
        "settings": digest(training),
        "data": digest([[database.source_digests, database.attributes, len(database)] for database in databases]),
        "code": code,
    }


def peak_memory(device: torch.device) -> str:
    """Say how much memory was used at most."""
    # The system counts in kilobytes (on Linux).
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory"
    if device.type == "cuda":
        text += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU's"
    return text


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    device = choose_device(snakemake.resources.get("gpu", 0), snakemake.threads)
    with ExitStack() as stack:
        training = [stack.enter_context(TileDatabase(path)) for path in snakemake.input.training]
        validation = stack.enter_context(TileDatabase(snakemake.input.validation))
        check_databases(training, validation)
        torch.manual_seed(params.training["seed"])
        network = UNet(n_classes=len(params.classes), **params.unet)
        tiles = Tiles(training)
        log.info(
            "trains %s parameters on %d tiles for %d epochs (%s)",
            f"{sum(values.numel() for values in network.parameters()):,}",
            len(tiles),
            params.training["epochs"],
            describe(device),
        )
        state_folder = Path(output.model).parent / ".state"
        trainer = Trainer(
            network,
            tiles,
            Tiles([validation]),
            TrainingSettings.from_config(params.training),
            [class_["name"] for class_ in params.classes],
            device,
            state_folder,
            define_training(params.unet, params.training, [*training, validation], params.code),
        )
        best = trainer.run()
    with atomic_path(output.history) as temporary:
        pd.DataFrame(trainer.history).to_csv(temporary, sep="\t", index=False)
    with atomic_path(output.tensorboard) as temporary:
        shutil.copytree(state_folder / "tensorboard", temporary)
    save_checkpoint(
        output.model,
        network.architecture
        | {
            "epoch": best["epoch"],
            "model_dict": best["model_dict"],
            "optim_dict": best["optim_dict"],
            "best_loss_on_test": best["loss"],
            "best_dice": best["score"],
            "classes": params.classes,
            "mpp": validation.attributes["mpp"],
            "resize": validation.attributes["resize"],
            "tile_size": validation.attributes["tile_size"],
            "pathseg_version": __version__,
            "training_digest": digest(trainer.definition),
        },
    )
    shutil.rmtree(state_folder)
    log.info(
        "best epoch %d: mean Dice %.3f on the validation tiles; %s", best["epoch"], best["score"], peak_memory(device)
    )
