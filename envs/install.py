"""Install a lock into the environment of the Python that runs this: python envs/install.py requirements.txt.

The hash of every file is compared with the lock's, and only wheels are taken: no code of a package runs meanwhile.
Of PyTorch pip chooses the build, by version and its own settings: PyPI's (on Linux with CUDA), or a CPU build where an
extra index or a folder of wheels offers one. Its hash must be in a lock too, and NVIDIA's libraries are installed only
for a build that asks for them. docs/install.md says how to take another build.
"""

import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

CPU_LOCK = Path(__file__).parents[1] / "requirements-cpu.txt"
CUDA = re.compile(r"(?:nvidia-.*|cuda-.*|triton)")


def read_lock(path: Path) -> dict[str, str]:
    """Return the entries of a lock by the names of their packages, each with its hashes."""
    entries = re.findall(r"^(?=\w).*\n(?:[ ].*\n)*", path.read_text(), re.MULTILINE)
    return {re.split("[=[ ]", entry, maxsplit=1)[0].lower(): entry for entry in entries}


def pip(*arguments: str | Path) -> None:
    """Run this environment's pip; only wheels are taken."""
    command, *options = arguments
    always = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([sys.executable, "-m", "pip", command, *always, *options], check=True)  # noqa: S603


def install(entries: list[str], *options: str | Path) -> None:
    """Install entries of a lock, which must be complete: no package brings another one along."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write("".join(entries))
        lock.flush()
        pip("install", "--require-hashes", "--requirement", lock.name, *options)


def install_torch(entry: str) -> None:
    """Install the build of PyTorch that pip chooses, if it is the lock's or that of the lock of CPU builds."""
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--dest", folder, entry.split()[0])
        wheel = next(Path(folder).glob("torch-*.whl"))
        if "+cpu" in wheel.name:
            entry = read_lock(CPU_LOCK)["torch"]
        install([entry], "--no-index", "--find-links", folder)


def main(path: Path) -> None:
    """Install a lock."""
    entries = read_lock(path)
    torch = entries.pop("torch", None)
    cuda = [entries.pop(name) for name in list(entries) if CUDA.fullmatch(name)]
    install(list(entries.values()))
    if torch:
        install_torch(torch)
        if any("nvidia" in requirement for requirement in metadata.requires("torch") or []):
            install(cuda)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError:
        sys.exit(f"{sys.argv[1]}: not installed, see pip's message above")
