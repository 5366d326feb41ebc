"""Predict slides one after another with models that are read once, and keep what the networks say of each.

Each slide is predicted in a process that has all in memory: one that cannot be read, or needs more memory than there
is, fails alone.

Outputs
-------
done : JSON
    The slides that have been predicted, and what they were known by.

In a folder of each slide: its answer, which `predict_slide.py` lists, and beside it `log`, and `failed` or `digest`,
see `pathseg.prediction.batches.Place`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pathseg.cohort.slide_batches import write_done
from pathseg.digests import digest
from pathseg.files import file_digest
from pathseg.isolation import Outcome
from pathseg.logs import start_log
from pathseg.network.devices import choose_devices
from pathseg.prediction.batches import Place, Row, outcome_of, read_batch, work_on
from pathseg.prediction.slides import SlidePredictor


def beginning(models: list[str], params: Any, gpus: int, threads: int) -> Callable[[tuple[Row, Place]], Outcome]:
    """Read the models, and return the function that predicts a slide with them."""
    (device,) = choose_devices(gpus, threads)
    settings = {**params.prediction, **params.machine}
    predictor = SlidePredictor(models, params.classes, settings, device, {}, params.objects)

    def predict(item: tuple[Row, Place]) -> Outcome:
        slide, place = item
        answer = {key: str(place.folder / name) for key, name in params.files.items()}
        make = partial(predictor.predict, slide["path"], slide, answer)
        return outcome_of(make, place, params.slide_log.replace("{slide}", slide["slide"]))

    return predict


def file_state(path: str) -> list[int] | None:
    """Return what tells that a file was changed; None if it is not there."""
    return [Path(path).stat().st_size, Path(path).stat().st_mtime_ns] if Path(path).exists() else None


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, models = snakemake.params, list(snakemake.input.models)
    slides = read_batch(snakemake.input.slides)
    settings = [params.code, params.classes, params.prediction, params.objects, *map(file_digest, models)]
    digests = [digest([slide["digest"], file_state(slide["path"]), settings]) for slide in slides]
    places = [
        Place(Path(params.answers, slide["slide"]), made_of, slide["run"])
        for slide, made_of in zip(slides, digests, strict=True)
    ]
    start = partial(beginning, models, params, min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    there = sum(place.is_done() for place in places)
    failed = work_on(start, zip(slides, places, strict=True), snakemake.resources.last_attempt)
    write_done((slide for slide in slides if slide["slide"] not in failed), Path(snakemake.output.done))
    counts = len(slides) - there - len(failed), len(failed), there
    log.info("%d slides predicted, %d failed, %d were there from before", *counts)
