"""Measure how fast a slide is read: rectangles by OpenSlide, and by the file's own tiles or blocks as pathseg does.

Draws a JPEG pyramid of 243 million pixels, and reads its second level (at a factor that is not whole) in rectangles of
1216 x 1216 that overlap as tiles of a prediction do, by one thread and by two, each way in turn, three times.

    PYTHONPATH=scripts python benchmarks/reading.py
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import openslide
import tifffile

from pathseg.images import blocks
from pathseg.images.scans import open_scan
from pathseg.images.tiff import open_tiff
from pathseg_demo.synthesis import draw_field, draw_patient

WIDTH, HEIGHT = 18_003, 13_501
KEPT, BORDER = 1024, 96
ROUNDS = 3


def write_slide(path: Path) -> None:
    """Write a JPEG pyramid of levels of 1, 1/2 and 1/8."""
    rng = np.random.default_rng(1)
    field, _ = draw_field(draw_patient(rng), 1024, 1024, rng)
    repeats = (-(-HEIGHT // 1024), -(-WIDTH // 1024), 1)
    picture = np.tile(field, repeats)[:HEIGHT, :WIDTH]
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 2, 8):
            image = cv2.resize(picture, (WIDTH // factor, HEIGHT // factor), interpolation=cv2.INTER_AREA)
            options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 85}}
            tiff.write(image, tile=(256, 256), subfiletype=int(factor > 1), metadata=None, **options)


def openslide_reader(path: Path) -> Callable[[int, int, int, int], np.ndarray]:
    """Return what pathseg did before: the rectangle, by its corner in finest pixels."""
    handle = openslide.OpenSlide(path)
    downsample = handle.level_downsamples[1]

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        corner = (int(np.ceil(x * downsample)), int(np.ceil(y * downsample)))
        return np.asarray(handle.read_region(corner, 1, (width, height)))[..., :3].copy()

    return read


def seconds(read: Callable[[int, int, int, int], np.ndarray], width: int, height: int, threads: int) -> tuple:
    """Return wall-clock and processor seconds of reading a level, and its rectangles' pixels."""
    starts = [(x - BORDER, y - BORDER) for y in range(0, height, KEPT) for x in range(0, width, KEPT)]
    corners = [(max(x, 0), max(y, 0)) for x, y in starts]
    side = KEPT + 2 * BORDER
    rectangles = [(x, y, min(side, width - x), min(side, height - y)) for x, y in corners]
    blocks.CACHE = blocks.BlockCache(blocks.CACHE_BYTES)
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        pixels = sum(part.shape[0] * part.shape[1] for part in pool.map(lambda r: read(*r), rectangles))
    return time.perf_counter() - started, time.process_time() - cpu, pixels


def main() -> None:
    """Print seconds, and how many times as fast as OpenSlide."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_slide(path)
        levels = open_tiff(path).levels
        width, height = levels[1].width, levels[1].height
        found: dict[tuple[str, int], list[tuple]] = {}
        for _ in range(ROUNDS):
            for threads in (1, 2):
                ways = {"OpenSlide": openslide_reader(path)}
                for name, opened in (("tiles", open_tiff(path)), ("blocks", open_scan(path))):
                    ways[name] = lambda x, y, w, h, opened=opened: opened.read_level(1, x, y, w, h)
                for name, read in ways.items():
                    found.setdefault((name, threads), []).append(seconds(read, width, height, threads))
    print(f"level of {width} x {height} pixels, best of {ROUNDS}")
    for (name, threads), rounds in found.items():
        wall, cpu = min(r[0] for r in rounds), min(r[1] for r in rounds)
        base = min(r[0] for r in found["OpenSlide", threads]), min(r[1] for r in found["OpenSlide", threads])
        print(
            f"{name:10} {threads} thread(s): {rounds[0][2] / wall / 1e6:6.1f} Mpx/s, {base[0] / wall:.2f} times; "
            f"processor {cpu:.2f} s, {base[1] / cpu:.2f} times"
        )


if __name__ == "__main__":
    main()
