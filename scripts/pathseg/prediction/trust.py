"""Say of an image whether a model is to be trusted on it: one word, and the reason in a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pathseg.prediction.reference import GROUPS, Reference
from pathseg.prediction.traits import Traits

WORDS = USUAL, UNUSUAL, DO_NOT_TRUST = "usual", "unusual", "do not trust"
# Shares of the tissue that are blurred, or inked, from which a slide is unusual, and not to be trusted.
ARTEFACTS = (0.2, 0.5)
# Of fewer patients nobody knows how far patients are from each other.
FEW_PATIENTS = 5
NO_REFERENCE = "The model file does not say what its training images were like."
WHAT = {"colour": "Its colours are", "sharpness": "Its sharpness is", "features": "What the network sees in it is"}


def judge(references: Sequence[Reference | None], traits: Traits, names: Sequence[str]) -> dict[str, Any]:
    """Say whether an image is like those that models were trained on.

    Parameters
    ----------
    references
        Of the models, in the order of their networks.
    traits
        Of the image.
    names
        Of the classes.

    Returns
    -------
    dict
        `word` ("usual", "unusual", "do not trust"; None without a reference) and `reason`, a sentence; `shift`, that of
        `shifts` (by group) which is the largest part or multiple, `excess`, of what is usual; `sharpness` (1 is that of
        the training images), `blurred_share` and `ink_share` of what was looked at, `disagreement` in nats (None of a
        single prediction), `expected_dice` by class, of the probabilities alone (None of a class that is nowhere).
    """
    known = [(number, reference) for number, reference in enumerate(references) if reference]
    seen = traits.squares["seen"].sum()
    result: dict[str, Any] = {
        "word": None,
        "reason": NO_REFERENCE if seen else "No tissue was looked at.",
        "shift": None,
        "excess": None,
        "shifts": None,
        "sharpness": None,
        "blurred_share": None,
        "ink_share": round(traits.ink, 4),
        "disagreement": round(traits.contradiction / max(seen, 1), 5) if traits.several else None,
    }
    certain = dict(zip(names, traits.expected_dice.tolist(), strict=True))
    if known and seen:
        shifts = mean_by_group([reference.shifts(traits, number) for number, reference in known])
        limits = [mean_by_group([reference.limit(level) for _, reference in known]) for level in (1, 2)]
        blurred = float(np.mean([traits.blurred(reference.blurred_below) for _, reference in known]))
        fine = np.mean([reference.gauges["sharpness"].centre.sum() for _, reference in known])
        worst = max(GROUPS, key=lambda group: shifts[group] / limits[0][group])
        shares = {"blurred": blurred, "inked": traits.ink}
        result |= {
            "shift": round(shifts[worst], 3),
            "excess": round(shifts[worst] / limits[0][worst], 3),
            "shifts": {group: round(value, 3) for group, value in shifts.items()},
            "sharpness": round(float(np.exp((traits.detail.sum() - fine) / 2)), 3),
            "blurred_share": round(blurred, 4),
        }
        result["word"], result["reason"] = word_of(shifts, limits, shares)
        result["reason"] += thin(min(reference.patients for _, reference in known))
    result["expected_dice"] = {name: None if np.isnan(value) else round(value, 4) for name, value in certain.items()}
    return result


def mean_by_group(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean over models, by group."""
    return {group: float(np.mean([each[group] for each in values])) for group in GROUPS}


def word_of(shifts: dict[str, float], limits: Sequence[dict[str, float]], shares: dict[str, float]) -> tuple[str, str]:
    """Return the word and the reason.

    Parameters
    ----------
    shifts
        By group.
    limits
        By group: from which shift an image is unusual, and not to be trusted.
    shares
        Of the tissue, by what is wrong with it.
    """
    level, parts = 0, []
    for what, share in shares.items():
        passed = sum(share > limit for limit in ARTEFACTS)
        level = max(level, passed)
        parts += [f"{100 * share:.0f} % of it is {what}."] if passed else []
    for group in sorted(GROUPS, key=lambda group: -shifts[group] / limits[0][group]):
        passed = sum(shifts[group] > limit[group] for limit in limits)
        level = max(level, passed)
        if passed:
            parts.append(
                f"{WHAT[group]} {shifts[group]:.1f} times as far from the training patients as these are from each "
                f"other; up to {limits[0][group]:.1f} is usual."
            )
    return WORDS[level], " ".join(parts) or "It is as near to the training patients as they are to each other."


def thin(patients: int) -> str:
    """Return what is to be said of a reference of so few patients."""
    return "" if patients >= FEW_PATIENTS else f" The reference is thin: {patients} training patients."
