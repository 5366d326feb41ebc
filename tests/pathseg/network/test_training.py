import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import ROOT
from pathseg.errors import TrainingError
from pathseg.labels.values import IGNORE
from pathseg.network.losses import cut_to
from pathseg.network.running_metrics import RunningMetrics, class_rates
from pathseg.network.state import StateFolder
from pathseg.network.training import learning_rate
from pathseg.tiles.batches import epoch_plan

sys.path.append(str(Path(__file__).parent))
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


def test_sigterm_saves_the_state(folder):
    trainer = trainer_of(folder)
    train_step = trainer._train_step

    def step_and_ask(*batch):
        if (trainer.epoch, trainer.step) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*batch)

    trainer._train_step = step_and_ask
    with pytest.raises(TrainingError, match="SIGTERM"):
        trainer.run()
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


def test_a_damaged_state_is_not_used(folder, caplog):
    (folder / "state").mkdir()
    (folder / "state" / "state.pt").write_bytes(b"half a state")
    trainer = trainer_of(folder)
    trainer._load_state()
    assert "starts anew" in caplog.text


def test_patience_stops_early(folder):
    trainer = trainer_of(folder, dataclasses.replace(SETTINGS, epochs=50, learning_rate=1e-9, patience=2, ema_decay=0))
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


def test_learning_rate_rises_and_falls_to_zero():
    settings = dataclasses.replace(SETTINGS, epochs=10, warmup_epochs=2, learning_rate=0.1)
    rates = [learning_rate(step, 5, settings) for step in range(50)]
    assert int(np.argmax(rates)) == 10
    assert rates[10] == pytest.approx(0.1)
    assert 0 < rates[0] < 0.02
    assert rates[-1] < 0.001


def test_rates_by_hand():
    rates = class_rates(np.array([[5, 1], [2, 12]]), ["a", "b"])
    assert [rates[f"b/{name}"] for name in ("TP", "FP", "TN", "FN")] == [12, 1, 5, 2]
    assert rates["b/TPR"] == pytest.approx(12 / 14)
    assert rates["b/FPR"] == pytest.approx(1 / 6)


def test_metrics_leaves_ignored_pixels_out():
    metrics = RunningMetrics(2, torch.device("cpu"))
    masks = torch.tensor([[[0, 1], [IGNORE, 1]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 0], [1, 1]]]), 2).movedim(-1, 1).float()
    metrics.add(logits, masks, torch.tensor(0.5))
    np.testing.assert_array_equal(metrics.matrix(), [[1, 0], [1, 1]])
    assert metrics.mean_loss() == 0.5


@pytest.mark.parametrize("n_classes", [15, 16, 20])
def test_metrics_of_many_classes(n_classes):
    metrics = RunningMetrics(n_classes, torch.device("cpu"))
    masks = torch.arange(n_classes).reshape(1, 1, n_classes)
    metrics.add(torch.eye(n_classes).reshape(1, n_classes, 1, n_classes), masks, torch.tensor(0.0))
    np.testing.assert_array_equal(metrics.matrix(), np.eye(n_classes))


def test_cutting_to_unpadded_output():
    maps = torch.arange(36).reshape(1, 6, 6)
    assert torch.equal(cut_to(maps, torch.zeros(1, 2, 2, 2)), maps[:, 2:4, 2:4])


def test_tensorboard_shows_losses_rates_and_pictures(folder):
    trainer_of(folder).run()
    events = EventAccumulator(str(folder / "state" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    for phase in ("train", "val"):
        assert {f"{phase}/{name}" for name in ("loss", "accuracy", "dice")} <= scalars
        rates = ("TP", "FP", "TN", "FN", "TPR", "FPR", "TNR", "FNR")
        assert {f"{phase}/{name}/{rate}" for name in "ab" for rate in rates} <= scalars
    assert [event.step for event in events.Scalars("learning_rate")] == [0, 1, 2]
    assert [event.step for event in events.Images("val/image_truth_prediction")] == [0, 1, 2]
