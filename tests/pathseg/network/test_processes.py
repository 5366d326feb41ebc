"""Two processes on the CPU stand for two GPUs."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from pathseg.errors import TrainingError
from pathseg.network.processes import all_reduce_sum, process_count, run_on_devices, shard

sys.path.append(str(Path(__file__).parent))
from train_in_a_process import train_and_save, train_in_minutes, trainer_of

TWO = [torch.device("cpu")] * 2


def curves(path):
    """Return the losses and scores of each epoch."""
    names = ("train_loss", "val_loss", "train_dice", "val_dice")
    return torch.tensor([[row[name] for name in names] for row in json.loads(path.read_text())])


def test_two_processes_train_as_one_does(folder):
    train_and_save(torch.device("cpu"), folder, "one.json")
    (folder / "state").rename(folder / "state of one")
    run_on_devices(train_and_save, TWO, folder, "two.json")
    one, two = curves(folder / "one.json"), curves(folder / "two.json")
    assert len(one) == 3
    torch.testing.assert_close(two, one, atol=1e-3, rtol=0)
    # A state does not know by how many processes it was made.
    together, alone = (trainer_of(folder, batch_norm=False) for _ in range(2))
    alone.state.path = folder / "state of one"
    for trainer in (alone, together):
        trainer._load_state()
        assert trainer.epoch == 3
    expected = alone.network.state_dict()
    for name, values in together.network.state_dict().items():
        torch.testing.assert_close(values, expected[name], atol=1e-2, rtol=1e-2)


def test_two_processes_agree_on_what_is_left_of_a_time(folder):
    run_on_devices(train_in_minutes, TWO, folder, "two.json", 0.05)
    # The mean of all of it and of half of it.
    seconds = sum(row["train_seconds"] + row["val_seconds"] for row in json.loads((folder / "two.json").read_text()))
    assert 0.5 < seconds < 0.9 * 3


def test_a_process_that_dies_ends_the_others(folder):
    with pytest.raises(TrainingError, match=r"process 1 of 2 was ended \(SIGKILL\)"):
        run_on_devices(train_and_save, TWO, folder, "never.json", 3, 1)
    assert not (folder / "never.json").exists()


def test_sigterm_reaches_all_processes(folder):
    def ask_after_an_epoch():
        while not (folder / "state" / "tensorboard").exists():
            time.sleep(0.01)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask_after_an_epoch, daemon=True).start()
    with pytest.raises(TrainingError, match="SIGTERM; the state is saved"):
        run_on_devices(train_and_save, TWO, folder, "never.json", 200)
    again = trainer_of(folder, batch_norm=False)
    again._load_state()
    assert 0 < again.epoch * again.pace.steps + again.step < 200 * again.pace.steps
    assert not (folder / "never.json").exists()


def test_alone_nothing_is_shared():
    assert process_count() == 1
    assert shard([1, 2, 3]) == slice(0, 3)
    values = torch.ones(3)
    assert all_reduce_sum(values) is values
