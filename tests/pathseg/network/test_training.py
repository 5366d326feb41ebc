import dataclasses
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import ROOT
from pathseg.errors import TrainingError
from pathseg.labels.values import IGNORE
from pathseg.network import pace, state, training
from pathseg.network.state import StateFolder
from pathseg.tiles.batches import epoch_plan

sys.path.append(str(Path(__file__).parent))
from tile_databases import write_database
from train_in_a_process import SETTINGS, trainer_of


def run_process(folder, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("train_in_a_process.py")), str(folder), *arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")}, check=False).returncode


def test_it_learns(folder):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=25))
    best = trainer.run()
    assert best["score"] > 0.95
    assert [row["epoch"] for row in trainer.history] == list(range(1, 26))
    assert best["score"] == max(row["val_dice"] for row in trainer.history)
    assert best["loss"] == trainer.history[best["epoch"] - 1]["val_loss"]


def test_killed_and_started_again_it_ends_with_the_same_weights(folder, tmp_path_factory):
    """Killed by SIGKILL in the first epoch, at the end of an epoch, and in the last; five steps an epoch."""
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    for name in ("train.h5", "val.h5"):
        shutil.copy(folder / name, undisturbed)
    assert run_process(undisturbed) == 0
    for steps in ("2", "3", "6"):
        assert run_process(folder, steps) == -signal.SIGKILL
        assert not (folder / "final.pt").exists()
    assert run_process(folder) == 0
    one, other = (torch.load(path / "final.pt") for path in (undisturbed, folder))
    assert one["history"] == other["history"]
    for key in one["model"]:
        assert torch.equal(one["model"][key], other["model"][key]), key
        assert torch.equal(one["best"]["model_dict"][key], other["best"]["model_dict"][key]), key


def stop_in_an_epoch(trainer, epoch=1):
    """Run a training that is asked to end after the third step of an epoch, counted from 0."""
    train_step = trainer._train_step

    def step_and_ask(*batch):
        if (trainer.epoch, trainer.step) == (epoch, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        train_step(*batch)

    trainer._train_step = step_and_ask
    with pytest.raises(TrainingError, match="SIGTERM"):
        trainer.run()


def test_sigterm_saves_the_state(folder):
    stop_in_an_epoch(trainer_of(folder))
    again = trainer_of(folder)
    again._load_state()
    assert (again.epoch, again.step) == (1, 3)


def test_a_state_of_another_training_is_not_used(folder, caplog):
    trainer_of(folder, dataclasses.replace(SETTINGS, epochs=1)).run()
    other = trainer_of(folder, definition={"settings": "2", "data": "1"})
    with caplog.at_level("INFO"):
        other._load_state()
    assert other.epoch == 0
    assert "settings changed" in caplog.text


def test_a_training_that_is_gone_on_with_keeps_its_precision(folder, monkeypatch):
    auto = dataclasses.replace(SETTINGS, precision="auto")
    monkeypatch.setattr(training, "training_type", lambda *arguments: torch.bfloat16)
    trainer_of(folder, auto).run()
    monkeypatch.setattr(training, "training_type", lambda *arguments: torch.float32)
    again = trainer_of(folder, auto)
    assert again.dtype == torch.float32
    again._load_state()
    assert again.dtype == torch.bfloat16


def test_it_learns_in_float16(folder):
    """With a scaled loss, for GPUs that have no bfloat16; gone on with, the scale is kept."""
    settings = dataclasses.replace(SETTINGS, epochs=8, precision="float16")
    trainer = trainer_of(folder, settings)
    assert trainer.scaler.is_enabled()
    assert trainer.run()["score"] > 0.9
    again = trainer_of(folder, settings)
    again._load_state()
    assert again.scaler.state_dict() == trainer.scaler.state_dict()


def test_a_damaged_state_is_not_used(folder, caplog):
    (folder / "state").mkdir()
    (folder / "state" / "state.pt").write_bytes(b"half a state")
    trainer = trainer_of(folder)
    trainer._load_state()
    assert "starts anew" in caplog.text


def test_patience_stops_early(folder):
    trainer = trainer_of(
        folder, dataclasses.replace(SETTINGS, epochs=50, learning_rate=1e-9, patience=2, ema_half_life=0)
    )
    best = trainer.run()
    assert len(trainer.history) == best["epoch"] + 2


def test_a_loss_that_is_not_a_number_names_step_and_tiles(folder):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, learning_rate=1e30, gradient_clip=0, warmup_epochs=0))
    with pytest.raises(TrainingError, match=r"not a number in epoch 1, step \d.*P1 at x=0, y=0"):
        trainer.run()


