"""Memory and time of a large slide beside a small one: 60,000 and 6,000 pixels a side, sparse tissue on glass.

Usage: python benchmarks/large_slide.py [--side 60000] [--wf 2] [--threads 2] [--keep FOLDER]. `make bench` runs it.

Each slide is predicted in a process of its own, as a job of the workflow would be, with class map and outlines. The
slides are made of repeats of one piece of synthetic tissue of 2,048 pixels; in both, a tenth is tissue.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from pipeline import keep_answer, outline
from prediction import train

from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import find_tissue
from pathseg.network.devices import choose_devices
from pathseg.network.precision import prediction_type
from pathseg.network.unet import UNet
from pathseg.prediction.inference import Predictor, predict_bands
from pathseg_demo.synthesis import draw_field, draw_patient

TILE = 512
PIECE = 2048
TISSUE_SHARE = 0.1
GLASS = 243


def draw_piece() -> tuple[np.ndarray, np.ndarray]:
    """Return a piece of tissue, uint8 [2048, 2048, 3], and its epithelium."""
    rng = np.random.default_rng(1)
    return draw_field(draw_patient(rng), PIECE, PIECE, rng)


def write_slide(path: Path, side: int, piece: np.ndarray) -> None:
    """Write a square slide with glass, and tissue in the middle of its pieces, as a JPEG pyramid."""
    inner = round(side * TISSUE_SHARE**0.5)
    low, high = (side - inner) // 2, (side + inner) // 2
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        step = 1
        while side // step > 2 * TILE or step == 1:
            small = cv2.resize(piece, (PIECE // step,) * 2, interpolation=cv2.INTER_AREA) if step > 1 else piece
            size = -(-side // step)
            tiff.write(
                slide_tiles(small, size, low // step, high // step),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                compression="jpeg",
                subfiletype=int(step > 1),
                resolution=(2e4 / step, 2e4 / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            step *= 4


def slide_tiles(piece: np.ndarray, size: int, low: int, high: int) -> Iterator[bytes]:
    """Yield compressed tiles of a level: repeats of `piece` from `low` to `high`, glass elsewhere."""

    @cache
    def encoded(y: int, x: int, rows: tuple[int, int], columns: tuple[int, int]) -> bytes:
        tile, inside = np.full((TILE, TILE, 3), GLASS, np.uint8), np.s_[slice(*rows), slice(*columns)]
        repeats = (np.arange(start, start + TILE) % len(piece) for start in (y, x))
        tile[inside] = piece[np.ix_(*repeats)][inside]
        return cv2.imencode(".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()

    def tissue(start: int) -> tuple[int, int]:
        return max(min(low - start, TILE), 0), max(min(high - start, TILE), 0)

    for y in range(0, size, TILE):
        for x in range(0, size, TILE):
            yield encoded(y % len(piece), x % len(piece), tissue(y), tissue(x))


def predict_one(slide_path: Path, model: Path, wf: int, threads: int) -> None:
    """Predict a slide and print seconds, tissue and memory as JSON."""
    (device,) = choose_devices(0, threads)
    network = UNet(depth=5, wf=wf)
    network.load_state_dict(torch.load(model, weights_only=True))
    predictor = Predictor([network.eval()], device, prediction_type("auto", network.eval(), device))
    started = time.perf_counter()
    slide = open_slide(slide_path)
    view, tissue = ResampledSlide(slide, 1.0), find_tissue(slide)
    answer = keep_answer(view, predict_bands(view, predictor, None, tissue), slide_path.parent)
    predicted = time.perf_counter()
    outputs = outline(answer, slide_path.with_suffix(".gz"))
    outlines = time.perf_counter() - predicted
    result = {
        "seconds": predicted + outlines - started,
        "answer_mb": sum(path.stat().st_size for path in answer.paths.values()) / 1e6,
        "tissue_mpx": int(outputs.pixels.sum()) / 1e6,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "stages": predictor.seconds | {"outlines": outlines},
        "regions": int(outputs.regions.sum()),
    }
    print(json.dumps(result))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Predict both slides and print a table."""
    torch.manual_seed(0)
    choose_devices(0, options.threads)
    piece, mask = draw_piece()
    model = folder / "model.pt"
    torch.save(train(UNet(depth=5, wf=options.wf), piece, mask, steps=200).state_dict(), model)
    results = {}
    for side in (6_000, options.side):
        path = folder / f"{side}.tif"
        write_slide(path, side, piece)
        command = [sys.executable, __file__, "--one", str(path), str(model), "--wf", str(options.wf)]
        done = subprocess.run(
            [*command, "--threads", str(options.threads)], check=True, stdout=subprocess.PIPE, text=True
        )
        results[side] = result = json.loads(done.stdout)
        rate = result["tissue_mpx"] / result["seconds"]
        print(
            f"{side:>6} x {side}: {result['seconds']:7.1f} s for {result['tissue_mpx']:7.1f} Mpx of tissue "
            f"({rate:5.2f} Mpx/s), {result['regions']:,} regions, "
            f"{result['answer_mb'] / result['tissue_mpx']:.3f} byte kept a pixel, {result['memory_gib']:.2f} GiB; "
            + ", ".join(f"{name} {value:.1f} s" for name, value in result["stages"].items())
        )
    small, large = (result["seconds"] / result["tissue_mpx"] for result in results.values())
    print(f"a megapixel of tissue costs {large / small:.2f} times as much in the large slide")


def main() -> None:
    """Run the benchmark, or one slide of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=60_000)
    parser.add_argument("--wf", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        predict_one(*options.one, options.wf, options.threads)
    elif options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        compare(options, options.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, Path(folder))


if __name__ == "__main__":
    main()
