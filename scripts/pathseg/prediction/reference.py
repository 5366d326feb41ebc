"""How far an image is from those that a model was trained on, in units of how far these are from each other.

Three things are compared: colours, sharpness, and what the network's deepest layer sees. Each is a handful of numbers
of an image. The distance is that of P. C. Mahalanobis (1936), with a covariance that is drawn towards its diagonal,
because patients are few. What is usual is found by leaving each patient out: the distance of his images to all others
is what the distance of a new patient's should be like, and how far such distances differ by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special

from pathseg.errors import CheckpointError
from pathseg.network.checkpoint import Checkpoint
from pathseg.prediction.traits import SQUARE, DeepSums, Traits, fineness

VERSION = 1
GROUPS = ("colour", "sharpness", "features")
# Axes that are kept of the deepest layer; what lies beside them is one more number, and its spread another.
AXES = 4
# What a number differs by when nothing has changed, by group: patients who are more alike are not taken for so alike.
# What one that is read between the levels of a pyramid lacks in sharpness, which a file of one level has.
TWICE_SMOOTHED = 0.15
FLOORS = {"colour": 0.05, "sharpness": 0.05, "features": 0.1}
# The least usual distance, and by how much logarithms of distances differ at least: what is below the floors is noise.
LEAST_DISTANCE, LEAST_SPREAD = 0.5, 0.2
# Patients are left out in so many groups at most.
LEFT_OUT = 20
# The shares of new patients that the two limits let through, and of squares that are called blurred.
USUAL, TRUSTED, BLURRED = 0.98, 0.998, 0.01


@dataclass(frozen=True)
class Axes:
    """How the deepest layer of a network becomes a handful of numbers.

    Attributes
    ----------
    centre, scale : numpy.ndarray
        Mean and standard deviation of each channel over the training images [C].
    directions : numpy.ndarray
        Principal axes of the means of images, in units of the scale [k, C].
    """

    centre: np.ndarray
    scale: np.ndarray
    directions: np.ndarray

    @classmethod
    def fit(cls, deep: Sequence[DeepSums], weights: np.ndarray) -> "Axes":
        """Find the axes from images, which have weights [n] whose sum is 1."""
        means, spreads = (np.array([getattr(sums, key) for sums in deep]) for key in ("mean", "spread"))
        centre = weights @ means
        scale = np.sqrt(weights @ (spreads**2 + (means - centre) ** 2))
        # A channel that was silent in training is not infinitely telling, nor is rounding to 8 bits.
        scale = np.maximum(scale, scale.mean() / 10 + np.abs(centre) / 100 + 1e-9)
        apart = np.sqrt(weights)[:, None] * (means - centre) / scale
        _, sizes, directions = np.linalg.svd(apart, full_matrices=False)
        return cls(centre, scale, directions[: min(AXES, int((sizes > 1e-6).sum()))])

    def numbers(self, deep: DeepSums) -> np.ndarray:
        """Return where an image is along the axes, how far beside them, and how much it varies: [k + 2]."""
        found = (deep.mean - self.centre) / self.scale
        along = self.directions @ found
        beside = np.linalg.norm(found - along @ self.directions)
        spread = np.log((deep.spread + self.scale / 100) / self.scale).mean()
        side = np.sqrt(len(found))
        return np.array([*(along / side), np.log(beside / side + 0.01), spread])


@dataclass(frozen=True)
class Gauge:
    """Measures distances of a handful of numbers.

    Attributes
    ----------
    centre : numpy.ndarray
        Mean over patients [d].
    precision : numpy.ndarray
        Inverse of the covariance [d, d].
    """

    centre: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, weights: np.ndarray, patients: int, floor: float) -> "Gauge":
        """Fit centre and covariance to images [n, d] of so many patients, which have weights [n] whose sum is 1."""
        centre = weights @ values
        apart = values - centre
        covariance = (apart * weights[:, None]).T @ apart * patients / max(patients - 1, 1)
        n = values.shape[1]
        own = np.diag(np.diag(covariance))
        kept = patients / (patients + n)
        return cls(centre, np.linalg.inv(kept * covariance + (1 - kept) * own + floor**2 * np.eye(n)))

    def distance(self, values: np.ndarray) -> float:
        """Return how far numbers [d] are from the centre; about 1 for one of those that were fitted to."""
        apart = values - self.centre
        return float(np.sqrt(apart @ self.precision @ apart / len(apart)))


def numbers_of(traits: Traits, number: int, axes: Axes) -> dict[str, np.ndarray]:
    """Return the numbers of an image by group, as the network of that number sees it."""
    return {"colour": traits.colour, "sharpness": traits.detail, "features": axes.numbers(traits.deep[number])}


def fit(traits: Sequence[Traits], patients: np.ndarray, number: int = 0) -> tuple[Axes, dict[str, Gauge]]:
    """Fit axes and gauges to images of patients, each of whom counts the same."""
    names, whose, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / (len(names) * counts[whose])
    axes = Axes.fit([each.deep[number] for each in traits], weights)
    values = [numbers_of(each, number, axes) for each in traits]
    gauges = {
        group: Gauge.fit(np.array([value[group] for value in values]), weights, len(names), FLOORS[group])
        for group in GROUPS
    }
    return axes, gauges


def left_out_distances(traits: Sequence[Traits], patients: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far each image is from those of other patients, by group [n]; there must be two patients."""
    names = np.unique(patients)
    distances = {group: np.zeros(len(traits)) for group in GROUPS}
    for start in range(min(LEFT_OUT, len(names))):
        out = np.isin(patients, names[start::LEFT_OUT])
        axes, gauges = fit([each for each, gone in zip(traits, out, strict=True) if not gone], patients[~out])
        for index in np.flatnonzero(out).tolist():
            for group, value in numbers_of(traits[index], 0, axes).items():
                distances[group][index] = gauges[group].distance(value)
    return distances


