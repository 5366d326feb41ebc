"""Draw the demo cohort: fields of synthetic tissue with masks, of patients with stains of their own.

Outputs
-------
images : PNG, uint8 RGB
    One field of 512 x 512 pixels for each path, at 0.5 µm per pixel.
masks : PNG, uint8
    255 where the field is epithelium, 0 elsewhere.
nuclei : PNG, uint8
    255 where there is a nucleus, 0 elsewhere.
numbers : PNG, uint16
    The number of each nucleus, 0 where there is none.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from pathseg.files import atomic_path
from pathseg.logs import progress, start_log
from pathseg_demo.synthesis import Patient, draw_patient, draw_whole_field

FIELD_SIDE = 512
# Of `Paths`, in its order.
OUTPUTS = ("images", "masks", "nuclei", "numbers")
# Of epithelium in `masks`, and of nuclei in `nuclei`.
FOREGROUND = 255


class Paths(NamedTuple):
    """Where to write a field."""

    image: str
    mask: str
    nuclei: str
    numbers: str


def make_field(patient: Patient, paths: Paths, rng: np.random.Generator) -> None:
    """Draw a field of a patient and write its image, its masks and the numbers of its nuclei."""
    field = draw_whole_field(patient, FIELD_SIDE, FIELD_SIDE, rng)
    write_png(paths.image, cv2.cvtColor(field.image, cv2.COLOR_RGB2BGR))
    write_png(paths.mask, field.epithelium.astype(np.uint8) * FOREGROUND)
    write_png(paths.nuclei, (field.nuclei > 0).astype(np.uint8) * FOREGROUND)
    write_png(paths.numbers, field.nuclei)


def write_png(path: str, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] BGR, or uint8 or uint16 [H, W], as PNG under a temporary name and rename it."""
    with atomic_path(path) as temporary:
        # Encoded first: OpenCV does not say why it cannot write a file.
        temporary.write_bytes(cv2.imencode(".png", pixels)[1])


def make_cohort(fields: list[Paths], patients: list[str], seed: int, epithelium: float | None, threads: int) -> None:
    """Draw the fields of patients.

    Parameters
    ----------
    fields
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
    for index, (paths, name) in enumerate(zip(fields, patients, strict=True)):
        patient = draw_patient(np.random.default_rng([seed, 0, numbers[name]]), epithelium)
        jobs.append((patient, paths, np.random.default_rng([seed, 1, index])))
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(make_field, *job) for job in jobs]
        for job in progress(waiting, "drawing", unit="image"):
            job.result()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, params = snakemake.output, snakemake.params
    fields = [Paths(*paths) for paths in zip(*(output[key] for key in OUTPUTS), strict=True)]
    make_cohort(fields, list(params.patients), params.seed, params.epithelium, snakemake.threads)
    log.info("drew %d images", len(fields))
