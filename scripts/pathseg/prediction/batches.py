"""Work on the slides of a batch one after another, each in a process that has all in memory.

One that cannot be read, or needs more memory than there is, fails alone. What is done is found again by a job that goes
on after another was killed.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pathseg.errors import WantOfMemoryError
from pathseg.files import atomic_path
from pathseg.isolation import Outcome, each_alone
from pathseg.logs import also_logged, log_error

Row = dict[str, Any]


class Place:
    """A folder in which the result of a slide is made.

    Beside the result are the `log` of how, and `failed`, which says why there is none, or `digest`, of all that makes
    the result.

    Parameters
    ----------
    folder
        Of this slide alone.
    made_of
        A digest of all that makes the result, as far as it is known before the slide is read.
    run
        Which run must have made it; None if it does not matter.
    """

    def __init__(self, folder: Path, made_of: str, run: str | None = None) -> None:
        self.folder, self.log = folder, folder / "log"
        self._made_of, self._run = made_of, run

    def is_done(self) -> bool:
        """Say whether the result is there, made of just that."""
        made_of, _, run = (digest_of(self.folder) or "").partition(" ")
        return made_of == self._made_of and self._run in (None, run)

    def clear(self) -> None:
        """Remove what an earlier attempt has left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, outcome: Outcome) -> None:
        """Write down what became of the slide."""
        made_of = f"{self._made_of} {self._run or ''}".strip()
        name, text = ("failed", outcome.reason) if outcome.reason else ("digest", made_of)
        with atomic_path(self.folder / name) as path:
            path.write_text(text, encoding="utf-8")


def digest_of(folder: Path) -> str | None:
    """Return the digest of what a slide's result was made of; None if there is no result."""
    known = folder / "digest"
    return known.read_text(encoding="utf-8") if known.is_file() else None


def read_batch(path: str | Path) -> list[Row]:
    """Read the slides of a batch."""
    rows: list[Row] = json.loads(Path(path).read_text(encoding="utf-8"))
    return rows


def outcome_of(make: Callable[[], object], place: Place, log: str) -> Outcome:
    """Make the result of a slide, log how, and return what became of it; `log` is what messages name for details."""
    with also_logged(place.log):
        try:
            make()
        except Exception as error:
            said = log_error(error, log)
            return Outcome(str(said) or type(said).__name__, isinstance(said, WantOfMemoryError))
    return Outcome()


def work_on(
    start: Callable[[], Callable[[tuple[Row, Place]], Outcome]], items: Iterable[tuple[Row, Place]], last_attempt: bool
) -> dict[str, Outcome]:
    """Work on the slides that are not done, and return what failed, by the slides' names.

    Parameters
    ----------
    start
        See `pathseg.isolation.each_alone`.
    items
        The slides, and where the result of each is made.
    last_attempt
        Whether a job that fails is not started again.

    Raises
    ------
    WantOfMemoryError
        If memory was wanting for a slide, and another attempt has more.
    """
    waiting = [(slide, place) for slide, place in items if not place.is_done()]
    for _, place in waiting:
        place.clear()
    failed = {}
    for (slide, place), outcome in each_alone(start, waiting):
        place.finish(outcome)
        if outcome.reason:
            failed[slide["slide"]] = outcome
    wanting = [name for name, outcome in failed.items() if outcome.memory]
    if wanting and not last_attempt:
        raise WantOfMemoryError(f"{', '.join(wanting)}: wanted more memory than there was; the next attempt has more")
    return failed
