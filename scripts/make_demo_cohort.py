"""Draw the demo cohort: fields of synthetic tissue with masks, and slides, of patients with stains of their own.

Outputs
-------
images : PNG, uint8 RGB
    One field of 512 x 512 pixels for each path, at 0.5 µm per pixel.
masks : PNG, uint8
    255 where the field is epithelium, 0 elsewhere.
slides : tiled pyramidal TIFF, JPEG
    Tissue on empty glass, with its pixel size in the resolution tags.
"""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tifffile

from pathseg.files import atomic_path
from pathseg.logs import progress, start_log
from pathseg_demo.synthesis import MPP, Patient, draw_field, draw_patient, draw_tissue_outline

FIELD_SIDE = 512
SLIDE_SIZES = ((4096, 4096), (2560, 3072))
EPITHELIUM = 255


def make_field(patient: Patient, image_path: str, mask_path: str, rng: np.random.Generator) -> None:
    """Draw a field of a patient and write image and mask."""
    image, epithelium = draw_field(patient, FIELD_SIDE, FIELD_SIDE, rng)
    write_png(image_path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_png(mask_path, epithelium.astype(np.uint8) * EPITHELIUM)


def write_png(path: str, pixels: np.ndarray) -> None:
    """Write a PNG under a temporary name and rename it."""
    with atomic_path(path) as temporary:
        # Encoded first: OpenCV does not say why it cannot write a file.
        temporary.write_bytes(cv2.imencode(".png", pixels)[1])


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


def make_cohort(
    images: list[str],
    masks: list[str],
    slides: list[str],
    patients: list[str],
    seed: int,
    epithelium: float | None,
    threads: int,
) -> None:
    """Draw the fields of patients and the slides of further ones.

    Parameters
    ----------
    images, masks
        Where to write each field.
    slides
        Where to write the slides, one for each of `SLIDE_SIZES`.
    patients
        Whose each field is. The order of their names fixes their tissue.
    seed
        Seed of everything drawn.
    epithelium
        Share of the tissue that is epithelium, see `draw_patient`.
    threads
        Images drawn at a time.
    """
    numbers = {name: number for number, name in enumerate(sorted(set(patients)))}
    jobs = []
    for index, (image, mask, name) in enumerate(zip(images, masks, patients, strict=True)):
        patient = draw_patient(np.random.default_rng([seed, 0, numbers[name]]), epithelium)
        jobs.append((make_field, patient, image, mask, np.random.default_rng([seed, 1, index])))
    for index, (slide, size) in enumerate(zip(slides, itertools.cycle(SLIDE_SIZES), strict=False)):
        patient = draw_patient(np.random.default_rng([seed, 0, len(numbers) + index]), epithelium)
        jobs.append((make_slide, patient, slide, *size, np.random.default_rng([seed, 2, index])))
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        # The slides take longest and go first.
        waiting = [pool.submit(*job) for job in reversed(jobs)]
        _wait(progress(waiting, "drawing", unit="image"))


def _wait(jobs: Iterable) -> None:
    for job in jobs:
        job.result()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    make_cohort(
        list(snakemake.output.images),
        list(snakemake.output.masks),
        list(snakemake.output.slides),
        list(snakemake.params.patients),
        snakemake.params.seed,
        snakemake.params.epithelium,
        snakemake.threads,
    )
    log.info("drew %d images and %d slides", len(snakemake.output.images), len(snakemake.output.slides))
