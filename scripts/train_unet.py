"""Train a U-Net on tile databases and keep its best snapshot.

Outputs
-------
model : PyTorch checkpoint
    The snapshot with the best mean Dice on the validation tiles, see `pathseg.network.checkpoint`.
history : TSV
    Losses and scores of each epoch.
tensorboard : folder
    The same for TensorBoard, with rates of each class and pictures.

What an interrupted run goes on from is kept in `.state` beside the model (in the working folder, if a storage plugin
keeps the model elsewhere), where Snakemake does not delete it, and removed at the end. `tensorboard --logdir` of that
folder shows a training that runs. What a training has started from, if anything, is noted beside it, in
`started_from.json`, so that a run in which `training.init` was forgotten does not write over it. With several GPUs
(`--set-resources train_unet:gpu=2`) each takes its part of every batch.
"""

import json
import logging
import resource
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pathseg import __version__
from pathseg.cohort.plans import with_plan
from pathseg.digests import digest
from pathseg.errors import counted
from pathseg.files import atomic_path, file_digest
from pathseg.logs import start_log
from pathseg.network.checkpoint import save_checkpoint
from pathseg.network.devices import choose_devices, describe, prepare_gpu
from pathseg.network.optimisation import TrainingSettings
from pathseg.network.precision import record_of
from pathseg.network.processes import process_count, process_number, run_on_devices
from pathseg.network.starting import Start, freeze_encoder, refuse_seen, start_from
from pathseg.network.state import StateFolder
from pathseg.network.training import Trainer
from pathseg.network.unet import UNet
from pathseg.table_files import save_tsv
from pathseg.tiles.batches import Tiles
from pathseg.tiles.database import TileDatabase, check_databases

log = logging.getLogger("pathseg")


def define_training(
    unet: dict[str, Any], training: dict[str, Any], databases: list[TileDatabase], code: str, init: str | None
) -> dict[str, str]:
    """Return digests of all that makes a training what it is, by name; `init` is the model file that it starts from."""
    start = {"init": file_digest(init)} if init else {}
    return start | {
        "network": digest(unet),
        "settings": digest(training),
        "data": digest([database.digest for database in databases]),
        "code": code,
    }


def peak_memory(device: torch.device) -> str:
    """Say how much memory was used at most."""
    # The system counts in kilobytes (on Linux).
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory"
    if device.type == "cuda":
        text += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU's"
    return text


@dataclass(frozen=True)
class Job:
    """What is trained, and where its files are."""

    training: list[str]
    validation: str
    unet: dict[str, Any]
    settings: dict[str, Any]
    classes: list[dict[str, Any]]
    code: str
    output: dict[str, str]
    state: str
    log: str
    init: str | None = None


def train(device: torch.device, job: Job) -> None:
    """Train on a device, alone or with other processes; the first one writes the outputs."""
    if process_number():
        log.setLevel(logging.ERROR)
    elif process_count() > 1:
        start_log(job.log, mode="a")
    prepare_gpu(device, same_shapes=True)
    with_edges = job.settings["edges"] == "distance"
    with ExitStack() as stack:
        training = [stack.enter_context(TileDatabase(path)) for path in job.training]
        validation = stack.enter_context(TileDatabase(job.validation))
        check_databases(training, validation)
        torch.manual_seed(job.settings["seed"])
        objects = validation.attributes.get("objects")
        network = UNet(n_classes=len(job.classes), insides=bool(objects), **job.unet)
        names = [class_["name"] for class_ in job.classes]
        start = None
        if job.init:
            start = start_from(network, job.init, names, validation.attributes)
            refuse_seen(start, job.init, validation)
        if job.settings["freeze"] == "encoder":
            freeze_encoder(network)
        tiles = Tiles(training, with_edges)
        log.info(
            "trains %s parameters on %d tiles for %s (%s)",
            f"{sum(values.numel() for values in network.parameters()):,}",
            len(tiles),
            counted(job.settings["minutes"], "minute")
            if job.settings["minutes"]
            else counted(job.settings["epochs"], "epoch"),
            describe(device, process_count()),
        )
        trainer = Trainer(
            network,
            tiles,
            Tiles([validation], with_edges),
            TrainingSettings.from_config(job.settings),
            names,
            device,
            StateFolder(
                Path(job.state),
                define_training(job.unet, job.settings, [*training, validation], job.code, job.init),
            ),
        )
        best = trainer.run()
    if not process_number():
        seen = {content for database in training for content, _ in database.images}
        images = sorted(seen.union(start.images if start else []))
        about = validation.attributes | {"training_images": images, "started_from": start and started_from(start)}
        write_outputs(job, trainer, best, network.architecture, about)
        log.info(
            "best epoch %d: mean Dice %.3f on the validation tiles; %s",
            best["epoch"],
            best["score"],
            peak_memory(device),
        )


def started_from(start: Start) -> dict[str, Any]:
    """Return what the model file says of what its training started from."""
    return {"sha256": start.sha256, "not_loaded": start.not_loaded}


def trained_network(architecture: dict[str, Any], best: dict[str, Any], insides: bool) -> UNet:
    """Return the network of the best snapshot, ready to predict."""
    network = UNet(**architecture, insides=insides)
    network.load_state_dict(best["model_dict"])
    return network.eval()


def write_outputs(
    job: Job, trainer: Trainer, best: dict[str, Any], architecture: dict[str, Any], attributes: dict[str, Any]
) -> None:
    """Write model, history and TensorBoard's folder, and remove the state."""
    network = trained_network(architecture, best, bool(attributes.get("objects")))
    save_tsv(pd.DataFrame(trainer.history), job.output["history"])
    with atomic_path(job.output["tensorboard"]) as temporary:
        shutil.copytree(trainer.state.board, temporary)
    save_checkpoint(
        job.output["model"],
        architecture
        | {
            "epoch": best["epoch"],
            "model_dict": best["model_dict"],
            # The tutorial's key; nobody goes on from a finished model's optimiser.
            "optim_dict": {},
            "best_loss_on_test": best["loss"],
            "best_dice": best["score"],
            "class_weights": trainer.weights.tolist(),
            "classes": job.classes,
            "objects": attributes.get("objects"),
            "mpp": attributes["mpp"],
            "resize": attributes["resize"],
            "tile_size": attributes["tile_size"],
            "training_images": attributes["training_images"],
            "started_from": attributes["started_from"],
            "pathseg_version": __version__,
            "training_digest": digest(trainer.state.definition),
            "precision": record_of(trainer.dtype, network, trainer.device),
        },
    )
    note_start(Path(job.state).with_name("started_from.json"), job.init, attributes["started_from"])
    # What cannot be removed (a file that NFS still holds) is no reason to lose the model.
    shutil.rmtree(trainer.state.path, ignore_errors=True)


def note_start(path: Path, init: str | None, start: dict[str, Any] | None) -> None:
    """Write down what a model has started from, or that it has begun anew: no output, so that Snakemake keeps it."""
    if start is None:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"init": init, **start}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    start_log(snakemake.log[0])
    params = snakemake.params
    plan = snakemake.input.get("plan"), "experiments", snakemake.wildcards.experiment
    run_on_devices(
        train,
        choose_devices(snakemake.resources.get("gpu", 0), snakemake.threads),
        Job(
            training=list(snakemake.input.training),
            validation=snakemake.input.validation,
            unet=with_plan(params.unet, *plan, "unet"),
            settings=with_plan(params.training, *plan, "training"),
            classes=params.classes,
            code=params.code,
            output=dict(snakemake.output.items()),
            state=params.state,
            log=snakemake.log[0],
            init=snakemake.input.get("init"),
        ),
    )
