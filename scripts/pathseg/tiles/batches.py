"""Tiles of several databases as one sequence, and the batches of an epoch."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pathseg.labels.values import IGNORE
from pathseg.tiles.augmentation import AugmentationParams
from pathseg.tiles.database import TileDatabase

# Tiles are held in memory if they take no more than this.
MEMORY_BYTES = 2 * 2**30
# Tiles that are looked at together.
TILES_AT_A_TIME = 64


class Batch(NamedTuple):
    """Tiles, and what is to be done to them.

    Attributes
    ----------
    images : Tensor
        uint8 [n, 3, H, W], channels last in memory.
    masks : Tensor
        uint8 [n, H, W], class indices or `IGNORE`.
    edges : Tensor or None
        uint8 [n, H, W], maps of the gaps between objects, if they were asked for.
    insides : Tensor or None
        uint8 [n, H, W], what is inside of objects, if the databases hold it.
    params : AugmentationParams or None
        How they are to be changed, if they are.
    """

    images: Tensor
    masks: Tensor
    edges: Tensor | None = None
    insides: Tensor | None = None
    params: AugmentationParams | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; from pinned memory it is copied while the program goes on."""
        return self._each(lambda values: values.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """Return the batch in memory from which a GPU copies by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        edges, insides = (None if maps is None else function(maps) for maps in (self.edges, self.insides))
        params = None if self.params is None else AugmentationParams(*map(function, self.params))
        return Batch(function(self.images), function(self.masks), edges, insides, params)


class Tiles:
    """The tiles of one or more databases as one sequence, in memory if they fit.

    Parameters
    ----------
    databases
        All with one tile size.
    edges
        Whether to read the edge maps, which the databases must hold. What is inside of objects is read if they hold it.

    Attributes
    ----------
    side : int
        Of a tile, in pixels.
    """

    def __init__(self, databases: list[TileDatabase], edges: bool = False) -> None:
        self.databases = databases
        self._ends = np.cumsum([len(database) for database in databases])
        self._names = ["img", "mask", *(["edge"] if edges else [])]
        if databases[0].attributes.get("objects"):
            self._names.append("inside")
        self._held: list[np.ndarray] | None = None
        self.side: int = databases[0].attributes["tile_size"]
        # Three bytes of a pixel are the image's.
        if len(self) * self.side**2 * (len(self._names) + 2) <= MEMORY_BYTES:
            self._held = [self._read_all(name) for name in self._names]
            for database in databases:
                database.close()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """Say which sample a tile is from and where it lies."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        database = self.databases[number]
        within = index - (int(self._ends[number - 1]) if number else 0)
        x, y = database.corners[within]
        return f"{database.samples[within]} at x={x:.0f}, y={y:.0f}"

    def read(self, indices: np.ndarray) -> Batch:
        """Return the tiles of these numbers [n], in their order."""
        if self._held:
            arrays = [array[indices] for array in self._held]
        else:
            arrays = [self._read_files(name, indices) for name in self._names]
        parts = dict(zip(self._names, map(torch.from_numpy, arrays), strict=True))
        return Batch(parts["img"].permute(0, 3, 1, 2), parts["mask"], parts.get("edge"), parts.get("inside"))

    def _read_all(self, name: str) -> np.ndarray:
        """Return all tiles, read a few at a time: what is read and what is held would be twice as much."""
        result = self._empty(name, len(self))
        for chunk in self._chunks():
            result[chunk] = self._read_files(name, chunk)
        return result

    def _empty(self, name: str, count: int) -> np.ndarray:
        """Return room for so many tiles."""
        return np.empty((count, self.side, self.side, *((3,) if name == "img" else ())), np.uint8)

    def _chunks(self) -> list[np.ndarray]:
        """Return the numbers of all tiles, some at a time."""
        return np.array_split(np.arange(len(self)), math.ceil(len(self) / TILES_AT_A_TIME))

    def _read_files(self, name: str, indices: np.ndarray) -> np.ndarray:
        numbers = np.searchsorted(self._ends, indices, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        result = self._empty(name, len(indices))
        for number in np.unique(numbers):
            chosen = numbers == number
            result[chosen] = self.databases[number].read(name, indices[chosen] - starts[number])
        return result

    def has_known_pixel(self, border: int) -> bool:
        """Say whether any tile has a known pixel that is at least so many pixels from the tile's rim."""
        inside = slice(border, self.side - border)
        return any(bool((self.read(indices).masks[:, inside, inside] != IGNORE).any()) for indices in self._chunks())

    def holders(self, n_classes: int) -> np.ndarray:
        """Return which classes each tile has: bool [N, C]."""
        found = np.zeros((len(self), n_classes), bool)
        for indices in self._chunks():
            masks = self.read(indices).masks.numpy()
            for index in range(n_classes):
                found[indices, index] = (masks == index).any(axis=(1, 2))
        return found

    def batches(
        self,
        plan: list[np.ndarray],
        device: torch.device,
        draw: Callable[[int], AugmentationParams] | None = None,
    ) -> Iterator[Batch]:
        """Yield the batches of a plan on the device, each made while the one before is used.

        Parameters
        ----------
        plan
            Numbers of the tiles of each batch, [n] each.
        device
            Where to.
        draw
            Returns the changes of the batch at a position of the plan; without, there are none.
        """

        def make(position: int) -> Batch:
            batch = self.read(plan[position])
            if draw:
                batch = batch._replace(params=draw(position))
            return batch.pinned() if device.type == "cuda" else batch

        with ThreadPoolExecutor(1) as reader:
            waiting = [reader.submit(make, position) for position in range(min(2, len(plan)))]
            for position in range(len(plan)):
                batch = waiting.pop(0).result()
                if position + 2 < len(plan):
                    waiting.append(reader.submit(make, position + 2))
                yield batch.to(device)


def epoch_plan(
    n_tiles: int, batch_size: int, seed: int, epoch: int, holders: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the numbers of the tiles of each batch of an epoch, [n] each: each once, in an order fixed by both.

    Parameters
    ----------
    n_tiles, batch_size
        Tiles in all, and of a batch.
    seed, epoch
        Fix the order.
    holders
        Which classes each tile has, bool [N, C]: a batch that lacks a class gets a tile with it, in place of another.
    """
    order = torch.randperm(n_tiles, generator=generator_of(seed, epoch)).numpy()
    batches = np.array_split(order, math.ceil(n_tiles / batch_size))
    if holders is not None:
        rng = np.random.default_rng([seed, epoch])
        for batch in batches:
            _complete(batch, holders, rng)
    return batches


def _complete(batch: np.ndarray, holders: np.ndarray, rng: np.random.Generator) -> None:
    """Exchange tiles of a batch until it has each class, the rarest first; none that has a class alone."""
    for index in np.argsort(holders.sum(axis=0), kind="stable"):
        candidates = np.flatnonzero(holders[:, index])
        if not len(candidates) or holders[batch, index].any():
            continue
        # What goes must not take the last tile of another class with it.
        counts = holders[batch].sum(axis=0)
        spare = np.flatnonzero(~(holders[batch] & (counts == 1)).any(axis=1))
        if len(spare):
            batch[rng.choice(spare)] = rng.choice(candidates)


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator whose stream depends on all the numbers (and on nothing that ran before)."""
    mixed = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(mixed[0]) << 32 | int(mixed[1]))
