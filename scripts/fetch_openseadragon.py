"""Fetch OpenSeadragon, which draws the slide viewer, by npm, in the version and with the digest of the lock file.

Outputs
-------
library : folder
    `openseadragon.min.js`, its pictures of buttons, and its licence.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from pathseg.errors import ResourceError
from pathseg.files import atomic_path
from pathseg.logs import start_log

LOCK = Path(__file__).parent / "viewer"


def fetch(folder: Path) -> None:
    """Install the package into a folder. npm checks its digest; no script of it is run.

    Raises
    ------
    ResourceError
        If there is no npm, or it fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ResourceError(
            "the slide viewer needs npm once, to fetch OpenSeadragon: install Node.js, or run with --sdm conda"
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCK / name, folder)
    done = subprocess.run(  # noqa: S603
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        check=False,
        text=True,
        capture_output=True,
    )
    if done.returncode:
        raise ResourceError(f"npm cannot fetch OpenSeadragon; is the network there? It says: {done.stderr.strip()}")


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    with tempfile.TemporaryDirectory() as name, atomic_path(snakemake.output.library) as temporary:
        fetch(Path(name))
        package = Path(name) / "node_modules" / "openseadragon"
        shutil.copytree(
            package / "build" / "openseadragon", temporary, ignore=shutil.ignore_patterns("*.map", "openseadragon.js")
        )
        shutil.copy(package / "LICENSE.txt", temporary)
    log.info("%s: fetched", snakemake.output.library)
