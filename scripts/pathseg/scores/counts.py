"""What is counted when predictions are compared with masks: sums that add up over images, patients and folds."""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from pathseg.errors import DatabaseError
from pathseg.files import atomic_path
from pathseg.scores.objects import BOUNDARY_COUNTS, OBJECT_COUNTS
from pathseg.scores.pixels import confusion_matrix

# Probabilities are counted in steps of 1/255.
LEVELS = 256


@dataclass
class Counts:
    """Counts of an image, or summed over several.

    Attributes
    ----------
    confusion : numpy.ndarray
        Pixels by true (rows) and predicted class [C, C].
    histogram : numpy.ndarray
        For each class, pixels by its probability, and whether they are of another class or of it [C, 256, 2].
    confidence : numpy.ndarray
        Pixels by the probability of the predicted class, and whether that is wrong or right [256, 2].
    unseen : numpy.ndarray
        True pixels of each class in which the search for tissue saw none [C].
    objects : numpy.ndarray
        For each class, see `pathseg.scores.objects.OBJECT_COUNTS` [C, 15]; distances in µm.
    boundary : numpy.ndarray
        For each class, see `pathseg.scores.objects.BOUNDARY_COUNTS` [C, 4].
    too_large : numpy.ndarray
        Images that are too large for scores of objects and outlines [].
    area_mm2 : numpy.ndarray
        Where objects were counted; NaN if the size of an image's pixels is not known [].
    """

    confusion: np.ndarray
    histogram: np.ndarray
    confidence: np.ndarray
    unseen: np.ndarray
    objects: np.ndarray
    boundary: np.ndarray
    too_large: np.ndarray
    area_mm2: np.ndarray

    @classmethod
    def zeros(cls, n_classes: int) -> Self:
        """Return counts of nothing."""
        return cls(
            np.zeros((n_classes, n_classes)),
            np.zeros((n_classes, LEVELS, 2)),
            np.zeros((LEVELS, 2)),
            np.zeros(n_classes),
            np.zeros((n_classes, len(OBJECT_COUNTS))),
            np.zeros((n_classes, len(BOUNDARY_COUNTS))),
            np.zeros(()),
            np.zeros(()),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def add_pixels(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray,
        tissue: np.ndarray | None = None,
    ) -> None:
        """Count pixels whose class is known.

        Parameters
        ----------
        truth, predicted
            Class indices [n].
        probabilities
            uint8 [C, n].
        tissue
            bool [n], what the search for tissue saw; None for everything.
        """
        self.confusion += confusion_matrix(truth, predicted, len(self.confusion))
        for index, probability in enumerate(probabilities):
            self.histogram[index] += _by_level(probability, truth == index)
        confidence = np.take_along_axis(probabilities, predicted[None].astype(np.int64), axis=0)[0]
        self.confidence += _by_level(confidence, truth == predicted)
        if tissue is not None:
            self.unseen += np.bincount(truth[~tissue], minlength=len(self.confusion))


def _by_level(probability: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Count uint8 probabilities by value, and by whether `true`: [256, 2]."""
    return np.bincount(probability.astype(np.int64) * 2 + true, minlength=2 * LEVELS).reshape(LEVELS, 2)


@dataclass
class PatientCounts:
    """Counts of patients.

    Attributes
    ----------
    parts, patients : list of str
        The part and the patient of each.
    counts : list of Counts
        Of each.
    objects : str
        What objects are: "instances" (numbered by hand), "components" (connected pixels), or "both", by image.
    images : list of dict
        Of each image what is said of it and how well it was predicted, see `pathseg.scores.images.image_row`.
    """

    parts: list[str]
    patients: list[str]
    counts: list[Counts]
    objects: str
    images: list[dict[str, Any]] = field(default_factory=list)

    def stacked(self, part: str) -> Counts:
        """Return the counts of a part's patients as arrays with one more, leading axis."""
        chosen = [counts for counts, of in zip(self.counts, self.parts, strict=True) if of == part]
        return Counts(*(np.stack([getattr(c, field.name) for c in chosen]) for field in fields(Counts)))

    def save(self, path: str | Path) -> None:
        """Write all to a file (.npz)."""
        arrays = {field.name: np.stack([getattr(c, field.name) for c in self.counts]) for field in fields(Counts)}
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                parts=np.array(self.parts),
                patients=np.array(self.patients),
                what_objects_are=np.array(self.objects),
                images=np.array(json.dumps(self.images)),
                **arrays,  # type: ignore[arg-type]
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` has written.

        Raises
        ------
        DatabaseError
            If it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = [file[field.name] for field in fields(Counts)]
                counts = [Counts(*of_one) for of_one in zip(*arrays, strict=True)]
                parts, patients, images = file["parts"].tolist(), file["patients"].tolist(), str(file["images"])
                return cls(parts, patients, counts, str(file["what_objects_are"]), json.loads(images))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DatabaseError(f"{path}: is damaged; delete it and run again") from error


def one_or_both(kinds: set[str]) -> str:
    """Say what objects are, of several images or folds."""
    return next(iter(kinds)) if len(kinds) == 1 else "both"


def pooled(folds: Iterable[PatientCounts]) -> PatientCounts:
    """Put the counts of several models together; a patient whom several have scored is summed over them."""
    together: dict[tuple[str, str], Counts] = {}
    kinds, images = set(), []
    for fold in folds:
        kinds.add(fold.objects)
        images += fold.images
        for part, patient, counts in zip(fold.parts, fold.patients, fold.counts, strict=True):
            key = part, patient
            together[key] = together[key] + counts if key in together else counts
    # All of the unseen patients, then the test's.
    keys = sorted(together, key=lambda key: (key[0] != "validation", key))
    return PatientCounts(
        [part for part, _ in keys],
        [patient for _, patient in keys],
        [together[key] for key in keys],
        one_or_both(kinds),
        sorted(images, key=lambda row: (row["part"] != "validation", row["part"], row["patient"])),
    )
