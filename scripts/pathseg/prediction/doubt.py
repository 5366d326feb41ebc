"""How unsure models are on a slide, summed over squares of tissue.

The measure is the entropy of the mean prediction (as a choice of what to annotate: Gal et al. 2017, arXiv 1703.02910).
It is high where models are sure of different classes, and where all of them are unsure. What contradiction alone finds
(the mutual information of class and model, Houlsby et al. 2011, arXiv 1112.5745) was learned from more slowly: see
docs/annotate.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pathseg.images.views import View
from pathseg.prediction.inference import Predictor, predict_tiles


class Doubt(Predictor):
    """Networks, or one network and the ways to turn and mirror a tile, asked how unsure they are together."""

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Return the entropy of the mean prediction in nats, float32 [1, height, width]."""
        return entropy(super().predict(pixels, height, width)[: self.n_classes])[None]


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats [H, W] of probabilities [C, H, W]."""
    return torch.special.entr(probabilities).sum(dim=0)


@dataclass(frozen=True)
class DoubtMap:
    """Doubt on a slide, by squares.

    Attributes
    ----------
    sums : numpy.ndarray
        float64 [h, w], entropy summed over the tissue of a square, in nats times µm².
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
    def load(cls, path: str | Path) -> "DoubtMap":
        """Read what `save` has written."""
        with np.load(path) as stored:
            return cls(stored["sums"], stored["tissue"], float(stored["side"]), float(stored["downsample"]))


def map_doubt(
    view: View,
    mpp: float,
    downsample: float,
    predictor: Doubt,
    side: int,
    tile: int | None,
    tissue: np.ndarray | None,
) -> DoubtMap:
    """Sum the doubt on a slide over squares.

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
    return DoubtMap(sums[complete] * mpp**2, areas[complete] * mpp**2, side * mpp, side * downsample)
