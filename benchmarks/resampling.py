"""How fast 4 megapixels are brought to a coarser resolution: the mean of areas in several ways, and ways that are none.

Usage: python benchmarks/resampling.py [--rounds 7]. `make bench` runs it. It counts processor time, of which other
users of the machine take little, and the ways take turns, so that ratios are fair.
"""

import argparse
import time

import cv2
import numpy as np

from pathseg.images.resampling import Axis, ResampledSlide
from pathseg.images.slides import Level, Slide

SIDE = 2048
FACTORS = (1.02, 1.984, 2, 3.968, 8.1)


def pathseg(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Sparse matrices of whole numbers: exact, wherever the rectangle starts."""
    slide = Slide("memory", [Level(SIDE, SIDE, 1.0)], None, lambda _, x, y, w, h: pixels[y : y + h, x : x + w], "array")
    view = ResampledSlide(slide, factor)
    return view.read(0, 0, view.width, view.height)


def inter_area(pixels: np.ndarray, factor: float) -> np.ndarray:
    """OpenCV's mean of areas: exact for whole pictures, but a part cannot start at a fraction of a pixel."""
    side = round(SIDE / factor)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def row_by_row(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Weigh the same with NumPy, one source pixel of each span at a time."""
    axis = Axis(SIDE, round(SIDE / factor))
    first, sums = axis.shares(0, axis.result)
    parts = np.diff(np.rint(sums * 2**11), axis=1).astype(np.int32)
    for _ in range(2):
        total = np.zeros((axis.result, *pixels.shape[1:]), np.int32)
        for tap in range(parts.shape[1]):
            total += pixels[np.minimum(first + tap, SIDE - 1)] * parts[:, tap, None, None]
        pixels = cv2.transpose(total)
    return ((pixels + 2**21) >> 22).astype(np.uint8)


def integral(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Differences of an integral image, interpolated at the corners of the areas."""
    side = round(SIDE / factor)
    sums = cv2.integral(pixels, sdepth=cv2.CV_64F)
    edges = np.arange(side + 1) * SIDE / side
    before = np.minimum(edges.astype(int), SIDE - 1)
    rest = (edges - before)[:, None, None]
    for _ in range(2):
        rows = sums[before]
        sums = np.swapaxes(np.diff(rows + (sums[before + 1] - rows) * rest, axis=0), 0, 1)
    return (sums * (side / SIDE) ** 2 + 0.5).astype(np.uint8)


def blocks_and_bilinear(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Whole blocks, and between these bilinear: no mean of areas, it lets through up to twice the noise."""
    block, side = int(factor), round(SIDE / factor)
    if block > 1:
        size = SIDE // block
        pixels = cv2.resize(pixels[: size * block, : size * block], (size, size), interpolation=cv2.INTER_AREA)
    at = ((np.arange(side) + 0.5) * SIDE / side / block - 0.5).astype(np.float32)
    return cv2.remap(pixels, *np.meshgrid(at, at), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


WAYS = {
    "pathseg": pathseg,
    "OpenCV's INTER_AREA": inter_area,
    "NumPy, row by row": row_by_row,
    "integral image": integral,
    "blocks, then bilinear": blocks_and_bilinear,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    print(f"{'ms for 4 Mpx, factor':24}" + "".join(f"{factor:>9}" for factor in FACTORS))
    best = {name: dict.fromkeys(FACTORS, np.inf) for name in WAYS}
    for _ in range(rounds):
        for factor in FACTORS:
            for name, way in WAYS.items():
                started = time.process_time()
                way(pixels, factor)
                best[name][factor] = min(best[name][factor], time.process_time() - started)
    for name, times in best.items():
        print(f"{name:24}" + "".join(f"{1000 * seconds:9.1f}" for seconds in times.values()))
