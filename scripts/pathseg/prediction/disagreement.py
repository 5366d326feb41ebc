"""How much models contradict each other on a slide, summed over squares of tissue.

The measure is the mutual information of the class and the choice of the model: the entropy of the mean prediction less
the mean entropy of the predictions (Houlsby et al. 2011, arXiv 1112.5745; as a choice of what to annotate, Gal et al.
2017, arXiv 1703.02910). It is high where models are sure of different classes, and zero where all are equally unsure,
as at the edge between two classes that nobody could draw more sharply.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pathseg.images.views import View
from pathseg.prediction.inference import Predictor, predict_tiles


class Disagreement(Predictor):
    """Networks, or one network and the ways to turn and mirror a tile, asked how much they contradict each other."""

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Return the mutual information in nats, float32 [1, height, width], of what `Predictor.predict` takes."""
        mean, entropies, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        # One after another: all predictions together would fill the memory.
        for prediction in self._each_prediction(pixels, height, width):
            probabilities = prediction[: self.n_classes]
            entropies = entropy(probabilities).add_(entropies)
            mean, count = probabilities.add_(mean), count + 1
        return (entropy(mean / count) - entropies / count).clamp_(min=0)[None]


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats [H, W] of probabilities [C, H, W]."""
    return torch.special.entr(probabilities).sum(dim=0)


@dataclass(frozen=True)
class DisagreementMap:
    """Disagreement on a slide, by squares.

    Attributes
    ----------
    sums : numpy.ndarray
        float64 [h, w], mutual information summed over the tissue of a square, in nats times µm².
    tissue : numpy.ndarray
        float64 [h, w], tissue of a square in µm².
    side : float
        Of a square in µm; what is left at the right and lower rim is in none.
    downsample : float
        Finest pixels of the slide per side of a square.
    """

    sums: np.ndarray
    tissue: np.ndarray
    side: float
    downsample: float

    def save(self, path: Path) -> None:
        """Write it as NPZ."""
        with open(path, "wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: str | Path) -> "DisagreementMap":
        """Read what `save` has written."""
        with np.load(path) as stored:
            return cls(stored["sums"], stored["tissue"], float(stored["side"]), float(stored["downsample"]))


def map_disagreement(
    view: View,
    mpp: float,
    downsample: float,
    predictor: Disagreement,
    side: int,
    tile: int | None,
    tissue: np.ndarray | None,
) -> DisagreementMap:
    """Sum the disagreement on a slide over squares.

    Parameters
    ----------
    view
        The slide at the models' resolution.
    mpp
        µm per pixel of the view.
    downsample
        Finest pixels of the slide per pixel of the view.
    predictor
        The networks.
    side
        Of a square in pixels of the view.
    tile, tissue
        Pixels of a tile, and bool [h, w] of the slide; see `pathseg.prediction.inference.predict_bands`.
    """
    shape = -(-view.height // side), -(-view.width // side)
    sums, areas = np.zeros(shape), np.zeros(shape)
    for x, y, (values,), seen in predict_tiles(view, predictor, tile, tissue):
        rows, columns = (
            (start + np.arange(count)) // side for start, count in ((y, seen.shape[0]), (x, seen.shape[1]))
        )
        squares = (rows - rows[0])[:, None] * (columns[-1] - columns[0] + 1) + (columns - columns[0])
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        for total, weights in ((sums, np.where(seen, values, 0)), (areas, seen)):
            counted = np.bincount(squares.ravel(), weights.ravel(), total[part].size)
            total[part] += counted.reshape(total[part].shape)
    complete = np.s_[: view.height // side, : view.width // side]
    return DisagreementMap(sums[complete] * mpp**2, areas[complete] * mpp**2, side * mpp, side * downsample)