def test_two_trainings_in_one_folder(tmp_path):
    folder = StateFolder(tmp_path, {})
    with folder.only_one(), pytest.raises(TrainingError, match="another process"), folder.only_one():
        pass


def test_each_tile_is_seen_once_in_an_epoch():
    plan = epoch_plan(23, 5, seed=1, epoch=2)
    assert sorted(np.concatenate(plan)) == list(range(23))
    assert max(map(len, plan)) <= 5
    assert [list(batch) for batch in plan] == [list(batch) for batch in epoch_plan(23, 5, seed=1, epoch=2)]
    assert [list(batch) for batch in plan] != [list(batch) for batch in epoch_plan(23, 5, seed=1, epoch=3)]


def test_averaged_weights_are_scored_with_statistics_of_their_own(folder):
    """Those of the weights that are trained do not fit them."""
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=1))
    trainer.run()
    averaged, first = trainer.averaged, trainer.averaged.down_path[0].block
    with torch.no_grad():
        maps = [first[:2](images) for images in trainer._norm_images()]
    means = torch.stack([values.mean(dim=(0, 2, 3)) for values in maps]).mean(dim=0)
    torch.testing.assert_close(averaged.down_path[0].block[2].running_mean, means, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(trainer.network.down_path[0].block[2].running_mean, means, atol=1e-4)


def test_statistics_are_of_tiles_as_sharp_as_they_are_stored(folder):
    """Turned, scaled and deformed ones are smoother, and with their statistics validation was worse by 0.05."""
    grey = dataclasses.replace(SETTINGS.augmentation, stain=0, color=0)
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, batch_size=100, augmentation=grey))
    (images,) = trainer._norm_images()
    stored = trainer.training.read(np.arange(len(trainer.training))).images.float() / 255
    torch.testing.assert_close(*(values.flatten(2).sort().values for values in (images, stored)), atol=1e-5, rtol=0)
    assert not torch.allclose(images, stored, atol=0.1)
    coloured = trainer_of(folder, dataclasses.replace(SETTINGS, batch_size=100))
    (images,) = coloured._norm_images()
    assert not torch.allclose(images.mean(dim=(2, 3)), stored.mean(dim=(2, 3)), atol=0.02)


def test_the_same_weights_have_the_same_score_in_each_epoch(folder):
    """Statistics of a few tiles drawn anew, and changed, made the score of a trained network jump by a tenth."""
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=1))
    trainer.run()
    losses = set()
    for epoch in (0, 1, 7):
        trainer.epoch = epoch
        losses.add(trainer._validate().mean_loss())
    assert len(losses) == 1


