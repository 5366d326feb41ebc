"""Make of what the networks say of several slides what people and programs read of each.

Each slide is worked on in a process that has all in memory: one that needs more memory than there is fails alone.

Outputs
-------
done : JSON
    The slides that this was done for.

In a folder of each slide, until the rule `outline_slide` takes them over: in `results` what `outline_slide.py` makes of
one, and beside it `log`, and `failed` or `digest`, see `pathseg.prediction.batches.Place`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pathseg.digests import digest
from pathseg.errors import ResourceError
from pathseg.files import atomic_path
from pathseg.isolation import Outcome
from pathseg.logs import start_log
from pathseg.prediction.answers import Answer
from pathseg.prediction.batches import Place, Row, digest_of, outcome_of, read_batch, work_on
from pathseg.prediction.outputs import write_outputs


def outline(params: Any, threads: int, experiment: str, slide: str, folder: Path) -> None:
    """Write the outputs of a slide into a folder."""
    answer = Path(params.answers, slide)
    if digest_of(answer) is None:
        raise ResourceError(
            f"{slide}: what the networks say of it is no longer in {answer}; run once more, and it is predicted again"
        )
    outputs = {key: str(folder / name) for key, name in params.outputs.items()}
    write_outputs(
        Answer({key: answer / name for key, name in params.files.items()}),
        # What another experiment finds on the slide are other annotations, also in one project of QuPath.
        f"{experiment}/{slide}",
        params.classes,
        params.outlines,
        params.objects,
        outputs,
        threads,
    )


def beginning(params: Any, threads: int, experiment: str) -> Callable[[tuple[Row, Place]], Outcome]:
    """Return the function that makes the outputs of a slide."""

    def work(item: tuple[Row, Place]) -> Outcome:
        slide, place = item
        make = partial(outline, params, threads, experiment, slide["slide"], place.folder / "results")
        return outcome_of(make, place, params.slide_log.replace("{slide}", slide["slide"]))

    return work


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, experiment = snakemake.params, snakemake.wildcards.experiment
    predicted = json.loads(Path(snakemake.input.predicted).read_text(encoding="utf-8"))
    slides = [slide for slide in read_batch(snakemake.input.slides) if slide["slide"] in predicted]
    settings = [params.code, params.classes, params.outlines, params.objects]
    digests = [digest([digest_of(Path(params.answers, slide["slide"])), settings]) for slide in slides]
    places = [
        Place(Path(params.place, slide["slide"]), made_of) for slide, made_of in zip(slides, digests, strict=True)
    ]
    start = partial(beginning, params, snakemake.threads, experiment)
    failed = work_on(start, zip(slides, places, strict=True), snakemake.resources.last_attempt)
    with atomic_path(snakemake.output.done) as path:
        path.write_text(json.dumps([slide["slide"] for slide in slides], ensure_ascii=False), encoding="utf-8")
    log.info("%d slides outlined, %d failed", len(slides) - len(failed), len(failed))