def limits_of(distances: np.ndarray, patients: np.ndarray) -> tuple[float, float, float]:
    """Return the usual distance of a patient who was left out, and the limits that few and hardly any pass.

    The logarithms of distances are taken to be normal, each patient counting the same, and as many degrees of freedom
    as patients: a limit is that of Student's t for one more patient.
    """
    names, whose, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / (len(names) * counts[whose])
    logs = np.log(np.maximum(distances, LEAST_DISTANCE))
    mean = weights @ logs
    spread = max(LEAST_SPREAD, np.sqrt(weights @ (logs - mean) ** 2 * len(names) / (len(names) - 1)))
    # Any of the groups may say it.
    levels = (1 - (1 - level) / len(GROUPS) for level in (USUAL, TRUSTED))
    more = [special.stdtrit(len(names) - 1, level) * spread * np.sqrt(1 + 1 / len(names)) for level in levels]
    usual, unusual, far = (float(np.exp(mean + each)) for each in (0, *more))
    return usual, unusual, far


@dataclass(frozen=True)
class Reference:
    """What the images were like that a model was trained on.

    Attributes
    ----------
    patients : int
        How many they were of.
    axes : Axes
        Of the deepest layer.
    gauges : dict of Gauge
        By group.
    limits : dict of (float, float, float)
        By group: the usual distance of a patient who is left out, which is the unit of shifts, and two limits.
    by_patient : dict of numpy.ndarray
        By group, the mean numbers of each patient [n, d]; nobody's name.
    blurred_below : float
        The fineness below which hardly any square of a training image is.
    """

    patients: int
    axes: Axes
    gauges: dict[str, Gauge]
    limits: dict[str, tuple[float, float, float]]
    by_patient: dict[str, np.ndarray]
    blurred_below: float

    @classmethod
    def fit(cls, traits: Sequence[Traits], patients: Sequence[str]) -> "Reference":
        """Make the reference of images of at least two patients, as the only network of their traits sees them."""
        names, whose = np.unique(np.asarray(patients), return_inverse=True)
        members = [[each for each, of in zip(traits, whose, strict=True) if of == n] for n in range(len(names))]
        axes, gauges = fit(traits, whose)
        distances = left_out_distances(traits, whose)
        values = [[numbers_of(each, 0, axes) for each in of_patient] for of_patient in members]
        return cls(
            len(names),
            axes,
            gauges,
            {group: limits_of(distances[group], whose) for group in GROUPS},
            {
                group: np.array([np.mean([value[group] for value in of_patient], axis=0) for of_patient in values])
                for group in GROUPS
            },
            lower_limit([least_fine(of_patient) for of_patient in members]),
        )

    def limit(self, level: int) -> dict[str, float]:
        """Return the shift by group from which an image is unusual (1), or not to be trusted (2)."""
        return {group: values[level] / values[0] for group, values in self.limits.items()}

    def shifts(self, traits: Traits, number: int) -> dict[str, float]:
        """Return the distance of an image by group, in units of the usual one."""
        values = numbers_of(traits, number, self.axes)
        distances = {group: self.gauges[group].distance(values[group]) for group in GROUPS}
        if traits.twice_smoothed:
            gauge, found = self.gauges["sharpness"], values["sharpness"]
            sharper = found + np.clip(gauge.centre - found, 0, TWICE_SMOOTHED)
            distances["sharpness"] = min(distances["sharpness"], gauge.distance(sharper))
        return {group: distance / self.limits[group][0] for group, distance in distances.items()}

    def stored(self) -> dict[str, Any]:
        """Return it as a model file keeps it: numbers and tensors."""
        return {
            "version": VERSION,
            "patients": self.patients,
            "blurred_below": self.blurred_below,
            "axes": {key: as_tensor(values) for key, values in vars(self.axes).items()},
            "gauges": {
                group: {key: as_tensor(values) for key, values in vars(gauge).items()}
                for group, gauge in self.gauges.items()
            },
            "limits": {group: list(values) for group, values in self.limits.items()},
            "by_patient": {group: as_tensor(values) for group, values in self.by_patient.items()},
        }