@pytest.mark.parametrize(("crop", "times"), [(None, 4), (24, 2.25), (8, 1)])
@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_statistics_are_of_all_images(folder, batch_size, crop, times, monkeypatch):
    """In batches of as many pixels as whole tiles have room for, where training sees a part of each."""
    changes = dataclasses.replace(SETTINGS.augmentation, crop=crop)
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, batch_size=batch_size, augmentation=changes))
    assert trainer.training.side == 32
    names = [trainer.training.name(index) for index in range(len(trainer.training))]
    for most in (8, len(names), 1000):
        monkeypatch.setattr(training, "NORM_TILES", most)
        read: list[np.ndarray] = []
        monkeypatch.setattr(trainer, "_batches", lambda plan, *_, read=read: read.extend(plan) or [])
        list(trainer._norm_images())
        chosen = np.concatenate(read)
        assert len(set(chosen)) == len(chosen) >= min(most, len(names))
        assert max(map(len, read)) <= math.ceil(times * batch_size)
        # Across the whole database, and neighbours in different batches.
        assert (min(chosen), max(chosen)) == (0, len(names) - 1)
        assert max(np.diff(sorted(chosen)), default=1) <= math.ceil(len(names) / min(most, len(names)))
        assert len(read) == 1 or all(min(np.diff(sorted(part)), default=2) > 1 for part in read)


def test_state_is_written_by_time_and_at_the_end(folder, monkeypatch):
    written = []
    monkeypatch.setattr(state, "save_checkpoint", lambda path, content: written.append((path.name, content)))
    trainer = trainer_of(folder)
    best = trainer.run()
    assert [name for name, _ in written] == [f"best-{best['epoch']}.pt", "state.pt"]
    assert "model_dict" not in written[1][1]["best"]


