"""What a job leaves behind in its log, in processes of their own, as Snakemake starts them."""

import os
import signal
import subprocess
import sys

import pytest

from conftest import ROOT

JOB = """
import os, signal, sys
from pathseg.errors import PathsegError
from pathseg.logs import start_log
log = start_log("job.log")
log.info("attempt %s", sys.argv[1])
if sys.argv[2] == "raises":
    raise PathsegError("it cannot be")
if sys.argv[2] == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def attempt(folder, number, how):
    """Run a job as Snakemake does: its log is removed first."""
    (folder / "job.log").unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.run([sys.executable, "-c", JOB, str(number), how], cwd=folder, env=environment, check=False)


@pytest.mark.parametrize(("how", "code"), [("raises", 1), ("is killed", -signal.SIGKILL)])
def test_the_log_of_a_failed_attempt_is_kept(tmp_path, how, code):
    for number in (1, 2):
        assert attempt(tmp_path, number, how).returncode == code
    assert attempt(tmp_path, 3, "ends").returncode == 0
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(kept) == ["job.failed-1.log", "job.failed-2.log", "job.log"]
    assert "attempt 1" in kept["job.failed-1.log"]
    assert "attempt 2" in kept["job.failed-2.log"]
    assert ("it cannot be" in kept["job.failed-1.log"]) == (how == "raises")
    assert "attempt 3" in kept["job.log"]


def test_a_job_that_ends_well_leaves_one_log(tmp_path):
    for number in (1, 2):
        attempt(tmp_path, number, "ends")
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]
