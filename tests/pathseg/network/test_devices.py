import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

from pathseg.network import devices
from pathseg.network.devices import choose_devices, take_free

sys.path.append(str(Path(__file__).parent))
from take_in_a_process import GPUS, take_and_tell


def start(folder, count):
    """Start a process that takes devices; return it, its answers and what ends it."""
    context = multiprocessing.get_context("spawn")
    answers, done = context.Queue(), context.Event()
    process = context.Process(target=take_and_tell, args=(folder, count, answers, done))
    process.start()
    return process, answers, done


def test_jobs_of_one_machine_get_different_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_LOOKS", 0.05)
    first, first_answers, _ = start(tmp_path, 1)
    second, second_answers, second_done = start(tmp_path, 1)
    one, two = first_answers.get(timeout=60), second_answers.get(timeout=60)
    assert sorted(one + two) == [0, 1]
    # Two more are not free; a job that ends, or is killed, gives its own back.
    first.kill()
    assert set(take_free(GPUS, 2, tmp_path)) == {2, *one}
    second_done.set()
    second.join()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_cpu_is_used():
    assert choose_devices(2, 1) == [torch.device("cpu")]
