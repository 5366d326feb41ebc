"""Divide patients into parts: never an image, always a patient, with the classes in equal shares."""

import numpy as np
import pandas as pd

from pathseg.errors import SplitError

# Random divisions to choose from: enough for few patients, where the choice matters, and affordable for thousands.
PLACEMENTS = 20_000
FEWEST_TRIALS = 40


def part_shares(val: float, test: float, folds: int | None) -> dict[str, float]:
    """Return the parts of a split and the share of all images that each should get.

    Parameters
    ----------
    val, test
        Shares for validation (unused with folds) and test; a part with share 0 is not made.
    folds
        Number of equal parts for cross-validation, or None for a hold-out split.
    """
    held_out = {"test": test} if test else {}
    if folds:
        return {f"fold{k}": (1 - test) / folds for k in range(1, folds + 1)} | held_out
    return {"train": 1 - val - test, "val": val} | held_out


def split_patients(samples: pd.DataFrame, pixels: np.ndarray, shares: dict[str, float], seed: int) -> pd.Series:
    """Choose a part for each patient.

    Many random divisions are drawn, and the one is kept whose parts come closest to their share of the pixels of
    each class, as in stratified group sampling. Patients whose part is given stay in it.

    Parameters
    ----------
    samples
        Columns `sample`, `patient` and `part` (None where it is free), a row for each image.
    pixels
        Pixel counts [images, classes].
    shares
        Part names and the share that each should get, see `part_shares`.
    seed
        Seed of the draw: the same table and seed give the same parts.

    Returns
    -------
    pandas.Series
        Part of each image, with the index of `samples`.

    Raises
    ------
    SplitError
        If there are fewer patients than parts, or a fixed part is not one of them.
    """
    patients = samples.groupby("patient", sort=True)
    names = list(patients.groups)
    fixed = patients["part"].first().reindex(names)
    parts = list(shares)
    unknown = fixed.dropna()[~fixed.dropna().isin(parts)]
    if len(unknown):
        raise SplitError(
            f"patient {unknown.index[0]!r} has part {unknown.iloc[0]!r} in the table, but this split has the parts "
            f"{', '.join(parts)}; change the table or the `split` settings"
        )
    missing = [part for part in parts if part not in set(fixed.dropna())]
    if fixed.isna().sum() < len(missing):
        raise SplitError(
            f"{len(names)} patients ({int(fixed.isna().sum())} without a fixed part) are too few for the parts "
            f"{', '.join(parts)}: each needs a patient of its own; add patients or ask for fewer parts"
        )
    # A column for the images beside those for the classes, so that parts are balanced in both.
    amounts = np.column_stack([pixels, np.ones(len(samples))]).astype(float)
    amounts /= np.maximum(amounts.sum(axis=0), 1)
    per_patient = np.stack([amounts[patients.indices[name]].sum(axis=0) for name in names])
    chosen = _best_division(per_patient, fixed, np.array(list(shares.values())), parts, np.random.default_rng(seed))
    return samples["patient"].map(dict(zip(names, chosen, strict=True)))


def _best_division(
    per_patient: np.ndarray, fixed: pd.Series, shares: np.ndarray, parts: list[str], rng: np.random.Generator
) -> list[str]:
    """Return the part of each patient in the best of many random divisions.

    Each draw puts the patients in a random order, the heavy ones first, and gives each to the part that lacks most.
    """
    fixed_numbers = np.array([parts.index(part) if isinstance(part, str) else -1 for part in fixed])
    weight = per_patient.mean(axis=1)
    best: tuple[float, np.ndarray] = (np.inf, fixed_numbers)
    for _ in range(max(FEWEST_TRIALS, PLACEMENTS // len(weight))):
        numbers = fixed_numbers.copy()
        got = np.zeros((len(parts), per_patient.shape[1]))
        np.add.at(got, numbers[numbers >= 0], per_patient[numbers >= 0])
        for patient in np.argsort(-weight * rng.uniform(0.5, 1.5, len(weight))):
            if numbers[patient] < 0:
                lacks = (shares - got.mean(axis=1)) / shares
                numbers[patient] = np.argmax(lacks + rng.normal(0, 0.1, len(parts)))
                got[numbers[patient]] += per_patient[patient]
        if len(np.unique(numbers)) < len(parts):
            continue
        cost = float((((got - shares[:, None]) / shares[:, None]) ** 2).sum())
        if cost < best[0]:
            best = (cost, numbers)
    if not np.isfinite(best[0]):
        raise SplitError(
            f"no division of {len(weight)} patients into {len(parts)} parts was found; ask for fewer parts"
        )
    return [parts[number] for number in best[1]]
