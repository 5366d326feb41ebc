"""Files that storage plugins fetch, and results that they keep: on another file system (fs), and in a bucket (s3).

The bucket is that of a server of moto's own, which speaks as Amazon's does.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time

import boto3
import pytest
import tifffile
from dicom_files import write_dicom

from workflow_conftest import Workflow, copy_workflow, job_of, write_project

MODEL = "results/models/default/holdout"


def kept_in(folder):
    """Return the options with which results are kept in a folder by the fs plugin, which copies by rsync."""
    return ("--default-storage-provider", "fs", "--default-storage-prefix", str(folder))


def files_under(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_plan_is_the_same_wherever_results_are_kept(tmp_path):
    workflow = write_project(copy_workflow(tmp_path))
    workflow.configure(prediction={"probability": True, "uncertainty": True})
    planned = workflow.planned("all", "view", "export", *kept_in(tmp_path / "kept"))
    here = workflow.planned("all", "view", "export")
    # What a plugin keeps is fetched for each slide by itself.
    assert [here.pop(rule) for rule in ("list_batch", "predict_batch", "outline_batch")] == [2, 1, 1]
    assert planned.pop("predict_slide") == 2
    assert planned == here
    assert planned["outline_slide"] == 2


@pytest.mark.skipif(not shutil.which("sbatch"), reason="Slurm is not installed")
def test_jobs_elsewhere_without_the_working_folder_are_refused(tmp_path):
    """They would lack the modules and the tables. Nothing is submitted, so that no Slurm need run."""
    workflow = write_project(copy_workflow(tmp_path))
    slurm = ("--executor", "slurm", "--jobs", "1", "--slurm-no-account", "--shared-fs-usage", "none")
    printed = workflow.snakemake(*slurm, *kept_in(tmp_path / "kept"), check=False)
    assert "the working folder must be on a file system that all nodes share" in printed
    assert not (tmp_path / "kept").exists()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A project of which all results are kept in another folder, with the options that do it."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    folder = tmp_path_factory.mktemp("kept")
    workflow = write_project(copy_workflow(folder / "project"))
    # Nothing is shared but what docs/elsewhere.md says.
    usage = ("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache")
    workflow.options = (*kept_in(folder / "store"), *usage)
    workflow.store = folder / "store"
    workflow.snakemake(*workflow.options)
    return workflow


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_results_are_in_the_other_folder(kept):
    made = files_under(kept.store / "results")
    for name in ("best.pt", "history.tsv", "model_card.md", "preview.png", "kernels.png"):
        assert f"models/default/holdout/{name}" in made
    assert {f"slides/default/slide {n}/{name}" for n in (0, 1) for name in ("classes.tif", "overlay.jpg")} <= made
    assert any(name.startswith("models/default/holdout/tensorboard/events") for name in made)
    assert any(name.startswith("validation/default/holdout/panels/") for name in made)
    assert "logs/train_unet/default.holdout.log" in made
    times = (kept.store / "results/run/times.tsv").read_text()
    assert "train_unet\t1" in times
    assert "predict_slide\t2" in times
    # What is not an output stays in the working folder.
    assert files_under(kept.folder / "results") == {"cohort/parts.json"}
    assert kept.planned(*kept.options) == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_training_goes_on_though_its_local_copies_are_gone(kept, tmp_path):
    """As on a cluster whose nodes have disks of their own."""
    shutil.copytree(kept.folder, tmp_path / "project")
    workflow = Workflow(tmp_path / "project")
    workflow.configure(training={"epochs": 8})
    command = (f"{MODEL}/trained.pt", *kept.options)
    state = workflow.folder / MODEL / ".state"

    def stop():
        while not (state / "tensorboard").exists():
            time.sleep(0.001)
        job_of(workflow, "train_unet").terminate()

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    printed = workflow.snakemake(*command, "--local-storage-prefix", "node1", check=False)
    stopper.join()
    assert "stopped by SIGTERM; the state is saved" in printed
    assert (state / "state.pt").is_file()
    shutil.rmtree(workflow.folder / "node1")
    assert "goes on from" in workflow.snakemake(*command, "--local-storage-prefix", "node2")
    assert not state.exists()


@pytest.fixture(scope="module")
def s3():
    """A client of a server with an empty bucket, and the environment in which Snakemake finds it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {
        "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        # Nobody is asked who has no keys.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    client.environment = environment
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.1)
    client.create_bucket(Bucket="hospital")
    yield client
    server.terminate()
    server.wait()


def upload(client, folder):
    """Put all files of a folder into the bucket."""
    for name in files_under(folder):
        client.upload_file(str(folder / name), "hospital", name)


def renewed(client, name):
    """Write an object of the bucket anew, so that it is younger than before."""
    time.sleep(1.1)  # the server counts in seconds
    client.copy_object(
        Bucket="hospital",
        Key=name,
        CopySource={"Bucket": "hospital", "Key": name},
        Metadata={"again": "1"},
        MetadataDirective="REPLACE",
    )


