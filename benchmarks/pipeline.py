"""What a slide costs without its network: a threshold stands for it, all else is what predicts slides.

Draws a JPEG pyramid of 240 million pixels and predicts it at several resolutions, one with sparse tissue on glass, and
one of 100 million with half a million regions. Prints how long reading to the kept answer takes, beside the decoder
alone on the same tiles with as many threads; how long outlines take, beside `rasterio.features.shapes` of the whole map
in memory; and the share of its time that each thread worked. Ways take turns; the least processor time of some rounds
counts. `make bench` runs it.

    PYTHONPATH=scripts python benchmarks/pipeline.py [--threads 2] [--rounds 3] [--width 17888] [--regions 500000]
"""

import argparse
import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import tifffile
import torch
from rasterio import features
from torch import Tensor

from pathseg.images import blocks
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import find_tissue
from pathseg.network.devices import choose_devices
from pathseg.network.unet import UNet
from pathseg.prediction.answers import Answer, AnswerWriter
from pathseg.prediction.bands import Band
from pathseg.prediction.inference import Predictor, predict_bands
from pathseg.prediction.outputs import SlideOutputs
from pathseg_demo.synthesis import draw_field, draw_patient

# µm per pixel of the slides: 40x.
MPP = 0.25
NAMES, COLORS = ["rest", "dark"], ["#999999", "#0072b2"]
# By how much the model's pixels are larger, and the level that is read.
FACTORS = {"equal to a level": (1.0, 0), "between levels": (1.7, 0), "40x to 1 µm": (4.0, 1)}
SETTINGS = {"min_area_um2": 0, "split_um": None, "objects": "annotation"}


