"""What an image is like: its colours, its sharpness, and what the deepest layers of the networks see in it.

All of it is sums over what is looked at, taken from the tiles that are predicted anyway. They are added up over pixels
with a fixed place on the image, so that the cut into tiles does not change them by more than rounding.
"""

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pathseg.images.stains import HED_FROM_OD

# Of images of more pixels, every fourth in each direction is looked at for all but the deepest layer.
EVERY, MANY_PIXELS = 4, 2**21
# Side of the squares, in pixels of the view, in each of which sharpness and ink are judged.
SQUARE = 64
# Mean optical density from which a pixel is stained: Macenko et al. 2009, doi 10.1109/ISBI.2009.5193250.
STAINED = 0.15
DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
# Pixels to the neighbours that detail is measured with, from fine to coarse.
REACHES = (1, 2, 4)
# Blue and green ink take away more red than green light, by this factor at least; tissue stained with H&E does not.
# Black ink leaves less light of any colour than this optical density says.
INK_RATIO, INK_OFFSET, BLACK = 1.2, 0.1, 1.6


@dataclass
class DeepSums:
    """Sums of a network's deepest layer over what was looked at.

    Attributes
    ----------
    weight : float
        Pixels of that layer.
    total, squares : numpy.ndarray
        float64 [C], activations and their squares, summed.
    """

    weight: float
    total: np.ndarray
    squares: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean activation of each channel [C]."""
        return self.total / max(self.weight, 1e-9)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each channel [C]."""
        return np.sqrt(np.maximum(self.squares / max(self.weight, 1e-9) - self.mean**2, 0))


@dataclass
class Glimpse:
    """What a predictor notes of a tile beside its probabilities.

    Attributes
    ----------
    deepest : list of (Tensor, int)
        The deepest layer of each network over the kept part, [C, h, w], and how many pixels one of its pixels is.
    contradiction : Tensor or None
        Mutual information of the class and the choice of the network or way, in nats [h, w], of every n-th pixel; None
        of a single prediction.
    """

    deepest: list[tuple[Tensor, int]] = field(default_factory=list)
    contradiction: Tensor | None = None


