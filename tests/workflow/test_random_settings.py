"""What the schema lets through, the jobs can use: some random configurations of benchmarks/random_settings.py."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("seed", "runs"), [(103, 1), pytest.param(1, 6, marks=pytest.mark.slow)])
def test_random_settings_run_to_the_end(seed, runs):
    done = subprocess.run(
        [sys.executable, "benchmarks/random_settings.py", "--seed", str(seed), "--runs", str(runs)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "scripts"},
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\n") == runs + 1