class Threshold(Predictor):
    """What costs nothing in place of a network of depth 5: dark is a class, with its border and stride."""

    def __init__(self, dark: int) -> None:
        super().__init__([UNet(depth=5, wf=2).eval()], torch.device("cpu"), torch.float32)
        # Of each brightness.
        is_dark = np.where(np.arange(256) < dark, 0.9, 0.1).astype(np.float32)
        self._tables = 1 - is_dark, is_dark

    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Return 0.9 for the class of a pixel."""
        kept = pixels[self.border : self.border + height, self.border : self.border + width]
        green = cv2.extractChannel(kept, 1)
        shares = torch.empty((len(self._tables), height, width))
        for share, table in zip(shares.numpy(), self._tables, strict=True):
            cv2.LUT(green, table, share)
        return shares


class Cost:
    """Seconds by the clock and of processors of a block, by thread as well."""

    def __init__(self) -> None:
        self.clock = self.processor = 0.0
        self.threads: dict[str, float] = {}

    def __enter__(self) -> "Cost":
        self._started, self._before = time.perf_counter(), time.process_time()
        self._seen: dict[int, tuple[str, float]] = {}
        self._old = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def _look(self) -> None:
        """Write down what each thread has used so far: one that ends takes it along."""
        while True:
            over = self._over.wait(0.1)
            names = {thread.native_id: thread.name for thread in threading.enumerate()}
            for thread in psutil.Process().threads():
                name = names.get(thread.id, self._seen.get(thread.id, ("other", 0))[0]).rstrip("_0123456789")
                used = thread.user_time + thread.system_time - self._old.get(thread.id, 0)
                self._seen[thread.id] = name, used
            if over:
                return

    def __exit__(self, *_: object) -> None:
        self.clock, self.processor = time.perf_counter() - self._started, time.process_time() - self._before
        self._over.set()
        self._watch.join()
        # What is left can be sent to another process.
        del self._watch, self._over
        for name, used in self._seen.values():
            self.threads[name] = self.threads.get(name, 0) + used

    def shares(self) -> str:
        """Return the share of the time that each thread worked."""
        ordered = sorted(self.threads.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {used / self.clock:.0%}" for name, used in ordered if used > 0.02 * self.clock)


def least(costs: list[Cost]) -> Cost:
    """Return the cost of the least processor time."""
    return min(costs, key=lambda cost: cost.processor)


def measured(run: Callable[[], Any]) -> tuple[Cost, Any]:
    """Return what a call costs, and what it returns."""
    with Cost() as cost:
        returned = run()
    return cost, returned


def write_slide(path: Path, picture: np.ndarray, width: int, height: int, tissue: float = 1.0) -> None:
    """Write a JPEG pyramid of levels of 1, 1/4 and 1/16 that repeats a picture; a share is tissue, the rest glass."""
    rows, columns = np.arange(height) % len(picture), np.arange(width) % picture.shape[1]
    whole = picture[np.ix_(rows, columns)]
    if tissue < 1:
        inner = slice(0, round(height * tissue**0.5)), slice(0, round(width * tissue**0.5))
        glass = np.full_like(whole, 243)
        glass[inner] = whole[inner]
        whole = glass
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for factor in (1, 4, 16):
            image = cv2.resize(whole, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
            tiff.write(
                image,
                tile=(256, 256),
                photometric="ycbcr",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=int(factor > 1),
                resolution=(1e4 / MPP / factor,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def decode_level(path: Path, level: int, threads: int) -> None:
    """Decode all tiles of a level, as fast as the library does."""
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level].aspage()
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))

        def decode(index: int) -> None:
            offset, count = places[index]
            page.decode(content[offset : offset + count], index, jpegtables=page.jpegtables)

        with ThreadPoolExecutor(threads, thread_name_prefix="decoder") as pool:
            list(pool.map(decode, range(len(places))))


def answer_paths(folder: Path) -> dict[str, Path]:
    """Return where the benchmark keeps an answer."""
    return {"classes": folder / "classes.tif", "confidence": folder / "confidence.tif", "about": folder / "about.json"}


def keep_answer(view: ResampledSlide, bands: Iterator[Band], folder: Path) -> Answer:
    """Write what is said of a slide as the workflow does, but for the picture."""
    paths, slide = answer_paths(folder), view.slide
    with AnswerWriter(paths, (view.width, view.height), slide.mpp, len(NAMES)) as writer:
        for band in bands:
            writer.add(band)
    about = {"width": slide.width, "height": slide.height, "mpp": slide.mpp, "names": NAMES, "shrink": None}
    about |= {"model_width": view.width, "model_height": view.height, "model_mpp": slide.mpp}
    paths["about"].write_text(json.dumps(about))
    return Answer(paths)


def outline(answer: Answer, path: Path) -> SlideOutputs:
    """Write the outlines of an answer."""
    with SlideOutputs({"annotations": path}, answer.about, COLORS, SETTINGS, "x", [], threads=2) as outputs:
        for rows in answer.rows():
            outputs.add(rows)
    return outputs


def outlined(folder: Path) -> tuple[Cost, int, float]:
    """Return what the outlines of an answer cost, how many they are, and the most memory of this process, in GiB."""
    answer = Answer(answer_paths(folder))
    cost, outputs = measured(lambda: outline(answer, folder / "a.geojson.gz"))
    # Not what getrusage says, which counts what the process had before it became another program.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return cost, int(outputs.regions.sum()), int(peak[1]) / 2**20


def outline_apart(folder: Path) -> tuple[Cost, int, float]:
    """Do that in a process of its own, as the workflow does."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(outlined, folder).result()


def predict(path: Path, folder: Path, factor: float, sparse: bool = False) -> Answer:
    """Predict a slide from file to answer."""
    blocks.CACHE = blocks.BlockCache(blocks.CACHE_BYTES)
    slide = open_slide(path)
    view = ResampledSlide(slide, factor)
    tissue = find_tissue(slide) if sparse else None
    return keep_answer(view, predict_bands(view, Threshold(120), None, tissue), folder)


def shapes_of(classes: np.ndarray) -> int:
    """Follow the outlines of a whole class map in memory, and return their number."""
    return sum(1 for _ in features.shapes(classes, mask=classes > 0, connectivity=4))


