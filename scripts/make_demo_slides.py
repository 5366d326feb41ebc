"""Draw the slides of the demo, of patients who are not in its cohort.

Outputs
-------
slides : tiled pyramidal TIFF, JPEG
    Tissue on empty glass, with its pixel size in the resolution tags.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tifffile

from pathseg.files import atomic_path
from pathseg.logs import progress, start_log
from pathseg_demo.synthesis import MPP, Patient, draw_field, draw_patient, draw_tissue_outline

SLIDE_SIZES = ((4096, 4096), (2560, 3072))
# Patients are drawn by number; those of the cohort have the numbers below.
FIRST_PATIENT = 15


def make_slide(patient: Patient, path: str, height: int, width: int, rng: np.random.Generator) -> None:
    """Draw a slide of a patient, of `height` x `width` pixels, and write it with its pyramid."""
    outline = draw_tissue_outline(height, width, rng)
    image, _ = draw_field(patient, height, width, rng, outline)
    with atomic_path(path) as temporary:
        write_slide(temporary, image)


def write_slide(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as a tiled JPEG TIFF with a level for each halving down to 512 pixels."""
    with tifffile.TiffWriter(path) as tiff:
        mpp = MPP
        level = 0
        while True:
            per_centimetre = 1e4 / mpp
            tiff.write(
                image,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                tile=(256, 256),
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                metadata=None,
            )
            if max(image.shape[:2]) <= 512:
                return
            image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
            mpp *= 2
            level += 1


def make_slides(slides: list[str], seed: int, epithelium: float | None, threads: int) -> None:
    """Draw slides.

    Parameters
    ----------
    slides
        Where to write them; they take the sizes of `SLIDE_SIZES` in turn.
    seed
        Seed of everything drawn.
    epithelium
        Share of the tissue that is epithelium, about; None for each patient's own.
    threads
        Slides drawn at a time.
    """
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        for index, (slide, size) in enumerate(zip(slides, itertools.cycle(SLIDE_SIZES), strict=False)):
            patient = draw_patient(np.random.default_rng([seed, 0, FIRST_PATIENT + index]), epithelium)
            waiting.append(pool.submit(make_slide, patient, slide, *size, np.random.default_rng([seed, 2, index])))
        for job in progress(waiting, "drawing", unit="slide"):
            job.result()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    make_slides(list(snakemake.output.slides), snakemake.params.seed, snakemake.params.epithelium, snakemake.threads)
    log.info("drew %d slides", len(snakemake.output.slides))