def lower_limit(values: list[float]) -> float:
    """Return what hardly any new patient is below, from a value of each patient: Student's t, as for distances."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) < 2:
        return -1e9
    chance = special.stdtrit(len(known) - 1, USUAL) * max(LEAST_SPREAD, known.std(ddof=1)) * np.sqrt(1 + 1 / len(known))
    return float(known.mean() - chance)


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """Return numbers as a model file keeps them."""
    return torch.from_numpy(np.asarray(values, np.float32))


def least_fine(traits: Sequence[Traits]) -> float:
    """Return the fineness below which only every hundredth square of a patient's images is that is mostly tissue."""
    found = []
    for each in traits:
        seen = each.squares["seen"]
        found.append(fineness(each.squares).sum(axis=0)[seen >= 0.5 * (SQUARE / each.every) ** 2])
    values = np.concatenate(found)
    return float(np.quantile(values, BLURRED)) if len(values) else -np.inf


def reference_of(model: Checkpoint, path: str) -> Reference | None:
    """Return what a model file says of its training images, or None: older files and the tutorial's say nothing.

    Raises
    ------
    CheckpointError
        If it is not what `Reference.stored` makes, or does not fit the network.
    """
    stored = model.get("reference")
    if stored is None or (isinstance(stored, dict) and stored.get("version") != VERSION):
        return None
    channels = 2 ** (model["wf"] + model["depth"] - 1)
    try:
        axes = Axes(**{key: numbers(stored["axes"][key]) for key in ("centre", "scale", "directions")})
        gauges = {
            group: Gauge(**{key: numbers(stored["gauges"][group][key]) for key in ("centre", "precision")})
            for group in GROUPS
        }
        limits = {group: three(stored["limits"][group]) for group in GROUPS}
        by_patient = {group: numbers(stored["by_patient"][group]) for group in GROUPS}
        found = Reference(int(stored["patients"]), axes, gauges, limits, by_patient, float(stored["blurred_below"]))
        sizes = {"colour": 6, "sharpness": 2, "features": len(axes.directions) + 2}
        fits: Any = axes.centre.shape == axes.scale.shape == axes.directions.shape[1:] == (channels,)
        fits &= all(gauges[group].precision.shape == (n, n) for group, n in sizes.items())
        fits &= all(gauges[group].centre.shape == (n,) for group, n in sizes.items())
        fits &= (
            all(np.isfinite(values).all() and min(values) > 0 for values in limits.values()) and (axes.scale > 0).all()
        )
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: what it says of its training images (`reference`) is damaged; train it again"
        ) from error
    if not fits:
        raise CheckpointError(
            f"{path}: what it says of its training images (`reference`) does not fit its network; train it again"
        )
    return found


def three(values: Sequence[Any]) -> tuple[float, float, float]:
    """Return three numbers of a model file."""
    one, two, last = map(float, values)
    return one, two, last


def numbers(tensor: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor of a model file, float64."""
    values = tensor.double().numpy()
    if not np.isfinite(values).all():
        raise ValueError("not a number")
    return values
