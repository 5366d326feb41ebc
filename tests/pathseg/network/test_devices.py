import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

from pathseg.errors import ResourceError
from pathseg.network import devices
from pathseg.network.devices import choose_devices, take_free

sys.path.append(str(Path(__file__).parent))
from take_in_a_process import GPUS, take_and_tell, take_as_user


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


def take_as(user, folder, mask=0o022):
    """Take a device as another user; return the answer, and what ends the process that holds it."""
    # A process of the same kind as this: another user may not be able to start this Python.
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=take_as_user, args=(user, mask, folder, theirs))
    process.start()
    assert mine.poll(60)
    answer = mine.recv()

    def end():
        mine.send("end")
        process.join()

    return answer, end


@pytest.fixture
def shared():
    """A folder in which all users may make files, and remove their own alone, as /tmp is."""
    if os.getuid():
        pytest.skip("several users can be had by root alone")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_users_of_one_machine_share_its_gpus(shared, mask):
    """Each takes another one, whoever made the files."""
    taken, ends = zip(*(take_as(user, shared / "gpus", mask) for user in (12001, 12002, 12003)), strict=True)
    assert sorted(taken) == [[0], [1], [2]]
    for end in ends:
        end()
    assert take_as(12002, shared / "gpus", mask)[0] == [0]


def test_another_users_file_that_may_not_be_opened_is_named(shared):
    (shared / "gpus").mkdir()
    (shared / "gpus" / "0.lock").touch(mode=0o600)
    (shared / "gpus").chmod(0o1777)
    answer, _ = take_as(12001, shared / "gpus")
    assert "0.lock: the lock of a GPU: you may not open it; ask the user" in answer


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "0.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ResourceError, match=r"0\.lock.*is a link"):
        take_free(GPUS, 1, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ResourceError, match="link: is not a folder"):
        take_free(GPUS, 1, tmp_path / "link")


def test_an_only_gpu_is_locked_too(tmp_path, monkeypatch):
    """A limit on the command line that does not name `gpu` lets several jobs start; they take turns."""
    monkeypatch.setattr(devices, "SHARED_FOLDER", tmp_path)
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_LOOKS", 0.05)
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=GPUS[number]))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    process, answers, done = start(tmp_path / "pathseg-gpus", 1)
    assert answers.get(timeout=60) == [0]
    waiting = threading.Thread(target=lambda: chosen.append(choose_devices(1, 1)), daemon=True)
    waiting.start()
    waiting.join(timeout=0.5)
    assert not chosen
    done.set()
    process.join()
    waiting.join(timeout=60)
    assert chosen == [torch.device("cuda:0"), [torch.device("cuda:0")]]


def test_apples_gpu_is_taken_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_devices(1, 1) == [torch.device("mps")]
    assert "untried" in caplog.text
    assert choose_devices(0, 1) == [torch.device("cpu")]


def test_opencv_takes_no_more_threads_than_are_granted():
    before = cv2.getNumThreads()
    choose_devices(0, 1)
    assert cv2.getNumThreads() == 1
    cv2.setNumThreads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_cpu_is_used():
    assert choose_devices(2, 1) == [torch.device("cpu")]
