"""Which slides are predicted by one job: a batch.

A slide stays in the batch that has predicted it, so that all is as Snakemake has it in its records; what is to be
predicted, because it is new, has changed or failed, is divided into new batches. What a batch has predicted is in a
file of its own, NUMBER.json.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pathseg.digests import digest
from pathseg.files import atomic_path, file_digest

# The time that predicting takes, at a guess: a batch is to have as much as one slide is given, and small ones some.
MINUTES_EACH, MINUTES_PER_GIB = 0.1, 20
MOST_MINUTES, LEAST_MINUTES = 240, 10
# So many jobs are enough to use a cluster, and what names a batch's slides is part of a command.
ENOUGH_BATCHES, MOST_SLIDES, MOST_BYTES = 32, 200, 50_000
# Of files up to this size Snakemake compares the content when they are newer.
SMALL = 1_000_000

Row = dict[str, Any]


def description(row: Row, companions: Collection[str]) -> Row:
    """Return what is known of a slide before it is predicted.

    Parameters
    ----------
    row
        Of the slide table.
    companions
        The files that belong to its file.
    """
    known = {key: row[key] for key in ("slide", "path", "mpp", "tissue")}
    files = [path for path in (row["path"], *companions, row["tissue"]) if path]
    return known | {"digest": digest([known, files]), "files": files}


def divide(
    slides: Iterable[Row],
    folder: Path,
    results: str,
    outputs: Collection[str],
    anew: Collection[str] = (),
    as_they_are: bool = False,
) -> dict[int, list[Row]]:
    """Return the slides of each batch, by its number: those that stay as they are, and new ones.

    Parameters
    ----------
    slides
        Their descriptions.
    folder
        Where the files of the batches are.
    results
        The folder of a slide's results, with {slide} for its name.
    outputs
        The files that are to be in it.
    anew
        The slides that are to be predicted whatever is there.
    as_they_are
        Whether what is there is to count for up to date, whatever it is made of.
    """
    numbers = sorted({int(name) for path in folder.glob("*.json") if (name := path.name.partition(".")[0]).isdigit()})
    done = {slide: (number, made) for number in numbers for slide, made in _predicted(folder, number).items()}
    batches: dict[int, list[Row]] = defaultdict(list)
    waiting = []
    for slide in slides:
        number, made = done.get(slide["slide"], (0, {}))
        times = output_times(Path(results.replace("{slide}", slide["slide"])), outputs)
        as_before = slide["slide"] not in anew and slide["digest"] == made.get("digest")
        if times and made and (as_they_are or (as_before and not _is_newer(slide, made, min(times)))):
            batches[number].append(slide)
        else:
            waiting.append(slide)
    return batches | dict(enumerate(_shares(waiting), start=max(numbers, default=0) + 1))


def as_text(slides: list[Row]) -> str:
    """Return slides as JSON, for the job that predicts them; their files are many, and only the workflow's business."""
    return json.dumps([{key: slide[key] for key in slide if key != "files"} for slide in slides], ensure_ascii=False)


def write_done(slides: Iterable[Row], path: Path) -> None:
    """Write down what a batch has predicted."""
    done = {slide["slide"]: {"digest": slide["digest"], "small": _small_files(slide)} for slide in slides}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def take_for_up_to_date(slides: list[Row], path: Path, results: str, outputs: Collection[str]) -> None:
    """Write down those slides of a batch whose outputs are there as made of what there is now."""
    done = [slide for slide in slides if output_times(Path(results.replace("{slide}", slide["slide"])), outputs)]
    if not done:
        return
    before = path.stat() if path.exists() else None
    write_done(done, path)
    if before:
        # Nothing is to follow from it.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def output_times(folder: Path, outputs: Collection[str]) -> list[float]:
    """Return when the outputs of a slide were made; nothing unless all are there."""
    try:
        with os.scandir(folder) as entries:
            times = {entry.name: entry.stat().st_mtime for entry in entries if entry.name in outputs}
    except OSError:
        return []
    return list(times.values()) if len(times) == len(outputs) else []


def _small_files(slide: Row) -> dict[str, str]:
    """Return the digests of a slide's files that are so small that newer ones are compared."""
    paths = [path for path in (slide["path"], slide["tissue"]) if path]
    return {path: file_digest(path) for path in paths if Path(path).exists() and _size(path) <= SMALL}


def _predicted(folder: Path, number: int) -> dict[str, Row]:
    """Return what is known of the slides that a batch has predicted."""
    try:
        return json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_newer(slide: Row, made: Row, time: float) -> bool:
    """Say whether a slide has changed since its outputs were made."""
    # A file that is gone is Snakemake's to complain of, or to make.
    newer = [path for path in slide["files"] if Path(path).exists() and Path(path).stat().st_mtime > time]
    return not all(_size(path) <= SMALL and file_digest(path) == made["small"].get(path) for path in newer)


def _shares(slides: list[Row]) -> list[list[Row]]:
    """Divide slides into batches of neighbours."""
    minutes = [MINUTES_EACH + MINUTES_PER_GIB * sum(map(_size, slide["files"])) / 2**30 for slide in slides]
    most = min(max(sum(minutes) / ENOUGH_BATCHES, LEAST_MINUTES), MOST_MINUTES)
    shares: list[list[Row]] = []
    left, room = 0.0, 0
    for slide, needed in zip(slides, minutes, strict=True):
        length = len(as_text([slide]).encode())
        if not shares or needed > left or length > room or len(shares[-1]) == MOST_SLIDES:
            shares.append([])
            left, room = most, MOST_BYTES
        shares[-1].append(slide)
        left, room = left - needed, room - length
    return shares


def _size(path: str) -> int:
    return Path(path).stat().st_size if Path(path).exists() else 0
