"""What many small images cost beside one, and beside a process that predicts them all; a dry run of 10,000 slides.

Usage: python benchmarks/batches.py [--images 40] [--side 640] [--wf 2] [--slides 10000]. `make bench` runs it.

Processor time (of all processes) says more than the clock where others work beside it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torch
from scale import ROOT, copy_workflow

from pathseg.network.unet import UNet
from pathseg_demo.synthesis import draw_field, draw_patient

CLASSES = [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}]
CONFIG = "classes: [{name: stroma, mask_value: 0}, {name: epithelium, mask_value: 255}]\nmodel: m.pt\n"
# What predicts all images in a process of its own, as a person would write it with pathseg's modules.
ALONE = """
import sys
from pathlib import Path
from pathseg.network.devices import choose_devices
from pathseg.prediction.answers import Answer
from pathseg.prediction.outputs import write_outputs
from pathseg.prediction.slides import SlidePredictor
stroma = dict(name="stroma", mask_value=0, color="#999999")
classes = [stroma, dict(name="epithelium", mask_value=255, color="#0072B2")]
settings = dict(tile=None, precision="auto", tissue="auto", tissue_holes_um2=4e6, min_area_um2=0, objects="annotation",
                split_um=None, tta=False, mpp=None, resize=None)
(device,) = choose_devices(0, 2)
predictor = SlidePredictor(["m.pt"], classes, settings, device, {})
answer = dict(classes="classes.tif", confidence="confidence.tif", picture="picture.jpg", about="about.json")
names = dict(classes="classes.tif", annotations="annotations.geojson.gz", overlay="overlay.jpg", summary="summary.json")
for path in sorted(Path("scans").iterdir()):
    row = dict(slide=path.stem, key=path.stem, mpp=None, tissue=None)
    said = {key: f"alone/answers/{path.stem}/{name}" for key, name in answer.items()}
    predictor.predict(str(path), row, said)
    outputs = {key: f"alone/{path.stem}/{name}" for key, name in names.items()}
    said = Answer({key: Path(name) for key, name in said.items()})
    write_outputs(said, path.stem, classes, settings, None, outputs, 1)
"""


class Cost(NamedTuple):
    """Seconds by the clock, and of processors."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:6.1f} s, {self.processor:6.1f} s of processors"


def cost_of(folder: Path, *command: str) -> Cost:
    """Run a Python command in a folder and return what it took."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    started, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return Cost(time.perf_counter() - started, used)


def write_project(folder: Path, images: int, side: int, wf: int) -> None:
    """Write a model, and images of synthetic tissue at its resolution, as many as are wanted."""
    copy_workflow(folder)
    torch.manual_seed(0)
    network = UNet(depth=5, wf=wf)
    content = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0}
    torch.save(content, folder / "m.pt")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "scans").mkdir()
    rng = np.random.default_rng(0)
    picture, _ = draw_field(draw_patient(rng), side, side, rng)
    resolution = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    for number in range(images):
        shifted = np.roll(picture, 13 * number, axis=1)
        name = folder / "scans" / f"{number:05d}.tif"
        tifffile.imwrite(name, shifted, tile=(128, 128), photometric="rgb", metadata=None, **resolution)


def predict(folder: Path, slides: str, *options: str) -> Cost:
    """Have slides predicted by the workflow."""
    run = ("-m", "snakemake", "predict", "--configfile", "config.yaml", "--config", f"slides={slides}")
    return cost_of(folder, *run, *options)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--wf", type=int, default=2)
    parser.add_argument("--slides", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, options.images, options.side, options.wf)
        one = predict(folder, "scans/00000.tif")
        shutil.rmtree(folder / "results")
        many = predict(folder, "scans/*.tif")
        again = predict(folder, "scans/*.tif")
        alone = cost_of(folder, "-c", ALONE)
    print(f"images of {options.side} x {options.side} pixels, wf {options.wf}")
    print(f"  one, by the workflow:          {one}")
    print(f"  {options.images}, by the workflow:           {many}, {many.processor / one.processor:.1f} times one")
    times = many.processor / alone.processor
    print(f"  {options.images}, by one process:            {alone}; the workflow takes {times:.2f} times as much")
    print(f"  nothing to do:                 {again}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, 0, 64, options.wf)
        for number in range(options.slides):
            (folder / "scans" / f"{number:05d}.tif").touch()
        print(f"  dry run of {options.slides} slides:       {predict(folder, 'scans/*.tif', '--dry-run', '--quiet')}")


if __name__ == "__main__":
    main()