def compare_reading(folder: Path, options: argparse.Namespace) -> None:
    """Print how fast slides become answers, beside the decoder."""
    rng = np.random.default_rng(1)
    field, _ = draw_field(draw_patient(rng), 2048, 2048, rng)
    smooth, path = cv2.GaussianBlur(field, (0, 0), 8), folder / "slide.tif"
    write_slide(path, smooth, options.width, options.width * 3 // 4)
    for what, (factor, level) in FACTORS.items():
        rounds = [
            (
                measured(lambda level=level: decode_level(path, level, options.threads))[0],
                *measured(lambda factor=factor: predict(path, folder, factor)),
            )
            for _ in range(options.rounds)
        ]
        decoded, kept = least([each[0] for each in rounds]), least([each[1] for each in rounds])
        print(
            f"{what}: decoder alone {decoded.clock:.2f} s ({decoded.processor:.2f} of processors), to the answer "
            f"{kept.clock:.2f} s ({kept.processor:.2f}): "
            f"{decoded.processor / kept.processor:.0%} of the decoder's rate; {kept.shares()}",
            flush=True,
        )
    write_slide(path, smooth, options.width, options.width * 3 // 4, tissue=0.1)
    kept, answer = measured(lambda: predict(path, folder, 1.0, sparse=True))
    print(f"a tenth is tissue: {kept.clock:.2f} s ({kept.processor:.2f} of processors); {kept.shares()}")
    cost, outputs = measured(lambda: outline(answer, folder / "annotations.geojson.gz"))
    print(f"  its {outputs.regions.sum():,} outlines: {cost.clock:.2f} s ({cost.processor:.2f}); {cost.shares()}")


def compare_outlines(folder: Path, options: argparse.Namespace) -> None:
    """Print how fast many regions become outlines, beside GDAL alone; each count by the same kind of map."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (2048, 2048)).astype(np.float32), (0, 0), 2)
    spots = (noise > np.quantile(noise, 0.8)).astype(np.uint8)
    per_pixel = shapes_of(spots) / spots.size
    slide = folder / "blank.tif"
    for regions in options.regions:
        side = round((regions / per_pixel) ** 0.5)
        classes = spots[np.ix_(*(np.arange(side) % len(spots),) * 2)]
        write_slide(slide, np.full((64, 64, 3), 255, np.uint8), side, side)
        view = ResampledSlide(open_slide(slide), 1.0)
        keep_answer(view, bands_of(classes), folder)
        found = [measured(lambda classes=classes: shapes_of(classes)) for _ in range(options.rounds)]
        made = [outline_apart(folder) for _ in range(options.rounds)]
        gdal, ours = least([cost for cost, _ in found]), least([cost for cost, *_ in made])
        _, count, memory = made[0]
        print(
            f"{count:,} regions: GDAL alone {gdal.clock:.2f} s ({gdal.processor:.2f} of processors), outlines in "
            f"the file {ours.clock:.2f} s ({ours.processor:.2f}): {ours.clock / gdal.clock:.2f} times, "
            f"{1e6 * ours.processor / count:.1f} µs each; {ours.shares()}; "
            f"at most {memory:.2f} GiB",
            flush=True,
        )


def bands_of(classes: np.ndarray) -> Iterator[Band]:
    """Yield a class map as a threshold's prediction."""
    for y in range(0, len(classes), 1024):
        part = classes[y : y + 1024]
        dark = np.where(part > 0, 230, 25).astype(np.uint8)
        yield Band(y, part, np.stack([255 - dark, dark]), np.ones(part.shape, bool))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=17_888)
    parser.add_argument("--regions", type=int, nargs="*", default=[5_000, 500_000])
    options = parser.parse_args()
    choose_devices(0, options.threads)
    with tempfile.TemporaryDirectory() as name:
        compare_reading(Path(name), options)
        compare_outlines(Path(name), options)


if __name__ == "__main__":
    main()
