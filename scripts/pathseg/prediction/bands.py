"""A prediction on its way from the networks: a slide comes in bands, so that it need not be in memory."""

from dataclasses import dataclass

import numpy as np

from pathseg.labels.separation import SURE, sureness

# The least probability times 255 of what is inside: more likely inside than not.
INSIDE = 128


@dataclass(frozen=True)
class Band:
    """A strip of a prediction across the whole slide.

    Attributes
    ----------
    y : int
        First row, in pixels of the view.
    classes : numpy.ndarray
        uint8 [h, W], class indices: of the highest of these probabilities, the first of equals.
    probabilities : numpy.ndarray
        uint8 [C, h, W], probability times 255.
    tissue : numpy.ndarray
        bool [h, W], what was looked at; the rest has class 0.
    insides : numpy.ndarray or None
        uint8 [h, W], probability times 255 of being inside of an object, if the networks have learned it.
    """

    y: int
    classes: np.ndarray
    probabilities: np.ndarray
    tissue: np.ndarray
    insides: np.ndarray | None = None

    def inside(self) -> np.ndarray:
        """Return what is inside of objects, 1, and surely so, 2, in a band of networks that have learned it: [h, W]."""
        assert self.insides is not None
        return sureness(self.insides, INSIDE, 255 * SURE)

    def uncertainty(self) -> np.ndarray:
        """Return how little the most probable class leads the second, uint8 [h, W]: 255 less the difference."""
        first, second = np.zeros_like(self.classes), np.zeros_like(self.classes)
        for plane in self.probabilities:
            np.maximum(second, np.minimum(first, plane), out=second)
            np.maximum(first, plane, out=first)
        return 255 - (first - second)
