"""Draw the demo cohort: fields of synthetic tissue with masks, of patients with stains of their own.

Outputs
-------
images : PNG, uint8 RGB
    One field of 512 x 512 pixels for each path, at 0.5 µm per pixel.
masks : PNG, uint8
    255 where the field is epithelium, 0 elsewhere.
"""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from pathseg.files import atomic_path
from pathseg.logs import progress, start_log
from pathseg_demo.synthesis import Patient, draw_field, draw_patient

FIELD_SIDE = 512
EPITHELIUM = 255


def make_field(patient: Patient, image_path: str, mask_path: str, rng: np.random.Generator) -> None:
    """Draw a field of a patient and write image and mask."""
    image, epithelium = draw_field(patient, FIELD_SIDE, FIELD_SIDE, rng)
    write_png(image_path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_png(mask_path, epithelium.astype(np.uint8) * EPITHELIUM)


def write_png(path: str, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] BGR, or [H, W], as PNG under a temporary name and rename it."""
    with atomic_path(path) as temporary:
        # Encoded first: OpenCV does not say why it cannot write a file.
        temporary.write_bytes(cv2.imencode(".png", pixels)[1])


def make_cohort(
    images: list[str], masks: list[str], patients: list[str], seed: int, epithelium: float | None, threads: int
) -> None:
    """Draw the fields of patients.

    Parameters
    ----------
    images, masks
        Where to write each field.
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
        jobs.append((patient, image, mask, np.random.default_rng([seed, 1, index])))
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(make_field, *job) for job in jobs]
        for job in progress(waiting, "drawing", unit="image"):
            job.result()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, params = snakemake.output, snakemake.params
    make_cohort(
        list(output.images),
        list(output.masks),
        list(params.patients),
        params.seed,
        params.epithelium,
        snakemake.threads,
    )
    log.info("drew %d images", len(output.images))
