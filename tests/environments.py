"""Python environments of a test's own, for packages that cannot live beside pathseg's."""

import atexit
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# Where environments are kept for the tests of one run, by what is installed in them.
MADE = {}


def environment(*requirements):
    """Make an environment with these packages, and return what runs its Python and gives back what it prints.

    The test is skipped where no packages can be had.
    """
    if requirements not in MADE:
        folder = Path(tempfile.mkdtemp(prefix="pathseg-environment-"))
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder)
            pytest.skip(f"{', '.join(requirements)} cannot be installed: {done.stderr.strip()[-300:]}")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        MADE[requirements] = folder

    def run(*arguments):
        done = subprocess.run(
            [MADE[requirements] / "bin/python", *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