def test_the_best_snapshot_is_the_saved_states(folder, monkeypatch):
    """A kill after a later snapshot was written, and before its state was, must not mix the two."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=1))
    weights = trainer.run()["model_dict"]
    torch.save({}, folder / "state" / "best-2.pt")
    again = trainer_of(folder)
    again._load_state()
    assert again.best["epoch"] == 1
    assert all(torch.equal(values, weights[name]) for name, values in again.best["model_dict"].items())
    assert [path.name for path in (folder / "state").glob("best-*")] == ["best-1.pt"]


def test_a_gradient_that_is_not_a_number_is_not_saved(folder):
    """In the last step of an epoch, whose loss tells nothing yet."""
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=2))

    def spoil(gradient):
        return gradient * math.nan if trainer.step + 1 == trainer.pace.steps else gradient

    trainer.network.last.weight.register_hook(spoil)
    with pytest.raises(TrainingError, match="the loss or its gradient is not a number in epoch 1, step 5"):
        trainer.run()
    assert not trainer.state.file.exists()


def test_sigterm_is_heard_during_validation(folder, tmp_path_factory):
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    for name in ("train.h5", "val.h5"):
        shutil.copy(folder / name, undisturbed)
    expected = trainer_of(undisturbed).run()
    trainer, seen = trainer_of(folder), []
    score = trainer._loss_as_stored

    def ask_and_score(batch):
        seen.append(trainer.epoch)
        if seen.count(1) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(batch)

    trainer._loss_as_stored = ask_and_score
    with pytest.raises(TrainingError, match="SIGTERM"):
        trainer.run()
    assert seen == [0, 0, 0, 1]
    found = trainer_of(folder).run()
    assert found["score"] == expected["score"]
    assert all(torch.equal(values, expected["model_dict"][name]) for name, values in found["model_dict"].items())


def test_a_network_that_reaches_no_known_pixel_is_refused(tmp_path, rng):
    """Without padding it gives less than a tile."""
    for name, known in (("train", 32), ("val", 3)):
        write_database(tmp_path / f"{name}.h5", rng, name, 3, known)
    with pytest.raises(TrainingError, match=r"val\.h5: no known pixel is 8 pixels from the rim.*set tiles.pad to 8"):
        trainer_of(tmp_path, padding=False)
    trainer_of(tmp_path, padding=True)


def test_without_a_score_there_is_no_model(folder):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=1))
    trainer._loss_as_stored = lambda batch: (
        torch.zeros(len(batch.images), 2, 32, 32),
        torch.full((len(batch.images), 32, 32), IGNORE),
        torch.tensor(math.nan),
    )
    with pytest.raises(TrainingError, match="no epoch has a score"):
        trainer.run()


@pytest.mark.parametrize(("clip", "smaller"), [(1e-3, True), (0, False)])
def test_gradients_are_clipped_unless_that_is_off(folder, clip, smaller):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, gradient_clip=clip))
    trainer.network.train()
    trainer._train_step(next(iter(trainer._batches(trainer._plan(0), 0, 0, SETTINGS.augmentation))))
    norm = torch.linalg.vector_norm(torch.cat([values.grad.ravel() for values in trainer.network.parameters()]))
    assert (norm <= 1.001e-3) == smaller


class Recorder(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        self.names.append(str(operator))
        if (keywords or {}).get("device") is not None and "copy" in str(operator):
            self.names.append("aten.copy_to_a_device")
        return operator(*arguments, **(keywords or {}))


def test_a_step_waits_for_nothing(folder):
    """On a GPU, each of these operators would wait for all that was asked of it before, or copy from slow memory."""
    waiting = "_local_scalar_dense item bincount nonzero masked_select unique lift_fresh copy_to_a_device equal"
    trainer = trainer_of(folder)
    trainer.network.train()
    batches = trainer._batches(trainer._plan(0), 0, 0, trainer.settings.augmentation)
    for batch in itertools.islice(batches, 2):
        # What is kept on the device is made in the first step.
        recorder = Recorder()
        with recorder:
            trainer._train_step(batch)
    names = {name.removeprefix("aten.").split(".")[0] for name in recorder.names}
    assert "convolution_backward" in names
    assert "_fused_adamw_" in names
    assert not names & set(waiting.split())


def in_minutes(minutes):
    """Return settings of a training that has so long."""
    return dataclasses.replace(SETTINGS, epochs=None, minutes=minutes)


def test_one_tile_that_cannot_be_normalised_is_refused(folder):
    with pytest.raises(TrainingError, match="a batch of one tile of .* cannot be normalised; lower unet.depth"):
        trainer_of(folder, dataclasses.replace(SETTINGS, batch_size=1), depth=6)


class Clock:
    """A clock that goes on by what a step and a batch of validation are said to take: this machine's noise is out."""

    def __init__(self, monkeypatch, step, batch):
        self.now, self.slow = 0.0, 1.0
        for module in (training, pace):
            monkeypatch.setattr(module, "time", self)
        self._slow_down(monkeypatch, "_train_step", lambda trainer, batch: step)
        self._slow_down(
            monkeypatch,
            "_validate",
            lambda trainer, most=None: batch * (most or math.ceil(len(trainer.validation) / 2)),
        )

    def monotonic(self):
        return self.now

    def _slow_down(self, monkeypatch, name, seconds):
        method = getattr(training.Trainer, name)

        def slow(trainer, *arguments):
            self.now += self.slow * seconds(trainer, *arguments)
            return method(trainer, *arguments)

        monkeypatch.setattr(training.Trainer, name, slow)


def test_a_time_is_kept_with_its_validations(folder, monkeypatch):
    clock = Clock(monkeypatch, step=0.1, batch=0.2)
    trainer = trainer_of(folder, in_minutes(0.15))
    trainer.run()
    assert len(trainer.history) == trainer.pace.epochs > 3
    spent = sum(row["train_seconds"] + row["val_seconds"] for row in trainer.history)
    assert 0.8 * 9 < spent <= clock.now <= 9


@pytest.mark.parametrize("slow", [2, 0.5])
def test_a_time_is_kept_on_a_machine_that_becomes_slower_or_faster(folder, monkeypatch, slow):
    clock = Clock(monkeypatch, step=0.01, batch=0.02)
    trainer = trainer_of(folder, in_minutes(0.05))
    planned = trainer._run_epoch

    def run_epoch(board):
        clock.slow = slow if trainer.epoch >= 8 else 1
        planned(board)

    monkeypatch.setattr(trainer, "_run_epoch", run_epoch)
    trainer.run()
    assert 0.9 * 3 < clock.now <= 3
    assert len(trainer.history) == trainer.epoch == trainer.pace.epochs
    assert trainer.steps_done == trainer.pace.total
    assert trainer.learning_rate == pytest.approx(0, abs=1e-9)