class Traits:
    """Sums over what is looked at of an image.

    Parameters
    ----------
    width, height
        Of the view in pixels.
    stride
        Tiles start at multiples of it.
    n_classes
        Number of classes.

    Attributes
    ----------
    every : int
        Each so many-th pixel is looked at, in both directions.
    squares : dict of numpy.ndarray
        float64 [h, w] for each square: `seen` pixels, those of `ink`, and the energy of detail, `detail1`, `detail2`,
        `detail4` (squared Laplacian of the grey picture, by the distance of the neighbours).
    stained : float
        Stained pixels; `density` [3] and `products` [3, 3] are sums of their optical densities and of their products.
    predicted, certain, probable : numpy.ndarray
        float64 [C]: pixels of each class, their probability of it, and the probability of it of all pixels.
    contradiction : float
        Disagreement, summed over the pixels seen.
    deep : list of DeepSums
        Of each network.
    twice_smoothed : bool
        Whether it was read from a reduced level, and made smaller once more.
    """

    def __init__(self, width: int, height: int, stride: int, n_classes: int) -> None:
        self.every = min(EVERY, stride) if width * height > MANY_PIXELS else 1
        shape = -(-height // SQUARE), -(-width // SQUARE)
        self.squares = {key: np.zeros(shape) for key in ("seen", "ink", *(f"detail{reach}" for reach in REACHES))}
        self.stained, self.density, self.products = 0.0, np.zeros(3), np.zeros((3, 3))
        self.predicted, self.certain, self.probable = (np.zeros(n_classes) for _ in range(3))
        self.contradiction = 0.0
        self.several = False
        self.deep: list[DeepSums] = []
        self.twice_smoothed = False

    def add(
        self,
        corner: tuple[int, int],
        pixels: np.ndarray,
        border: int,
        seen: np.ndarray,
        shares: Tensor,
        glimpse: Glimpse,
    ) -> None:
        """Take a tile.

        Parameters
        ----------
        corner
            x and y of its kept part, multiples of the stride.
        pixels
            uint8 [H, W, 3] with a border of so many pixels, `max(REACHES)` at least.
        border
            Of these.
        seen
            bool [h, w], where to look in the kept part.
        shares
            Probabilities [C, h, w].
        glimpse
            What the predictor has noted.
        """
        looked_at = seen[:: self.every, :: self.every]
        for number, (features, side) in enumerate(glimpse.deepest):
            self._add_deep(number, features, seen, side)
        if not looked_at.any():
            return
        colours = pixels[border : border + seen.shape[0], border : border + seen.shape[1]]
        density = DENSITY[colours[:: self.every, :: self.every]]
        stained = density[looked_at & (density.mean(axis=-1) > STAINED)].astype(np.float64)
        self.stained += len(stained)
        self.density += stained.sum(axis=0)
        self.products += stained.T @ stained
        values = {"seen": looked_at, "ink": looked_at & is_ink(density)}
        values |= {
            f"detail{reach}": np.where(looked_at, detail(pixels, border, seen.shape, reach, self.every), 0)
            for reach in REACHES
        }
        self._add_squares(corner, values)
        self._add_shares(shares[:, :: self.every, :: self.every].cpu().numpy(), looked_at)
        if glimpse.contradiction is not None:
            self.several = True
            self.contradiction += float(np.sum(glimpse.contradiction.cpu().numpy(), where=looked_at, dtype=np.float64))

    def _add_squares(self, corner: tuple[int, int], values: dict[str, np.ndarray]) -> None:
        x, y = corner
        rows, columns = (
            (start + self.every * np.arange(count)) // SQUARE
            for start, count in zip((y, x), values["seen"].shape, strict=True)
        )
        place = (rows - rows[0])[:, None] * (columns[-1] - columns[0] + 1) + (columns - columns[0])
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        for key, weights in values.items():
            target = self.squares[key][part]
            target += np.bincount(place.ravel(), weights.ravel(), target.size).reshape(target.shape)

    def _add_shares(self, shares: np.ndarray, looked_at: np.ndarray) -> None:
        highest = shares.argmax(axis=0)
        for index, share in enumerate(shares):
            chosen = looked_at & (highest == index)
            self.predicted[index] += chosen.sum()
            self.certain[index] += np.sum(share, where=chosen, dtype=np.float64)
            self.probable[index] += np.sum(share, where=looked_at, dtype=np.float64)

    def _add_deep(self, number: int, features: Tensor, seen: np.ndarray, side: int) -> None:
        height, width = features.shape[-2:]
        padded = np.zeros((height * side, width * side), np.float32)
        padded[: seen.shape[0], : seen.shape[1]] = seen
        share = padded.reshape(height, side, width, side).mean(axis=(1, 3))
        # In 64 bits, which not all devices have: a spread is a small difference of large sums.
        features = features.cpu().double()
        weighted = features * torch.from_numpy(share)
        sums = [values.sum(dim=(1, 2)).numpy() for values in (weighted, weighted * features)]
        if number == len(self.deep):
            self.deep.append(DeepSums(0.0, np.zeros(len(sums[0])), np.zeros(len(sums[0]))))
        found = self.deep[number]
        found.weight += float(share.sum(dtype=np.float64))
        found.total += sums[0]
        found.squares += sums[1]

    @cached_property
    def colour(self) -> np.ndarray:
        """Amounts of haematoxylin, eosin and the rest, the logarithms of their spreads: [6]."""
        count = max(self.stained, 1)
        mean = self.density / count
        covariance = HED_FROM_OD.T @ (self.products / count - np.outer(mean, mean)) @ HED_FROM_OD
        return np.concatenate([mean @ HED_FROM_OD, np.log(np.maximum(np.diag(covariance), 1e-6)) / 2])

    @cached_property
    def detail(self) -> np.ndarray:
        """Logarithms of the energy of finer detail relative to that of the next coarser: [2]."""
        return fineness({key: values.sum() for key, values in self.squares.items()})

    def blurred(self, limit: float) -> float:
        """Return the share of what was seen that lies in squares whose detail, `detail.sum()`, is below a limit."""
        seen = self.squares["seen"]
        return float(seen[fineness(self.squares).sum(axis=0) < limit].sum() / max(seen.sum(), 1))

    @property
    def ink(self) -> float:
        """Share of what was seen that lies in squares of which more than half is ink."""
        seen = self.squares["seen"]
        return float(seen[self.squares["ink"] > seen / 2].sum() / max(seen.sum(), 1))

    @property
    def expected_dice(self) -> np.ndarray:
        """Dice of each class, if probabilities mean what they say [C]; NaN of a class that has no probability."""
        total = self.predicted + self.probable
        return np.where(total > 1, 2 * self.certain / np.maximum(total, 1e-9), np.nan)


def is_ink(density: np.ndarray) -> np.ndarray:
    """Say which pixels of optical densities [H, W, 3] have a colour of blue, green or black ink: bool [H, W].

    Red ink is not told from blood and eosin.
    """
    red, green = density[..., 0], density[..., 1]
    return (red > INK_RATIO * green + INK_OFFSET) | (density.min(axis=-1) > BLACK)


def detail(pixels: np.ndarray, border: int, size: tuple[int, ...], reach: int, every: int) -> np.ndarray:
    """Return the squared Laplacian of the grey picture: int32, of every n-th pixel of the kept part [h, w].

    Parameters
    ----------
    pixels
        uint8 [H, W, 3] with a border.
    border, size
        Pixels of the border at the top and left, and the size of the kept part.
    reach
        Pixels to the four neighbours.
    every
        Each so many-th pixel.
    """
    # Light that haematoxylin and eosin both take away.
    grey = pixels[..., 1]

    def moved(down: int, right: int) -> np.ndarray:
        top, left = border + down, border + right
        return grey[top : top + size[0] : every, left : left + size[1] : every].astype(np.int32)

    neighbours = moved(-reach, 0) + moved(reach, 0) + moved(0, -reach) + moved(0, reach)
    return (neighbours - 4 * moved(0, 0)) ** 2


def fineness(energy: dict[str, np.ndarray]) -> np.ndarray:
    """Return the logarithms of the energy of detail relative to the next coarser: [2, ...]."""
    # Half a grey level per pixel: what nothing has no detail of.
    noise = energy["seen"] / 4 + 1e-9
    levels = [np.log(energy[f"detail{reach}"] + noise) for reach in REACHES]
    return np.array([fine - coarse for fine, coarse in itertools.pairwise(levels)])
