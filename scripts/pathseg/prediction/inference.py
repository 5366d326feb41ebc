"""Apply networks to slides of any size: exactly what the network gives for the whole slide, without seams.

A tile is read with a border at least as wide as the network's receptive field, and starts at a multiple of its stride.
The pixels inside the border then have the values that they have in the whole image, mirrored at its edges. Nothing
is blended, because nothing differs.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pathseg.geometry import aligned_range
from pathseg.images.views import Coverage, View
from pathseg.memory import give_back_memory, memory_errors_explained
from pathseg.network.folding import cast, folded
from pathseg.network.probabilities import argmax, softmax
from pathseg.network.unet import UNet, receptive_radius, smallest_input
from pathseg.prediction.bands import Band
from pathseg.prediction.traits import REACHES, Glimpse, Traits

logger = logging.getLogger("pathseg")

# Threads that read, at most, and tiles that are read ahead of the network.
MOST_READERS, TILES_AHEAD = 4, 5

# Size of the part of a tile that is kept, as far as memory allows: wide ones waste the least on their border.
KEPT_HEIGHT, KEPT_WIDTH = 1024, 4096
# Bytes that the maps of a network's first level may take, of which about `LEVEL_MAPS` are alive at a time.
NETWORK_BYTES, LEVEL_MAPS = 2**29, 5
# Bytes that the scores of all classes may take, as logits in the network's type and three times as float32.
SCORE_BYTES = 2**30
# Every so many bands, freed memory is given back to the system if the process holds more than this.
BANDS_BETWEEN_TRIMS = 4
MEMORY_BYTES = 5 * 2**28
# Pixels of a band, and bytes of its probabilities: its height is lowered for wide slides and many classes. Up to five
# bands are alive, where they wait to be written.
BAND_PIXELS, BAND_BYTES = 3 * 2**24, 2**29


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
        Networks in evaluation mode with one number of classes, with an output for insides or without; their
        probabilities are averaged.
    device, dtype
        Where and in which arithmetic they run.
    tta
        Test-time augmentation: average over the eight ways to turn and mirror a tile.

    Attributes
    ----------
    stride : int
        Kept parts start at multiples of it.
    border : int
        Pixels that are read around a kept part, on each side.
    seconds : dict
        Time spent on the search for tissue, on reading (of all reading threads together) and in the networks.
    traits : Traits or None
        What takes note of the image that is predicted; None for nobody.
    """

    def __init__(self, networks: list[UNet], device: torch.device, dtype: torch.dtype, tta: bool = False) -> None:
        self.networks = [cast(folded(network), device, dtype) for network in networks]
        self.device, self.dtype = device, dtype
        self.n_classes, self.insides = networks[0].n_classes, networks[0].insides
        self.stride = max(network.stride for network in networks)
        # What takes note of detail looks a few pixels beyond a tile, too.
        self.border = max(self._up_to_stride(max(REACHES)), *(self._border(network) for network in networks))
        # Each way: quarter turns, and whether it is mirrored.
        self._ways = list(itertools.product(range(4), (False, True))) if tta else [(0, False)]
        self.seconds = {"tissue": 0.0, "reading": 0.0, "network": 0.0}
        self.traits: Traits | None = None
        self._glimpse = Glimpse()
        for network in self.networks:
            network.down_path[-1].register_forward_hook(self._keep_deepest)

    def watch(self, view: View) -> Traits:
        """Take note of what is predicted from now on, of an image that is seen so; return what is noted."""
        self.traits = Traits(view.width, view.height, self.stride, self.n_classes)
        self.traits.twice_smoothed = getattr(view, "between_levels", False)
        return self.traits

    def _keep_deepest(self, _layer: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        self._deepest = output

    def _border(self, network: UNet) -> int:
        if network.padding:
            return self._up_to_stride(receptive_radius(network))
        # Without padding the network itself cuts its border off.
        size = smallest_input(network, 1)
        return (size - network.output_size(size)) // 2

    def kept_size(self, width: int, wanted: int | None) -> tuple[int, int]:
        """Return height and width of the part of a tile that is kept, multiples of the stride.

        Parameters
        ----------
        width
            Width of the slide in pixels of the model.
        wanted
            Side that the user asks for, or None for the size that memory allows.
        """
        highest = max(min(BAND_PIXELS, BAND_BYTES // self.n_classes) // width, 1)
        if wanted:
            side = self._up_to_stride(max(wanted, self.border))
            if side != wanted:
                logger.info(
                    "prediction.tile: takes %d instead of %d, the smallest that serves this network", side, wanted
                )
            return min(side, self._up_to_stride(highest)), side
        per_pixel = LEVEL_MAPS * max(2**network.wf for network in self.networks) * self.dtype.itemsize
        scores_per_pixel = self.n_classes * (self.dtype.itemsize + 3 * 4)
        area, border = min(NETWORK_BYTES // per_pixel, SCORE_BYTES // scores_per_pixel), 2 * self.border
        height = min(KEPT_HEIGHT, highest)
        columns = area // (height + border) - border
        if columns < height:
            columns = max(int(area**0.5) - border, border)
            height = min(height, columns)
        return self._up_to_stride(height), self._up_to_stride(min(columns, KEPT_WIDTH, width))

    def _up_to_stride(self, side: int) -> int:
        return -(-side // self.stride) * self.stride

    def read(self, view: View, tile: _Tile) -> np.ndarray:
        """Read a tile with its border: uint8 [H, W, 3]. Several threads may do so."""
        width, height = (self.input_side(side) for side in (tile.width, tile.height))
        return view.read(tile.x - self.border, tile.y - self.border, width, height)

    def input_side(self, kept: int) -> int:
        """Return the side to read so that every network yields at least `kept` pixels."""
        needed = self._up_to_stride(kept) + 2 * self.border
        unpadded = [smallest_input(network, kept) for network in self.networks if not network.padding]
        return max([needed, *unpadded])

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, height: int, width: int) -> Tensor:
        """Predict a tile's kept part.

        Parameters
        ----------
        pixels
            What `read` has returned.
        height, width
            Size of the kept part.

        Returns
        -------
        Tensor
            Probabilities, float32 [C, height, width], on the device; with insides [C + 1, height, width].
        """
        started = time.monotonic()
        self._glimpse = Glimpse()
        each = self._each_prediction(pixels, height, width)
        mean = next(each)
        count, step = len(self.networks) * len(self._ways), self.traits.every if self.traits else 0
        unsure = [self._entropy(mean, step)] if step and count > 1 else []
        for probabilities in each:
            unsure += [self._entropy(probabilities, step)] if unsure else []
            mean.add_(probabilities)
        if count > 1:
            mean /= count
        if unsure:
            self._glimpse.contradiction = (self._entropy(mean, step) - sum(unsure) / count).clamp_(min=0)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds["network"] += time.monotonic() - started
        return mean

    def _each_prediction(self, pixels: np.ndarray, height: int, width: int) -> Iterator[Tensor]:
        """Yield the probabilities of each network, seen in each way: float32, see `predict`."""
        # uint8 [H, W, 3] is channels-last already; the networks take 0..255.
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(2, 0, 1)[None].to(self.dtype)
        for network, (turns, mirrored) in itertools.product(self.networks, self._ways):
            seen = turned(self._input_for(network, image, height, width), turns, mirrored)
            logits = turned_back(network(seen.contiguous(memory_format=torch.channels_last)), turns, mirrored)
            if self.traits and not turns and not mirrored:
                self._glimpse.deepest.append((self._deepest_of_kept(network, height, width), network.stride))
            top = self.border if network.padding else 0
            kept = logits[0, :, top : top + height, top : top + width]
            probabilities = softmax(kept[: self.n_classes])
            yield (
                torch.cat([probabilities, kept[self.n_classes :].float().sigmoid()]) if self.insides else probabilities
            )

    def _deepest_of_kept(self, network: UNet, height: int, width: int) -> Tensor:
        """Return the deepest layer over the kept part [C, h, w]; without padding it lies two pixels beside."""
        side = network.stride
        # The way up without padding cuts off 2·side - 2 pixels.
        first = (self.border if network.padding else 2 * side - 2) / side
        top = round(first + 0.01)
        return self._deepest[0, :, top : top - (-height // side), top : top - (-width // side)]

    def _entropy(self, probabilities: Tensor, step: int) -> Tensor:
        """Return the entropy of the class in nats, of every n-th pixel [h, w]."""
        return torch.special.entr(probabilities[: self.n_classes, ::step, ::step]).sum(dim=0)

    def take_note(self, tile: _Tile, pixels: np.ndarray, seen: np.ndarray, shares: Tensor) -> None:
        """Note what the tile that was predicted last is like.

        Parameters
        ----------
        tile, pixels
            The tile, and what `read` has returned.
        seen
            bool [h, w], where to look in its kept part.
        shares
            What `predict` has returned.
        """
        if self.traits:
            shares = shares[: self.n_classes]
            self.traits.add((tile.x, tile.y), pixels, self.border, seen, shares, self._glimpse)

    def _input_for(self, network: UNet, image: Tensor, height: int, width: int) -> Tensor:
        """Cut an image [1, C, H, W] to a size that the network takes; an unpadded one needs less border."""
        if network.padding:
            rows, columns = (side // network.stride * network.stride for side in image.shape[-2:])
            return image[..., :rows, :columns]
        start = self.border - self._border(network)
        rows, columns = smallest_input(network, height), smallest_input(network, width)
        return image[..., start : start + rows, start : start + columns]


def predict_bands(
    view: View,
    predictor: Predictor,
    tile: int | None,
    tissue: np.ndarray | None,
    wanted: np.ndarray | None = None,
) -> Iterator[Band]:
    """Predict a slide in bands from top to bottom.

    Parameters
    ----------
    view
        The slide at the model's resolution.
    predictor
        The networks.
    tile
        Side of the part of a tile that is kept, rounded up to the networks' stride; None for the size that memory
        allows. It does not change the result.
    tissue
        bool [h, w] that covers the slide: where to look. Elsewhere the class is 0 with certainty. None for
        everywhere.
    wanted
        bool [h, w] that covers the slide: what lies elsewhere need not be predicted, and has any class. None for all.

    Yields
    ------
    Band
        One for each row of tiles.
    """
    step_y, step_x = predictor.kept_size(view.width, tile)
    covers, rows = _plan(view, (tissue, wanted), step_y, step_x, predictor.stride)
    with _readers() as readers:
        pixels = _read_ahead(readers, predictor, view, list(itertools.chain.from_iterable(rows)))
        for number, (y, row) in enumerate(zip(range(0, view.height, step_y), rows, strict=True), start=1):
            with memory_errors_explained(
                predictor.device, f"tiles have {step_y} x {step_x} pixels; lower prediction.tile, or free memory"
            ):
                band = _predict_band(predictor, pixels, row, covers, y, min(step_y, view.height - y), view.width)
            yield band
            if number % BANDS_BETWEEN_TRIMS == 0:
                give_back_memory(MEMORY_BYTES)


@torch.inference_mode()
def predict_tiles(
    view: View, predictor: Predictor, tile: int | None, tissue: np.ndarray | None, wanted: np.ndarray | None = None
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Predict a slide tile by tile, without rounding; the parameters are those of `predict_bands`.

    Yields
    ------
    x, y : int
        Corner, in pixels of the view.
    probabilities : numpy.ndarray
        float32 [C, h, w].
    tissue : numpy.ndarray
        bool [h, w], what was to be looked at.
    """
    step_y, step_x = predictor.kept_size(view.width, tile)
    covers, rows = _plan(view, (tissue, wanted), step_y, step_x, predictor.stride)
    tiles = list(itertools.chain.from_iterable(rows))
    with _readers() as readers:
        for part, pixels in zip(tiles, _read_ahead(readers, predictor, view, tiles), strict=True):
            probabilities = predictor.predict(pixels, part.height, part.width)
            seen = covers.part(part.y, part.x, part.height, part.width)
            predictor.take_note(part, pixels, seen, probabilities)
            yield part.x, part.y, probabilities.cpu().numpy(), seen


def _plan(
    view: View, masks: tuple[np.ndarray | None, np.ndarray | None], step_y: int, step_x: int, stride: int
) -> tuple[Coverage, list[list[_Tile]]]:
    """Return where there is tissue, the first mask, and the tiles of each row that both masks need."""
    everywhere = np.ones((1, 1), bool)
    covers, where = (Coverage(everywhere if mask is None else mask, view.width, view.height) for mask in masks)
    tiles = [
        [_needed_part((covers, where), y, x, step_y, step_x, stride) for x in range(0, view.width, step_x)]
        for y in range(0, view.height, step_y)
    ]
    return covers, [[tile for tile in row if tile] for row in tiles]


def _readers() -> ThreadPoolExecutor:
    """Return threads that read, no more than the job may use."""
    return ThreadPoolExecutor(min(MOST_READERS, torch.get_num_threads()), thread_name_prefix="reader")


def _read_ahead(
    readers: ThreadPoolExecutor, predictor: Predictor, view: View, tiles: list[_Tile]
) -> Iterator[np.ndarray]:
    """Yield the tiles' pixels in the tiles' order, some of them read before they are asked for."""

    def timed(tile: _Tile) -> tuple[np.ndarray, float]:
        started = time.monotonic()
        return predictor.read(view, tile), time.monotonic() - started

    def next_pixels() -> np.ndarray:
        pixels, seconds = waiting.popleft().result()
        predictor.seconds["reading"] += seconds
        return pixels

    waiting: deque[Future[tuple[np.ndarray, float]]] = deque()
    for tile in tiles:
        waiting.append(readers.submit(timed, tile))
        if len(waiting) > TILES_AHEAD:
            yield next_pixels()
    while waiting:
        yield next_pixels()


@torch.inference_mode()
def _predict_band(
    predictor: Predictor,
    pixels: Iterator[np.ndarray],
    row: list[_Tile],
    covers: Coverage,
    y: int,
    height: int,
    width: int,
) -> Band:
    classes = np.zeros((height, width), np.uint8)
    probabilities = np.zeros((predictor.n_classes, height, width), np.uint8)
    probabilities[0] = 255
    insides = np.zeros((height, width), np.uint8) if predictor.insides else None
    tissue = covers.rows(y, height)
    for tile in row:
        part = np.s_[tile.y - y : tile.y - y + tile.height, tile.x : tile.x + tile.width]
        read = next(pixels)
        predicted = predictor.predict(read, tile.height, tile.width)
        predictor.take_note(tile, read, tissue[part], predicted)
        share = predicted.mul_(255).add_(0.5).to(torch.uint8)
        planes = (slice(None), *part)
        # Of what is delivered: whoever takes the highest of the 8-bit probabilities gets the same classes.
        classes[part] = argmax(share[: predictor.n_classes]).cpu().numpy()
        probabilities[planes] = share[: predictor.n_classes].cpu().numpy()
        if insides is not None:
            insides[part] = share[-1].cpu().numpy()
        if not tissue[part].all():
            glass = ~tissue[part]
            classes[part][glass] = 0
            probabilities[planes][:, glass] = np.where(np.arange(predictor.n_classes) == 0, 255, 0)[:, None]
    return Band(y, classes, probabilities, tissue, insides)


def turned(image: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Turn [..., H, W] by quarter turns, and mirror it then."""
    image = torch.rot90(image, turns, (-2, -1)) if turns else image
    return image.flip(-1) if mirrored else image


def turned_back(image: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Undo `turned`: [..., H, W]."""
    image = image.flip(-1) if mirrored else image
    return torch.rot90(image, -turns, (-2, -1)) if turns else image


def _needed_part(
    masks: tuple[Coverage, Coverage], y: int, x: int, step_y: int, step_x: int, stride: int
) -> _Tile | None:
    """Return the part of a tile that encloses what all masks cover, and starts at multiples of the stride."""
    width, height = masks[0].width, masks[0].height
    extents = [mask.extent(y, x, min(step_y, height - y), min(step_x, width - x)) for mask in masks]
    if None in extents:
        return None
    lows, highs = zip(*[(extent[:2], extent[2:]) for extent in extents if extent], strict=True)
    (y0, x0), (y1, x1) = np.max(lows, axis=0).tolist(), np.min(highs, axis=0).tolist()
    if y0 >= y1 or x0 >= x1:
        return None
    top, bottom = aligned_range(y0, y1, stride, height)
    left, right = aligned_range(x0, x1, stride, width)
    return _Tile(left, top, right - left, bottom - top)