def test_measuring_changes_nothing_that_is_trained(folder, tmp_path_factory, monkeypatch):
    Clock(monkeypatch, step=0.01, batch=0.02)
    trainer = trainer_of(folder, in_minutes(0.02))
    trainer.run()
    other = tmp_path_factory.mktemp("other")
    for name in ("train.h5", "val.h5"):
        shutil.copy(folder / name, other)
    tenth = 0.1 * trainer.pace.epochs
    plain = trainer_of(
        other,
        dataclasses.replace(
            SETTINGS, epochs=trainer.pace.epochs, warmup_epochs=min(1, tenth), ema_half_life=min(1, tenth)
        ),
    )
    assert plain.pace.total == trainer.pace.total
    plain.run()
    for key, values in plain.best["model_dict"].items():
        assert torch.equal(values, trainer.best["model_dict"][key]), key


def stop_in_the_second_validation(trainer):
    """Run a training that is asked to end when all steps of the second epoch are done."""

    def validate(*arguments):
        trainer._stop.made = trainer.epoch == 1
        return type(trainer)._validate(trainer, *arguments)

    trainer._validate = validate
    with pytest.raises(TrainingError, match="SIGTERM"):
        trainer.run()


def stop_in_the_first_epoch(trainer):
    """Stop before an epoch has been seen to its end."""
    stop_in_an_epoch(trainer, 0)


@pytest.mark.parametrize("stop", [stop_in_the_first_epoch, stop_in_an_epoch, stop_in_the_second_validation])
def test_a_training_that_goes_on_keeps_what_is_left_of_its_time(folder, monkeypatch, stop):
    """Its first step takes long, as the first one in a process does: nothing is concluded from that."""
    clock = Clock(monkeypatch, step=0.1, batch=0.2)
    trainer = trainer_of(folder, in_minutes(0.2))
    stop(trainer)
    used = clock.now
    again = trainer_of(folder, in_minutes(0.2))
    monkeypatch.setattr(again, "_measured_pace", lambda: (50, 1))
    train_step = again._train_step

    def slow_at_first(batch):
        clock.slow = 20 if again.steps_done == trainer.steps_done else 1
        train_step(batch)

    monkeypatch.setattr(again, "_train_step", slow_at_first)
    again.run()
    assert 11 < clock.now <= 12
    assert clock.now - used > 4
    assert again.steps_done == again.pace.total
    assert len(again.history) == again.pace.epochs > 5
    # Of 0.01 at most; where whole steps do not fit there is a little more time left in the end.
    assert np.diff([row["learning_rate"] for row in again.history[1:]]).max() < 1e-4
    assert again.learning_rate == pytest.approx(0, abs=1e-9)


def test_measuring_saves_no_state(folder, monkeypatch):
    Clock(monkeypatch, step=1000, batch=1000)
    trainer = trainer_of(folder, in_minutes(100))
    monkeypatch.setattr(trainer, "_epochs", list)
    monkeypatch.setattr(trainer, "_save_state", lambda: None)
    with pytest.raises(TrainingError, match="no epoch has a score"):
        trainer.run()
    assert not (folder / "state" / "state.pt").exists()


@pytest.mark.parametrize("sampling", ["uniform", "classes"])
def test_tiles_are_drawn_as_asked_for(folder, monkeypatch, sampling):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, sampling=sampling))
    given = []
    monkeypatch.setattr(training, "epoch_plan", lambda *arguments: given.append(arguments[-1]) or [])
    trainer._plan(0)
    if sampling == "uniform":
        assert given == [None]
    else:
        np.testing.assert_array_equal(given[0], trainer.training.holders(2))
