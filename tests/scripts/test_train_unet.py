import dataclasses
import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tile_databases import write_database
from train_unet import Job, define_training, train

from pathseg.errors import TrainingError
from pathseg.files import file_digest
from pathseg.labels.values import IGNORE
from pathseg.network.checkpoint import build_network, load_checkpoint, save_checkpoint
from pathseg.tiles.augmentation import Augmentation
from pathseg.tiles.database import TileDatabase

SETTINGS = {
    "epochs": 1,
    "batch_size": 4,
    "learning_rate": 0.01,
    "warmup_epochs": 0,
    "weight_decay": 0.01,
    "gradient_clip": 1,
    "ema_half_life": 1,
    "class_weights": "balanced",
    "edges": "dilation",
    "edge_weight": 1.1,
    "edge_width": 2,
    "edge_w0": 10,
    "dice_weight": 1,
    "minutes": None,
    "sampling": "uniform",
    "patience": None,
    "freeze": "none",
    "precision": "float32",
    "seed": 1,
    "augmentation": vars(Augmentation()),
}


@pytest.fixture
def job(folder):
    return Job(
        training=[str(folder / "train.h5")],
        validation=str(folder / "val.h5"),
        unet={"depth": 2, "wf": 2, "padding": True, "batch_norm": True, "up_mode": "upconv"},
        settings=SETTINGS,
        classes=[{"name": name, "mask_value": value} for value, name in enumerate("ab")],
        code="1",
        output={
            "model": str(folder / "out/best.pt"),
            "history": str(folder / "out/history.tsv"),
            "tensorboard": str(folder / "out/tensorboard"),
        },
        state=str(folder / "out/.state"),
        log=str(folder / "log"),
    )


def test_a_model_is_written(job):
    train(torch.device("cpu"), job)
    model = load_checkpoint(job.output["model"])
    build_network(model, "best.pt")
    assert model["optim_dict"] == {}
    with TileDatabase(job.training[0]) as database:
        assert model["training_images"] == [content for content, _ in database.images]
    assert model["precision"]["training"] == "float32"
    assert model["precision"]["prediction"] in ("float32", "bfloat16")
    assert len(pd.read_csv(job.output["history"], sep="\t")) == 1
    made = sorted(path.name for path in Path(job.output["model"]).parent.iterdir())
    assert made == ["best.pt", "history.tsv", "tensorboard"]


def test_a_model_that_learns_what_is_inside_of_objects(folder, rng, job):
    objects = {"classes": ["b"], "shrink": 2}
    write_database(folder / "train.h5", rng, "P1", 24, objects=objects)
    write_database(folder / "val.h5", rng, "P2", 5, objects=objects)
    train(torch.device("cpu"), dataclasses.replace(job, settings=SETTINGS | {"epochs": 12}))
    model = load_checkpoint(job.output["model"])
    assert model["objects"] == objects
    whole, classes = build_network(model, "best.pt", insides=True), build_network(model, "best.pt")
    with TileDatabase(job.validation) as database:
        tiles, masks, truth = (database.read(name, np.arange(5)) for name in ("img", "mask", "inside"))
    with torch.inference_mode():
        images = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
        logits = whole(images)
        # Who does not ask for insides gets the same classes, and nothing more.
        assert torch.equal(classes(images), logits[:, :2])
    assert not (truth[masks == 1] == masks[masks == 1]).all()
    found, known = logits[:, 2].numpy() > 0, truth != IGNORE
    assert 2 * (found & (truth == 1)).sum() / (found[known].sum() + (truth == 1).sum()) > 0.9
    # The network has learned them apart from the class.
    assert (found[known] != (logits.argmax(1).numpy() == 1)[known]).sum() > 100


def test_a_state_that_cannot_be_removed_loses_no_model(job, monkeypatch):
    """NFS keeps a file that something still holds, under another name."""

    def busy(*_arguments, **_keywords):
        raise OSError(errno.EBUSY, "held by NFS")

    monkeypatch.setattr(os, "rmdir", busy)
    train(torch.device("cpu"), job)
    assert Path(job.state).is_dir()
    build_network(load_checkpoint(job.output["model"]), "best.pt")


def started(job, folder, **settings):
    """Return the job that starts from what another one has made."""
    output = {key: str(folder / "next" / Path(path).name) for key, path in job.output.items()}
    changed = {"settings": SETTINGS | settings, "output": output, "state": str(folder / "next/.state")}
    return dataclasses.replace(job, init=job.output["model"], **changed)


def test_a_training_starts_from_a_model_and_says_so(job, folder):
    train(torch.device("cpu"), job)
    first = load_checkpoint(job.output["model"])
    then = started(job, folder, learning_rate=1e-9, ema_half_life=0)
    train(torch.device("cpu"), then)
    model = load_checkpoint(then.output["model"])
    for name, values in model["model_dict"].items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(values, first["model_dict"][name], atol=1e-6, rtol=1e-5)
    assert model["started_from"] == {"sha256": file_digest(job.output["model"]), "not_loaded": []}
    assert model["training_images"] == first["training_images"]
    assert first["started_from"] is None


def test_images_of_all_trainings_before_are_remembered(job, folder):
    train(torch.device("cpu"), job)
    first = load_checkpoint(job.output["model"])
    save_checkpoint(job.output["model"], first | {"training_images": ["of another training"]})
    then = started(job, folder)
    train(torch.device("cpu"), then)
    remembered = load_checkpoint(then.output["model"])["training_images"]
    assert remembered == sorted([*first["training_images"], "of another training"])


def test_a_state_is_of_one_start_only(tmp_path):
    definitions = []
    for content in (None, "one", "other"):
        if content:
            (tmp_path / "m.pt").write_text(content)
        definitions.append(define_training({}, {}, [], "1", str(tmp_path / "m.pt") if content else None))
    assert all(one != other for one, other in itertools.combinations(definitions, 2))


def test_what_was_seen_before_is_remembered_and_validates_nothing(job, folder):
    train(torch.device("cpu"), job)
    exchanged = dataclasses.replace(started(job, folder), training=[job.validation], validation=job.training[0])
    with pytest.raises(TrainingError, match="which is a validation image now"):
        train(torch.device("cpu"), exchanged)
    assert not Path(exchanged.output["model"]).exists()


def test_an_encoder_that_is_frozen_stays(job, folder):
    train(torch.device("cpu"), job)
    before = load_checkpoint(job.output["model"])["model_dict"]
    then = started(job, folder, freeze="encoder", learning_rate=0.01, weight_decay=0.5)
    train(torch.device("cpu"), then)
    after = load_checkpoint(then.output["model"])["model_dict"]
    for name, values in after.items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(values, before[name]) == name.startswith("down_path"), name
