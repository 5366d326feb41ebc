"""A coarse mask, such as that of a slide's tissue, seen at the size of a slide."""

import numpy as np


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
        rows = self._rows[y : y + height]
        if not self.mask[rows[0] : rows[-1] + 1].any():
            return np.zeros((height, self.width), bool)
        return self.mask[np.ix_(rows, self._columns)]

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
