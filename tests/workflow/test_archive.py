"""The tutorial's own data, from a local server with an archive of the same layout."""

import functools
import hashlib
import http.server
import tarfile
import threading

import numpy as np
import pytest
import tifffile
import yaml

from conftest import ROOT, write_image
from pathseg_demo.synthesis import draw_field, draw_patient
from workflow_conftest import copy_workflow

NAMES = ["12947_00004", "12947_00005", "10260_00022", "8918_00003", "8918_00004", "9001_1"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive, and the address at which a server gives it."""
    folder, served = tmp_path_factory.mktemp("epi"), tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(0)
    for name in NAMES:
        image, epithelium = draw_field(draw_patient(rng), 140, 150, rng)
        tifffile.imwrite(folder / f"{name}.tif", image, compression="packbits")
        write_image(folder / "masks" / f"{name}_mask.png", epithelium.astype(np.uint8) * 255)
    with tarfile.open(served / "epi.tgz", "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served / "epi.tgz", f"http://127.0.0.1:{server.server_port}/epi.tgz"
    server.shutdown()


def workflow_for(folder, url, sha256):
    """Return the workflow with config/epistroma.yaml, but for address and digest, and a smaller network."""
    workflow = copy_workflow(folder)
    workflow.configuration_file = "epistroma.yaml"
    config = yaml.safe_load((ROOT / "config" / "epistroma.yaml").read_text())
    config["archive"] = {"url": url, "sha256": sha256}
    config |= {"unet": {"depth": 2, "wf": 2}, "training": {"epochs": 1}, "split": {"folds": 2}}
    (folder / "epistroma.yaml").write_text(yaml.safe_dump(config))
    return workflow


@pytest.mark.slow
def test_the_first_run_fetches_and_the_second_trains(archive, tmp_path):
    path, url = archive
    workflow = workflow_for(tmp_path, url, hashlib.sha256(path.read_bytes()).hexdigest())
    options = ("--configfile", "epistroma.yaml")
    printed = workflow.snakemake(*options)
    assert "6 images of 4 patients are there; run Snakemake again" in printed
    table = (tmp_path / "results/epistroma/samples.tsv").read_text().splitlines()
    assert table[0] == "sample\tpatient\timage\tmask"
    folder = f"epi-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    assert f"12947_00004\t12947\t{folder}/12947_00004.tif\t{folder}/masks/12947_00004_mask.png" in table
    printed = workflow.snakemake("databases", *options)
    assert f"snakemake --report results/report.html --configfile {tmp_path}/epistroma.yaml" in printed
    assert {row["patient"] for part in ("fold1", "fold2") for row in workflow.rows_of_part(part)} == {
        "12947",
        "10260",
        "8918",
        "9001",
    }
    assert workflow.planned(*options)["train_unet"] == 2


def test_a_wrong_checksum(archive, tmp_path):
    workflow = workflow_for(tmp_path, archive[1], "0" * 64)
    printed = workflow.snakemake("--configfile", "epistroma.yaml", check=False)
    assert f"and not {'0' * 64}: the download is incomplete, or the file is another" in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "results/epistroma").glob("*"))


def test_nothing_that_is_there_is_deleted(archive, tmp_path):
    """Snakemake empties the folders that a job is to make, before it knows whether the job will succeed."""
    path, url = archive
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    workflow = workflow_for(tmp_path, url, sha256)
    theirs = [tmp_path / "results/epistroma" / name for name in ("images/mine.png", f"epi-{sha256[:8]}/masks/mine.png")]
    for file in theirs:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    printed = workflow.snakemake("--configfile", "epistroma.yaml", check=False)
    assert f"results/epistroma/epi-{sha256[:8]} is there and results/epistroma/samples.tsv is not" in printed
    assert "Traceback" not in printed
    theirs.pop().rename(tmp_path / "mended.png")
    (tmp_path / "results/epistroma" / f"epi-{sha256[:8]}" / "masks").rmdir()
    (tmp_path / "results/epistroma" / f"epi-{sha256[:8]}").rmdir()
    config = yaml.safe_load((tmp_path / "epistroma.yaml").read_text())
    config["archive"]["sha256"] = "0" * 64
    (tmp_path / "epistroma.yaml").write_text(yaml.safe_dump(config))
    assert "the download is incomplete" in workflow.snakemake("--configfile", "epistroma.yaml", check=False)
    assert [file.read_text() for file in theirs] == ["mine"]
