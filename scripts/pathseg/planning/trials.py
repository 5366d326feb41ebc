"""Which resolutions are tried out by training, and what follows from how well each did. Pure arithmetic."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pathseg.planning.choices import GAP_PIXELS, Cohort, resolution, rounded

# The finer and the coarser resolution are so many times the planned one away.
STEP = 1.5
COLUMNS = ("round", "mpp", "minutes", "images", "dice", "lead", "error")
# Patients whose images are held out, as a share; of fewer patients nothing is tried.
HELD_OUT, LEAST_PATIENTS = 1 / 3, 3
# A lead is clear that is more than so many standard errors of the difference, and than this difference of Dice.
ERRORS, LEAST_LEAD = 2, 0.005


def resolutions(cohort: Cohort) -> list[float]:
    """Return what is tried, in µm per pixel: what is planned, finer and coarser, as far as pixels and gaps allow."""
    planned = resolution(cohort)[0]
    finer, coarser = max(rounded(planned / STEP), cohort.finest), rounded(planned * STEP)
    tried = [planned, finer] if finer < 0.9 * planned else [planned]
    return tried if cohort.gap and coarser * GAP_PIXELS > cohort.gap else [*tried, coarser]


def held_out(patients: Sequence[str]) -> set[str]:
    """Return the patients on whom trials are judged, always the same; none if there are too few."""
    names = sorted(set(patients))
    if len(names) < LEAST_PATIENTS:
        return set()
    count = max(1, int(HELD_OUT * len(names)))
    return set(np.random.default_rng(0).permutation(names)[:count].tolist())


def lead(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return by how much the first Dice of the same images [n] are higher, and the standard error; inf of one image."""
    differences = (first - second)[np.isfinite(first - second)]
    if not len(differences):
        return 0.0, np.inf
    error = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.inf
    return float(differences.mean()), float(error)


def is_clear(ahead: float, error: float) -> bool:
    """Say whether a lead is more than chance."""
    return ahead > max(ERRORS * error, LEAST_LEAD)


def still_open(found: dict[float, np.ndarray]) -> list[float]:
    """Return the resolutions that are not clearly behind the best, by their Dice of each image [n].

    One that is finer than the best stays: it has more pixels to learn from, and gains more from a longer training.
    """
    best = max(found, key=lambda mpp: np.nanmean(found[mpp]))

    def behind(mpp: float) -> bool:
        return is_clear(*lead(found[best], found[mpp]))

    return [mpp for mpp in found if mpp < best or not behind(mpp)]


def choice(trials: pd.DataFrame) -> tuple[float, str] | None:
    """Return the resolution to take, and why; None if nothing was tried.

    Another one than the planned takes its place if its lead is clear.

    Parameters
    ----------
    trials
        A row for each training, in their order, the first that of the planned resolution, with `COLUMNS`: `images` that
        were held out, the mean of their `dice`, its `lead` on the planned resolution in that round, and the standard
        `error` of that.
    """
    rows = trials.to_dict("records")
    if not rows:
        return None
    planned, last = rows[0]["mpp"], [row for row in rows if row["round"] == rows[-1]["round"]]
    best = max(last, key=lambda row: row["dice"])
    dropped = planned not in [row["mpp"] for row in last]
    taken = best["mpp"] if dropped or is_clear(best["lead"], best["error"]) else planned
    tried = ", ".join(f"{row['mpp']:g} µm {row['dice']:.3f}" for row in rows)
    return float(taken), f"tried by training, Dice of training patients who were held out: {tried}"
