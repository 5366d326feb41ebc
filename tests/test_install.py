"""envs/install.py with a folder of small packages instead of an index: only what a lock names gets in, as a wheel."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from conftest import ROOT

CPU_TORCH = "torch-9.0+cpu-py3-none-any.whl"


def write_wheel(folder, name, version, needs=""):
    """Write a package that consists of its own name, and return its digest."""
    about = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return digest(path)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def place(tmp_path, environment):
    """A copy of the installer beside an environment and a folder `wheels`."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "wheels").mkdir()
    shutil.copy(ROOT / "envs" / "install.py", tmp_path / "envs")
    (tmp_path / "venv").symlink_to(environment)
    return tmp_path


def write_lock(path, **hashes):
    """Write a lock of packages of version 9.0."""
    version = "9.0+cpu" if "cpu" in path.name else "9.0"
    entries = [
        f"{name.replace('_', '-')}=={version} ; python_version > '3' \\\n    --hash=sha256:{sha256}\n    # via me\n"
        for name, sha256 in hashes.items()
    ]
    path.write_text("# A comment.\n" + "".join(entries))


def install(place):
    """Run the installer; return what pip said and which modules are there now."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(place / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    ran = subprocess.run(
        [place / "venv" / "bin" / "python", place / "envs" / "install.py", place / "requirements.txt"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    installed = {path.parent.name.split("-9.0")[0] for path in place.glob("venv/lib/*/site-packages/*-9.0*/WHEEL")}
    assert (ran.returncode == 0) == ("not installed" not in ran.stderr)
    assert "Traceback" not in ran.stderr
    return ran.stderr, installed


def test_a_wheel_of_the_lock_is_installed_and_another_refused(place):
    sha256 = write_wheel(place / "wheels", "small", "9.0")
    write_lock(place / "requirements.txt", small="0" * 64)
    said, installed = install(place)
    assert "DO NOT MATCH THE HASHES" in said
    assert installed == set()
    write_lock(place / "requirements.txt", small=sha256)
    assert install(place) == ("", {"small"})


def test_source_is_not_built_even_if_the_lock_has_its_hash(place):
    setup = place / "setup.py"
    setup.write_text(f"open({str(place / 'was-run')!r}, 'w')\n")
    source = place / "wheels" / "source-9.0.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        archive.add(setup, "source-9.0/setup.py")
    write_lock(place / "requirements.txt", source=digest(source))
    said, installed = install(place)
    assert "No matching distribution found for source" in said
    assert "source" not in installed
    assert not (place / "was-run").exists()


def test_the_build_of_torch_is_pips_choice_and_its_hash_is_checked(place):
    """The CUDA build brings NVIDIA's packages, a CPU build does not, and each must be in a lock."""
    wheels = place / "wheels"
    cuda = write_wheel(wheels, "torch", "9.0", "Requires-Dist: nvidia_x==9.0\n")
    write_lock(place / "requirements.txt", torch=cuda, nvidia_x=write_wheel(wheels, "nvidia_x", "9.0"))
    write_lock(place / "requirements-cpu.txt", torch=write_wheel(place, "torch", "9.0+cpu"))

    write_wheel(wheels, "torch", "9.0+cpu", "Summary: another\n")
    said, before = install(place)
    assert "DO NOT MATCH THE HASHES" in said
    assert "torch" not in before

    shutil.copy(place / CPU_TORCH, wheels)
    assert install(place) == ("", before | {"torch"})

    (wheels / CPU_TORCH).unlink()
    subprocess.run([place / "venv" / "bin" / "python", "-m", "pip", "uninstall", "-qy", "torch"], check=True)
    assert install(place) == ("", before | {"torch", "nvidia_x"})