def project_of_bucket(folder, client):
    """Return a project of which only the tables are here; one slide is a DICOM series of three levels and a label."""
    workflow = write_project(copy_workflow(folder))
    workflow.environment = client.environment
    data = folder / "data"
    picture = tifffile.imread(data / "slide 1.tif")
    (data / "scans").mkdir()
    write_dicom(data / "scans/series", [picture[:: 2**n, :: 2**n] for n in range(3)], "jpeg", 128, 0.5)
    (data / "slide 0.tif").rename(data / "scans/slide 0.tif")
    samples = (data / "samples.tsv").read_text()
    for name in ("samples.tsv", "slides.tsv", "slide 1.tif"):
        (data / name).unlink()
    upload(client, data)
    shutil.rmtree(data)
    data.mkdir()
    for name in ("images", "masks"):
        samples = samples.replace(f"{name}/", f"s3://hospital/{name}/")
    (data / "samples.tsv").write_text(samples)
    (data / "slides.tsv").write_text("slide\nslide 0.tif\ns3://hospital/scans/series/label.dcm\n")
    workflow.configure(slide_folder="s3://hospital/scans")
    return workflow


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, s3):
    """A project that has run to the end on files of a bucket."""
    workflow = project_of_bucket(tmp_path_factory.mktemp("fetched"), s3)
    workflow.snakemake()
    return workflow


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_is_made_of_files_in_a_bucket(fetched):
    slides = fetched.folder / "results/slides/default"
    summaries = {name: json.loads((slides / name / "summary.json").read_text()) for name in ("slide 0", "series")}
    assert summaries["slide 0"]["file"] == "s3://hospital/scans/slide 0.tif"
    assert summaries["series"]["file"] == "s3://hospital/scans/series/label.dcm"
    # All levels were there, not only the file that the table names.
    assert [summaries["series"][key] for key in ("reader", "width", "height")] == ["OpenSlide (dicom)", 500, 400]
    assert (fetched.folder / "results/validation/default/holdout/metrics.tsv").is_file()
    # What was fetched is not kept.
    assert files_under(fetched.folder / ".snakemake/storage") == set()
    assert fetched.planned() == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_changed_in_the_bucket_is_done_again_alone(fetched, s3):
    renewed(s3, "scans/series/DCM_2.dcm")
    assert fetched.planned() == {"predict_slide": 1, "outline_slide": 1, "summarize_slides": 1, "summarize_run": 1}
    image = fetched.rows_of_part("val")[0]["image"].rpartition("hospital/")[2]
    renewed(s3, image)
    planned = fetched.planned(f"{MODEL}/trained.pt", "results/databases/train.h5")
    assert planned == {"build_database": 1, "train_unet": 1}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_results_are_kept_in_a_bucket(fetched, s3, tmp_path):
    workflow = copy_workflow(tmp_path)
    workflow.environment = s3.environment
    for name in ("config/config.yaml", "data"):
        source = fetched.folder / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    options = (
        "train",
        "predict",
        "--default-storage-provider",
        "s3",
        "--default-storage-prefix",
        "s3://hospital/runs/1",
    )
    workflow.snakemake(*options)
    made = {item["Key"] for item in s3.list_objects_v2(Bucket="hospital", Prefix="runs/1/results/")["Contents"]}
    for name in (f"{MODEL}/best.pt", "results/slides/default/summary.tsv", "results/slides/default/series/classes.tif"):
        assert f"runs/1/{name}" in made
    assert any(name.startswith(f"runs/1/{MODEL}/tensorboard/events") for name in made)
    assert files_under(tmp_path / "results") == {"cohort/parts.json"}
    assert workflow.planned(*options) == {}


def few_slides(folder, client, *slides):
    """Return a project that only has slides to predict, with a model that need not be read."""
    workflow = copy_workflow(folder)
    workflow.environment = dict(client.environment)
    (folder / "m.pt").touch()
    listed = "slides=[" + ", ".join(f"'{slide}'" for slide in slides) + "]"
    return workflow, ("predict", "--config", "model=m.pt", listed)


@pytest.mark.slow
def test_files_beside_a_slide_are_fetched_with_it(s3, tmp_path):
    """MIRAX has a folder, VMS names its files; they are there when the job runs, and what is not theirs is not."""
    for name in ("a.mrxs", "a/Slidedat.ini", "a/x/1.dat", "b/v.jpg", "b/w.jpg"):
        s3.put_object(Bucket="hospital", Key=f"formats/{name}", Body=b"x")
    s3.put_object(Bucket="hospital", Key="formats/b/v.vms", Body=b"[x]\nImageFile=v.jpg\nMacroImage=none.jpg\n")
    slides = [f"s3://hospital/formats/{name}" for name in ("a.mrxs", "b/v.vms")]
    workflow, command = few_slides(tmp_path, s3, *slides)
    # The model is none, so that the jobs fail when all has been fetched.
    workflow.snakemake(*command, "--keep-storage-local-copies", check=False)
    there = files_under(tmp_path / ".snakemake/storage/s3/hospital/formats")
    assert there == {"a.mrxs", "a/Slidedat.ini", "a/x/1.dat", "b/v.vms", "b/v.jpg"}


def test_what_is_wrong_with_a_bucket_is_said_in_a_sentence(s3, tmp_path):
    s3.put_object(Bucket="hospital", Key="there.tif", Body=b"x")
    slides = ["s3://hospital/there.tif", "s3://hospital/gone.tif", "s3://nowhere/x.tif"]
    for slide, sentence in [
        (slides[1], "files are missing:\n  gone: path s3://hospital/gone.tif does not exist"),
        (slides[2], "s3://nowhere/x.tif: cannot be looked up: An error occurred (NoSuchBucket)"),
        ("gs://hospital/x.tif", "gs://hospital/x.tif: no storage plugin that is installed here fetches it"),
    ]:
        workflow, command = few_slides(tmp_path / str(len(sentence)), s3, slides[0], slide)
        printed = workflow.snakemake(*command, "--dry-run", check=False)
        assert sentence in printed
        assert "Traceback" not in printed
    del workflow.environment["AWS_ACCESS_KEY_ID"]
    printed = workflow.snakemake(*command[:-1], f"slides={slides[0]}", "--dry-run", check=False)
    assert f"{slides[0]}: cannot be looked up: Unable to locate credentials" in printed
