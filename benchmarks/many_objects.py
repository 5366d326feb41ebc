"""What telling objects apart costs on slides of many: from the kept answer to outlines, table and summary.

Touching blobs, about one on 60 x 60 pixels of tissue, on slides of more and more of them. Prints processor time for
each object, beside that of regions alone on the same slide, and the highest memory; each in a process of its own. A
million objects are a slide of 60,000 x 60,000 pixels and take half an hour.

    PYTHONPATH=scripts python benchmarks/many_objects.py [--objects 10000 100000 1000000]
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pathseg.labels.pieces import number_pieces
from pathseg.prediction.answers import Answer, AnswerWriter
from pathseg.prediction.bands import Band
from pathseg.prediction.outputs import SlideOutputs

# A blob has so many pixels a side of slide.
SPACING, MPP, SHRINK = 60, 0.25, 3
NAMES, COLORS = ["rest", "nucleus"], ["#999999", "#0072b2"]
SETTINGS = {"min_area_um2": 0, "split_um": None, "objects": "detection"}


def pattern() -> tuple[np.ndarray, np.ndarray]:
    """Return a class map and what is surely inside, uint8 [2040, 2040]: discs, each third of which touches another."""
    rng = np.random.default_rng(1)
    classes, insides = np.zeros((2040, 2040), np.uint8), np.zeros((2040, 2040), np.uint8)
    for y in range(SPACING // 2, 2040, SPACING):
        for x in range(SPACING // 2, 2040, SPACING):
            at = (int(x + rng.integers(-8, 9)), int(y + rng.integers(-8, 9)))
            radius = int(rng.integers(16, 26))
            cv2.circle(classes, at, radius, 1, -1)
            cv2.circle(insides, at, radius - SHRINK, 255, -1)
    return classes, insides


def bands_of(side: int) -> Iterator[Band]:
    """Yield the prediction of a slide that repeats the pattern."""
    classes, insides = pattern()
    columns = np.arange(side) % classes.shape[1]
    for y in range(0, side, 1024):
        rows = np.arange(y, min(y + 1024, side)) % len(classes)
        part = classes[np.ix_(rows, columns)]
        high = np.where(part > 0, 230, 25).astype(np.uint8)
        tissue = np.ones(part.shape, bool)
        yield Band(y, part, np.stack([255 - high, high]), tissue, insides[np.ix_(rows, columns)])


def keep_answer(folder: Path, side: int) -> None:
    """Write the answer of a slide of so many pixels a side."""
    paths = {name: folder / name for name in ("classes", "confidence", "insides")}
    with AnswerWriter(paths, (side, side), MPP, len(NAMES)) as writer:
        for band in bands_of(side):
            writer.add(band)
    about = {"width": side, "height": side, "mpp": MPP, "names": NAMES, "shrink": SHRINK, "slide": "many"}
    about |= {"model_width": side, "model_height": side, "model_mpp": MPP}
    (folder / "about").write_text(json.dumps(about))


def outline(folder: Path, told_apart: bool, results: "multiprocessing.Queue[tuple[int, float, float]]") -> None:
    """Make the outputs of an answer, and put their number, seconds of processors and the highest memory in GiB."""
    answer = Answer({name: folder / name for name in ("classes", "confidence", "insides", "about")})
    paths = {name: folder / f"{name}.gz" for name in ("annotations", *(["objects"] if told_apart else []))}
    started = time.process_time()
    pieces = number_pieces(answer.tissue()) if told_apart else None
    with SlideOutputs(paths, answer.about, COLORS, SETTINGS, "x", [1] if told_apart else [], pieces, 1) as outputs:
        for rows in answer.rows():
            outputs.add(rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.put((int(outputs.regions[1]), time.process_time() - started, memory))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    context = multiprocessing.get_context("spawn")
    for objects in parser.parse_args().objects:
        side = round(SPACING * objects**0.5)
        with tempfile.TemporaryDirectory() as name:
            keep_answer(Path(name), side)
            for told_apart in (False, True):
                results = context.Queue()
                process = context.Process(target=outline, args=(Path(name), told_apart, results))
                process.start()
                count, seconds, memory = results.get()
                process.join()
                what = "objects" if told_apart else "regions"
                print(
                    f"{side:,} x {side:,} pixels, {count:,} {what}: {seconds:.1f} s of "
                    f"processors, {1e6 * seconds / objects:.0f} µs a blob, {memory:.2f} GiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
