"""Apply networks to slides of any size: exactly what the network gives for the whole slide, without seams.

A tile is read with a border at least as wide as the network's receptive field, and starts at a multiple of its stride.
The pixels inside the border then have the values that they have in the whole image, mirrored at its edges. Nothing
is blended, because nothing differs.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pathseg.devices import autocast
from pathseg.geometry import aligned_range
from pathseg.unet import UNet, receptive_radius, smallest_input
from pathseg.views import View

# Tiles that are read ahead of the network.
TILES_AHEAD = 3


@dataclass(frozen=True)
class Band:
    """A strip of a prediction across the whole slide.

    Attributes
    ----------
    y : int
        First row, in pixels of the view.
    classes : numpy.ndarray
        uint8 [h, W], class indices.
    probabilities : numpy.ndarray
        uint8 [C, h, W], probability times 255.
    tissue : numpy.ndarray
        bool [h, W], what was looked at; the rest has class 0.
    """

    y: int
    classes: np.ndarray
    probabilities: np.ndarray
    tissue: np.ndarray


@dataclass(frozen=True)
class _Tile:
    """The part of a tile that is kept, in pixels of the view."""

    x: int
    y: int
    width: int
    height: int


class Predictor:
    """One or more networks, ready to predict tiles of any size.

    Parameters
    ----------
    networks
        Networks in evaluation mode with one number of classes; their probabilities are averaged.
    device, dtype
        Where and in which arithmetic they run.

    Attributes
    ----------
    stride : int
        Kept parts start at multiples of it.
    border : int
        Pixels that are read around a kept part, on each side.
    """

    def __init__(self, networks: list[UNet], device: torch.device, dtype: torch.dtype) -> None:
        self.networks = [network.to(device, memory_format=torch.channels_last).eval() for network in networks]
        self.device, self.dtype = device, dtype
        self.n_classes = networks[0].n_classes
        self.stride = max(network.stride for network in networks)
        self.border = max(self._border(network) for network in networks)

    def _border(self, network: UNet) -> int:
        if network.padding:
            return -(-receptive_radius(network) // self.stride) * self.stride
        # Without padding the network itself cuts its border off.
        size = smallest_input(network, 1)
        return (size - network.output_size(size)) // 2

    def read(self, view: View, tile: _Tile) -> np.ndarray:
        """Read a tile with its border: uint8 [H, W, 3]."""
        width, height = (self._input_side(side) for side in (tile.width, tile.height))
        return view.read(tile.x - self.border, tile.y - self.border, width, height)

    def _input_side(self, kept: int) -> int:
        """Return the side to read so that every network yields at least `kept` pixels."""
        needed = -(-kept // self.stride) * self.stride + 2 * self.border
        unpadded = [smallest_input(network, kept) for network in self.networks if not network.padding]
        return max([needed, *unpadded])

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Return the class probabilities of a tile's kept part.

        Parameters
        ----------
        pixels
            What `read` has returned.
        height, width
            Size of the kept part.

        Returns
        -------
        Tensor
            float32 [C, height, width] on the device.
        """
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(2, 0, 1)[None].float() / 255
        image = image.contiguous(memory_format=torch.channels_last)
        total: Tensor | None = None
        for network in self.networks:
            with autocast(self.device, self.dtype):
                logits = network(self._input_for(network, image, height, width))
            top = self.border if network.padding else 0
            logits = logits[0, :, top : top + height, top : top + width].float()
            probability = torch.softmax(logits, dim=0)
            total = probability if total is None else total + probability
        return total / len(self.networks)

    def _input_for(self, network: UNet, image: Tensor, height: int, width: int) -> Tensor:
        """Cut an image [1, C, H, W] to a size that the network takes; an unpadded one needs less border."""
        if network.padding:
            rows, columns = (side // network.stride * network.stride for side in image.shape[-2:])
            return image[..., :rows, :columns]
        start = self.border - self._border(network)
        rows, columns = smallest_input(network, height), smallest_input(network, width)
        return image[..., start : start + rows, start : start + columns]


def predict_bands(view: View, predictor: Predictor, tile: tuple[int, int], tissue: np.ndarray | None) -> Iterator[Band]:
    """Predict a slide in bands from top to bottom.

    Parameters
    ----------
    view
        The slide at the model's resolution.
    predictor
        The networks.
    tile
        Height and width of the part of a tile that is kept, rounded up to the networks' stride. They do not change
        the result.
    tissue
        bool [h, w] that covers the slide: where to look. Elsewhere the class is 0 with certainty. None for
        everywhere.

    Yields
    ------
    Band
        One for each row of tiles.
    """
    step_y, step_x = (-(-side // predictor.stride) * predictor.stride for side in tile)
    everywhere = np.ones((1, 1), bool)
    covers = Coverage(tissue if tissue is not None else everywhere, view.width, view.height)
    tiles = [
        [_tissue_part(covers, y, x, step_y, step_x, predictor.stride) for x in range(0, view.width, step_x)]
        for y in range(0, view.height, step_y)
    ]
    rows = [[tile for tile in row if tile] for row in tiles]
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        pixels = _read_ahead(reader, predictor, view, list(itertools.chain.from_iterable(rows)))
        for y, row in zip(range(0, view.height, step_y), rows, strict=True):
            yield _predict_band(predictor, pixels, row, covers, y, min(step_y, view.height - y), view.width)


def _read_ahead(
    reader: ThreadPoolExecutor, predictor: Predictor, view: View, tiles: list[_Tile]
) -> Iterator[np.ndarray]:
    """Yield the tiles' pixels, some of them read before they are asked for."""
    waiting: list[Future[np.ndarray]] = []
    for tile in tiles:
        waiting.append(reader.submit(predictor.read, view, tile))
        if len(waiting) > TILES_AHEAD:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _predict_band(
    predictor: Predictor,
    pixels: Iterator[np.ndarray],
    row: list[_Tile],
    covers: "Coverage",
    y: int,
    height: int,
    width: int,
) -> Band:
    classes = np.zeros((height, width), np.uint8)
    probabilities = np.zeros((predictor.n_classes, height, width), np.uint8)
    probabilities[0] = 255
    tissue = covers.rows(y, height)
    for tile in row:
        predicted = predictor.predict(next(pixels), tile.height, tile.width)
        part = np.s_[tile.y - y : tile.y - y + tile.height, tile.x : tile.x + tile.width]
        looked_at = tissue[part]
        best = predicted.argmax(dim=0).to(torch.uint8).cpu().numpy()
        share = (predicted * 255).round().to(torch.uint8).cpu().numpy()
        classes[part] = np.where(looked_at, best, 0)
        probabilities[(slice(None), *part)] = np.where(looked_at, share, probabilities[(slice(None), *part)])
    return Band(y, classes, probabilities, tissue)


class Coverage:
    """A mask of tissue seen at the size of a view.

    Parameters
    ----------
    mask
        bool [h, w] that covers the view.
    width, height
        Size of the view in pixels.
    """

    def __init__(self, mask: np.ndarray, width: int, height: int) -> None:
        self.mask, self.width, self.height = mask, width, height
        self._columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
        self._rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)

    def rows(self, y: int, height: int) -> np.ndarray:
        """Return rows y ... y+height-1 of the mask at the view's size: bool [height, width]."""
        return self.mask[np.ix_(self._rows[y : y + height], self._columns)]

    def extent(self, y: int, x: int, height: int, width: int) -> tuple[int, int, int, int] | None:
        """Return (y0, x0, y1, x1) that encloses the tissue in a rectangle, all in pixels of the view; None if none."""
        rows, columns = self._rows[y : y + height], self._columns[x : x + width]
        cells = self.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if not cells.any():
            return None
        used_rows = np.flatnonzero(cells.any(axis=1))[[0, -1]] + rows[0]
        used_columns = np.flatnonzero(cells.any(axis=0))[[0, -1]] + columns[0]
        y0, y1 = np.searchsorted(rows, used_rows[0], "left"), np.searchsorted(rows, used_rows[1], "right")
        x0, x1 = np.searchsorted(columns, used_columns[0], "left"), np.searchsorted(columns, used_columns[1], "right")
        return y + int(y0), x + int(x0), y + int(y1), x + int(x1)


def _tissue_part(covers: Coverage, y: int, x: int, step_y: int, step_x: int, stride: int) -> _Tile | None:
    """Return the part of a tile that encloses its tissue and starts at multiples of the stride."""
    extent = covers.extent(y, x, min(step_y, covers.height - y), min(step_x, covers.width - x))
    if extent is None:
        return None
    y0, x0, y1, x1 = extent
    top, bottom = aligned_range(y0, y1, stride, covers.height)
    left, right = aligned_range(x0, x1, stride, covers.width)
    return _Tile(left, top, right - left, bottom - top)
