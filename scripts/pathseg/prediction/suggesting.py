"""Which squares of which slides to annotate next: where models are least sure."""

import math
from dataclasses import dataclass

import numpy as np
import shapely

from pathseg.prediction.doubt import DoubtMap

# A side is so many squares of a map long; places are tried at every square.
STEPS = 4
# Share of a suggestion that must be tissue.
LEAST_TISSUE = 0.5


@dataclass(frozen=True)
class Candidate:
    """A square that may be suggested.

    Attributes
    ----------
    slide, patient : str
        Where it is.
    score : float
        Doubt by area: nats per pixel of any size, glass counted as sure.
    tissue : float
        Share of it that is tissue.
    box : shapely.Polygon
        In the slide's finest pixels.
    """

    slide: str
    patient: str
    score: float
    tissue: float
    box: shapely.Polygon


def candidates_of(slide: str, patient: str, found: DoubtMap, known: shapely.Geometry, count: int) -> list[Candidate]:
    """Return the best squares of a slide, best first, at least half a side apart from each other.

    Parameters
    ----------
    slide, patient
        Their names.
    found
        Doubt on the slide.
    known
        What is annotated, in finest pixels; suggestions keep half a side away from it too.
    count
        How many are wanted at most.
    """
    score, tissue = (windows(values) / (STEPS * found.side) ** 2 for values in (found.sums, found.tissue))
    free = (tissue >= LEAST_TISSUE) & (score > 0)
    corners = np.argwhere(free)
    near = half_a_side(found)
    boxes = [box_at(found, row, column) for row, column in corners]
    if boxes and not known.is_empty:
        shapely.prepare(known)
        free[tuple(corners.T)] = ~shapely.dwithin(known, np.array(boxes, object), near)
    chosen: list[Candidate] = []
    score = np.where(free, score, 0)
    while len(chosen) < count and score.max(initial=0) > 0:
        row, column = map(int, np.unravel_index(score.argmax(), score.shape))
        value, share = float(score[row, column]), float(tissue[row, column])
        chosen.append(Candidate(slide, patient, value, share, box_at(found, row, column)))
        apart = STEPS + STEPS // 2
        score[max(row - apart + 1, 0) : row + apart, max(column - apart + 1, 0) : column + apart] = 0
    return chosen


def windows(values: np.ndarray) -> np.ndarray:
    """Return the sums over all squares of `STEPS` x `STEPS` values: [h-STEPS+1, w-STEPS+1], or nothing."""
    if min(values.shape) < STEPS:
        return np.zeros((0, 0))
    sums = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return sums[STEPS:, STEPS:] - sums[:-STEPS, STEPS:] - sums[STEPS:, :-STEPS] + sums[:-STEPS, :-STEPS]


def box_at(found: DoubtMap, row: int, column: int) -> shapely.Polygon:
    """Return the square whose first small square is at a row and column, in whole finest pixels."""
    x0, y0, x1, y1 = (round(n * found.downsample) for n in (column, row, column + STEPS, row + STEPS))
    return shapely.box(x0, y0, x1, y1)


def half_a_side(found: DoubtMap) -> float:
    """Return how far suggestions stay from what is annotated, in finest pixels."""
    return STEPS * found.downsample / 2


def choose(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Choose the best candidates, no more than half as much again as its even share from any slide or patient.

    What is missing then, because others have too few, is taken from those that have more.

    Parameters
    ----------
    candidates
        Of all slides.
    count
        How many are wanted; of two or more slides or patients that have candidates, none gets all.
    """
    slides, patients = {c.slide for c in candidates}, {c.patient for c in candidates}
    left = {("slide", slide): _most(count, len(slides)) for slide in slides}
    left |= {("patient", patient): _most(count, len(patients)) for patient in patients}
    chosen: list[Candidate] = []
    others: list[Candidate] = []
    for candidate in sorted(candidates, key=best_first):
        keys = ("slide", candidate.slide), ("patient", candidate.patient)
        if len(chosen) < count and all(left[key] for key in keys):
            chosen.append(candidate)
            for key in keys:
                left[key] -= 1
        else:
            others.append(candidate)
    return sorted(chosen + others[: count - len(chosen)], key=best_first)


def best_first(candidate: Candidate) -> tuple[float, str]:
    """Return what candidates are sorted by."""
    return -candidate.score, candidate.slide


def _most(count: int, among: int) -> int:
    return count if among < 2 else max(1, min(count - 1, math.ceil(1.5 * count / among)))
