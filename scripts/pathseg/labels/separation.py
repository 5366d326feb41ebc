"""Objects of a class told apart where they touch, in a map of any size.

Besides the class map there is a map of what is inside of objects: of each only what is left when its rim is taken off,
so that objects which touch have insides which do not. Insides that are connected (by edges, not corners) are one
object, if some of their pixels are surely inside: what is so nowhere is seldom an object. From all of them at once,
objects grow through the class by one pixel at a time, as far as `reach`: the watershed of flat land (Meyer 1994,
doi 10.1016/0165-1684(94)90060-4). What none reaches is of no object.

Which inside a pixel grows from depends on nothing farther away than the reach, so that a band with so many rows around
it gives what the whole map gives, however large the objects are.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# The probability from which on a calibrated network says that a pixel is surely inside.
SURE = 0.9
# How far objects grow from their insides, in multiples of how far these lie from their rims: what is farther from any
# inside is no part of the object beside it.
REACH = 8


def reach_of(shrink: int) -> int:
    """Return how far objects grow from their insides, which lie so far from their rims, in pixels of the model."""
    return REACH * shrink


def sureness(probabilities: np.ndarray, inside: float, sure: float) -> np.ndarray:
    """Return 1 where a probability says that a pixel is inside, 2 where surely so, and 0 elsewhere, uint8 [H, W]."""
    return (probabilities >= inside).astype(np.uint8) + (probabilities >= sure)


def separate(mask: np.ndarray, insides: np.ndarray, reach: int) -> np.ndarray:
    """Tell the objects of a class apart.

    Parameters
    ----------
    mask
        Where the class is, bool [H, W].
    insides
        1 inside of objects, 2 surely so, 0 elsewhere, uint8 [H, W]; what lies outside of the mask does not count.
    reach
        How far objects grow from their insides, in pixels along rows and columns.

    Returns
    -------
    numpy.ndarray
        int32 [H, W], from 1; 0 where no object is.
    """
    numbers = numbered(mask, insides > 0, reach)
    return only_sure(numbers, insides > 1)


def only_sure(numbers: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Leave out the objects, int [H, W], none of whose pixels is surely inside of one (bool [H, W])."""
    kept = np.bincount(numbers[sure], minlength=int(numbers.max(initial=0)) + 1) > 0
    kept[0] = False
    return np.where(kept[numbers], numbers, 0)


def numbered(mask: np.ndarray, insides: np.ndarray, reach: int) -> np.ndarray:
    """Return what may be objects, as `separate` does, from what is inside, bool [H, W], however sure that is."""
    _, numbers = cv2.connectedComponents((mask & insides).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    _grow(numbers, mask, reach)
    return numbers


def _grow(numbers: np.ndarray, mask: np.ndarray, reach: int) -> None:
    """Grow numbered objects, int32 [H, W], into the rest of a mask, in place.

    Of objects that reach a pixel at the same step, that one has it whose inside comes first from top to bottom and from
    left to right, not the one with the smaller number: numbers depend on where a map is cut.
    """
    # With a frame, so that no row's end is the next one's beginning.
    width = numbers.shape[1] + 2
    framed = np.pad(numbers, 1).ravel()
    free = np.pad(mask & (numbers == 0), 1).ravel()
    steps = np.array([-width, -1, 1, width])
    front = np.flatnonzero(framed)
    front = front[free[front - width] | free[front - 1] | free[front + 1] | free[front + width]]
    for _ in range(reach):
        to = (front[:, None] + steps).ravel()
        whose = np.repeat(framed[front], len(steps))
        open_ = free[to]
        to, first = np.unique(to[open_], return_index=True)
        if not len(to):
            break
        framed[to] = whose[open_][first]
        free[to] = False
        front = to[np.argsort(first)]
    numbers[:] = framed.reshape(-1, width)[1:-1, 1:-1]


@dataclass(frozen=True)
class NumberedRows:
    """Rows of a map whose objects are known, from top to bottom.

    Attributes
    ----------
    y : int
        The first row's number.
    numbers : numpy.ndarray
        int32 [h, W], objects numbered from 1 in these rows alone; 0 where no object is.
    before : numpy.ndarray
        int32 [W], the row before the first, in these rows' numbers: what says which object of the rows before goes on.
        One that ends there may have a number that no pixel of these rows has.
    """

    y: int
    numbers: np.ndarray
    before: np.ndarray


class Separator:
    """Do what `numbered` does, in a map that comes in bands; rows are given back when they are known.

    Parameters
    ----------
    reach
        How far objects grow from their insides, in pixels.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
        # A pixel's object is known so many rows from where the map is cut; the row above must be known too.
        self._below, self._above = reach + 1, reach + 2
        # Rows that are held from `_top` on, of which those before `_next` have been given back.
        self._mask = self._insides = np.empty((0, 0), bool)
        self._top = self._next = 0

    def add(self, mask: np.ndarray, insides: np.ndarray) -> NumberedRows:
        """Take the next rows, bool [h, W] each, see `numbered`, and return those that are known now; it may be none."""
        if not len(self._mask):
            self._mask = self._insides = np.empty((0, mask.shape[1]), bool)
        self._mask, self._insides = np.concatenate([self._mask, mask]), np.concatenate([self._insides, insides])
        return self._known(self._top + len(self._mask) - self._below)

    def finish(self) -> NumberedRows:
        """Return the rows that are left."""
        return self._known(self._top + len(self._mask))

    def _known(self, end: int) -> NumberedRows:
        """Return the rows up to one, and forget those that the next ones do not need."""
        y, width = self._next, self._mask.shape[1]
        numbers, before = np.zeros((max(end - y, 0), width), np.int32), np.zeros(width, np.int32)
        columns = np.flatnonzero(self._mask.any(axis=0))
        if end > y and len(columns):
            # Only where the class is: a slide is wide, and its tissue often is not.
            used = slice(int(columns[0]), int(columns[-1]) + 1)
            found = numbered(self._mask[:, used], self._insides[:, used], self._reach)
            numbers[:, used] = found[y - self._top : end - self._top]
            if y:
                before[used] = found[y - self._top - 1]
        self._next = max(end, y)
        needed = max(self._next - self._above - self._top, 0)
        self._mask, self._insides = self._mask[needed:], self._insides[needed:]
        self._top += needed
        return NumberedRows(y, numbers, before)
