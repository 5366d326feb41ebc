import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from conftest import ROOT
from pathseg.errors import CheckpointError
from pathseg.isolation import Outcome, each_alone


def starting():
    """Return what says by which process an item was worked on, but for those that end it, or want memory."""

    def do(item):
        if isinstance(item, signal.Signals):
            os.kill(os.getpid(), item)
        if item == "exit":
            os._exit(3)
        return Outcome(str(os.getpid()), item == "memory")

    return do


def test_one_process_does_all():
    before = set(multiprocessing.active_children())
    found = list(each_alone(starting, range(5)))
    assert [item for item, _ in found] == list(range(5))
    assert len({outcome.reason for _, outcome in found} | {str(os.getpid())}) == 2
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("item", "reason", "memory"),
    [
        (signal.SIGKILL, "the process was ended (SIGKILL), most likely for want of memory", True),
        (signal.SIGTERM, "the process was ended (SIGTERM)", False),
        ("exit", "the process was ended (exit code 3)", False),
    ],
)
def test_an_item_for_which_the_process_ends_costs_itself_alone(item, reason, memory):
    found = list(each_alone(starting, [1, item, 2, item, 3]))
    assert [item for item, _ in found] == [1, item, 2, item, 3]
    assert [outcome for _, outcome in found[1::2]] == [Outcome(reason, memory)] * 2
    processes = [outcome.reason for _, outcome in found[::2]]
    assert len(set(processes)) == 3


def test_after_want_of_memory_there_is_another_process():
    (_, first), (_, second) = each_alone(starting, ["memory", "more"])
    assert first.memory
    assert first.reason != second.reason


def test_what_cannot_start_says_why():
    def start():
        raise CheckpointError("m.pt: is no model")

    with pytest.raises(CheckpointError, match="is no model"):
        list(each_alone(start, [1]))
    assert list(each_alone(start, [])) == []


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """Also in the middle of an item, and though that one was killed."""
    code = f"""if True:
        import os, time
        from pathlib import Path
        from pathseg.isolation import each_alone
        def start():
            def do(item):
                Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
                time.sleep(60)
            return do
        list(each_alone(start, [1]))
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    worker = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    worker.wait(timeout=10)
