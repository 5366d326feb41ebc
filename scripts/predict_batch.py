"""Predict slides one after another with models that are read once, and write what people and programs read of each.

Each slide is predicted in a process that has all in memory: one that cannot be read, or needs more memory than there
is, fails alone.

Outputs
-------
done : JSON
    The slides that have been predicted, and what they were known by.

In the folder `.predicted` beside it, until the rule `predict_slide` takes them over, for each slide: in `results` what
`predict_slide.py` makes of one, and beside that its `log`, and `failed`, which says why it was not predicted, or
`digest`, of all that makes the result, by which a job that goes on after another was killed finds what is done.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pathseg.cohort.slide_batches import write_done
from pathseg.digests import digest
from pathseg.errors import WantOfMemoryError
from pathseg.files import atomic_path, file_digest
from pathseg.isolation import Outcome, each_alone
from pathseg.logs import also_logged, log_error, start_log
from pathseg.network.devices import choose_devices
from pathseg.prediction.slides import SlidePredictor

Row = dict[str, Any]


class Place:
    """Where the result of a slide is until it is taken over.

    Parameters
    ----------
    folder
        Of this slide alone.
    made_of
        A digest of all that makes the result, as far as it is known before the slide is read.
    """

    def __init__(self, folder: Path, made_of: str) -> None:
        self.results, self.log = folder / "results", folder / "log"
        self._folder, self._made_of = folder, made_of

    def is_done(self) -> bool:
        """Say whether the result is there, made of just that."""
        known = self._folder / "digest"
        return known.is_file() and known.read_text(encoding="ascii") == self._made_of

    def clear(self) -> None:
        """Remove what an earlier attempt has left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def finish(self, outcome: Outcome) -> None:
        """Write down what became of the slide."""
        name, text = ("failed", outcome.reason) if outcome.reason else ("digest", self._made_of)
        with atomic_path(self._folder / name) as path:
            path.write_text(text, encoding="utf-8")


def beginning(
    models: list[str], params: Any, experiment: str, gpus: int, threads: int
) -> Callable[[tuple[Row, Place]], Outcome]:
    """Read the models, and return the function that predicts a slide with them."""
    (device,) = choose_devices(gpus, threads)
    settings = {**params.prediction, **params.machine}
    predictor = SlidePredictor(models, params.classes, settings, device, {}, params.objects)

    def predict(item: tuple[Row, Place]) -> Outcome:
        slide, place = item
        # What another experiment finds on the slide are other annotations, also in one project of QuPath.
        row = slide | {"key": f"{experiment}/{slide['slide']}"}
        outputs = {key: str(place.results / name) for key, name in params.outputs.items()}
        with also_logged(place.log):
            try:
                predictor.predict(slide["path"], row, outputs)
            except Exception as error:
                said = log_error(error, params.slide_log.replace("{slide}", slide["slide"]))
                return Outcome(str(said) or type(said).__name__, isinstance(said, WantOfMemoryError))
        return Outcome()

    return predict


def file_state(path: str) -> list[int] | None:
    """Return what tells that a file was changed; None if it is not there."""
    return [Path(path).stat().st_size, Path(path).stat().st_mtime_ns] if Path(path).exists() else None


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, models, experiment = snakemake.params, list(snakemake.input.models), snakemake.wildcards.experiment
    slides = json.loads(Path(snakemake.input.slides).read_text(encoding="utf-8"))
    settings = [params.code, params.classes, params.prediction, params.objects, *map(file_digest, models)]
    digests = [digest([slide["digest"], file_state(slide["path"]), settings]) for slide in slides]
    places = [
        Place(Path(params.place, slide["slide"]), made_of) for slide, made_of in zip(slides, digests, strict=True)
    ]
    waiting = [(slide, place) for slide, place in zip(slides, places, strict=True) if not place.is_done()]
    for _, place in waiting:
        place.clear()
    gpus = min(1, snakemake.resources.get("gpu", 0))
    failed = {}
    for (slide, place), outcome in each_alone(
        partial(beginning, models, params, experiment, gpus, snakemake.threads), waiting
    ):
        place.finish(outcome)
        if outcome.reason:
            failed[slide["slide"]] = outcome
    wanting = [name for name, outcome in failed.items() if outcome.memory]
    if wanting and not snakemake.resources.last_attempt:
        raise WantOfMemoryError(f"{', '.join(wanting)}: wanted more memory than there was; the next attempt has more")
    write_done((slide for slide in slides if slide["slide"] not in failed), Path(snakemake.output.done))
    counts = len(waiting) - len(failed), len(failed), len(slides) - len(waiting)
    log.info("%d slides predicted, %d failed, %d were there from before", *counts)
