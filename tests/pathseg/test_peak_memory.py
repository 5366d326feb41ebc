"""Memory stays bounded on slides of one level and with many classes: measured in a process for each."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile

from conftest import ROOT

# Where libraries alone take some 400 MiB. The slide's pixels take 768 MiB.
SIDE = 16_384


def peak(job, path):
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "tests")])
    command = [sys.executable, ROOT / "tests" / "peak_memory.py", job, path]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return int(done.stdout) // 1024


@pytest.fixture(scope="module")
def slide_of_one_level(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "one_level.tif"
    rng = np.random.default_rng(0)
    kinds = [zlib.compress(np.full((512, 512, 3), colour, np.uint8), 1) for colour in ((242, 242, 243), (170, 70, 150))]
    tiles = (kinds[index] for index in rng.integers(0, 2, (SIDE // 512) ** 2))
    options = {"photometric": "rgb", "tile": (512, 512), "compression": "zlib", "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, tiles, shape=(SIDE, SIDE, 3), dtype=np.uint8, resolution=(4e4, 4e4), **options)
    return path


@pytest.mark.parametrize(
    "job", ["tissue", *(pytest.param(job, marks=pytest.mark.slow) for job in ("overlay", "viewer"))]
)
def test_a_slide_of_one_level_is_read_in_pieces(slide_of_one_level, job):
    assert peak(job, slide_of_one_level) < 1300


@pytest.mark.slow
def test_a_hundred_classes_fit_into_memory(tmp_path):
    """The rule asks for 8000 MB."""
    assert peak("classes", tmp_path / "probability.tif") < 4000
