"""Bring predictions to another grid of pixels: that of the masks which they are compared with.

A probability at a pixel is interpolated bilinearly between the middles of the predicted pixels, or, where these are
smaller, averaged over the pixel's area; beyond the outermost middles it stays what it is there. The class is that of
the highest probability, the first of equals. It is done on the 8-bit probabilities that are delivered, so that anyone
can repeat it from `probability.tif`.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from pathseg.prediction.bands import Band

# Numbers, pixels times classes, that are scaled at a time.
STRIP_NUMBERS = 2**23


def axis_weights(length: int, wanted: int) -> csr_array:
    """Return the weight of each of `length` pixels in each of `wanted` along one axis: float32 [wanted, length]."""
    factor = length / wanted
    if factor <= 1:
        middles = np.clip((np.arange(wanted) + 0.5) * factor - 0.5, 0, length - 1)
        low = np.minimum(middles.astype(int), max(length - 2, 0))
        columns = np.stack([low, np.minimum(low + 1, length - 1)], axis=1)
        values = np.stack([1 - (middles - low), middles - low], axis=1)
    else:
        edges = np.arange(wanted + 1) * factor
        columns = np.floor(edges[:-1]).astype(int)[:, None] + np.arange(int(np.ceil(factor)) + 1)
        inside = np.minimum(columns + 1, edges[1:, None]) - np.maximum(columns, edges[:-1, None])
        values = np.clip(inside, 0, None) / factor
        columns = np.minimum(columns, length - 1)
    rows = np.repeat(np.arange(wanted), columns.shape[1])
    weights = csr_array((values.ravel(), (rows, columns.ravel())), shape=(wanted, length), dtype=np.float32)
    weights.eliminate_zeros()
    weights.sort_indices()
    return weights


def scaled(bands: Iterator[Band], size: tuple[int, int], wanted: tuple[int, int]) -> Iterator[Band]:
    """Bring the bands of a prediction to another size.

    Parameters
    ----------
    bands
        From top to bottom.
    size, wanted
        Width and height that they have in all, and that they should have.

    Yields
    ------
    Band
        From top to bottom, in pixels of the wanted size; each is as high as memory allows.
    """
    if size == wanted:
        yield from bands
        return
    across, down = axis_weights(size[0], wanted[0]), axis_weights(size[1], wanted[1])
    columns = ((np.arange(wanted[0]) + 0.5) * size[0] / wanted[0]).astype(int)
    rows = ((np.arange(wanted[1]) + 0.5) * size[1] / wanted[1]).astype(int)
    firsts, lasts = down.indices[down.indptr[:-1]], down.indices[down.indptr[1:] - 1]
    y, top, held = 0, 0, None
    for band in bands:
        held = band if held is None else _joined(held, band)
        ready = int(np.searchsorted(lasts, top + len(held.classes)))
        step = max(1, STRIP_NUMBERS // (wanted[0] * len(held.probabilities)))
        for start in range(y, ready, step):
            part = slice(start, min(start + step, ready))
            weights = down[part, top : top + len(held.classes)]
            planes = np.stack([(across @ (weights @ plane.astype(np.float32)).T).T for plane in held.probabilities])
            tissue = held.tissue[np.ix_(rows[part] - top, columns)]
            insides = None
            if held.insides is not None:
                plane = weights @ held.insides.astype(np.float32)
                insides = ((across @ plane.T).T + 0.5).astype(np.uint8)
            yield Band(start, _highest(planes), (planes + 0.5).astype(np.uint8), tissue, insides)
        y = max(y, ready)
        # What the next rows need is kept.
        needed = int(firsts[y]) - top if y < len(firsts) else 0
        insides = None if held.insides is None else held.insides[needed:]
        held = Band(held.y, held.classes[needed:], held.probabilities[:, needed:], held.tissue[needed:], insides)
        top += needed


def _joined(one: Band, other: Band) -> Band:
    insides = None
    if one.insides is not None and other.insides is not None:
        insides = np.concatenate([one.insides, other.insides])
    return Band(
        one.y,
        np.concatenate([one.classes, other.classes]),
        np.concatenate([one.probabilities, other.probabilities], axis=1),
        np.concatenate([one.tissue, other.tissue]),
        insides,
    )


def _highest(planes: np.ndarray) -> np.ndarray:
    return (planes[1] > planes[0]).view(np.uint8) if len(planes) == 2 else planes.argmax(axis=0).astype(np.uint8)
