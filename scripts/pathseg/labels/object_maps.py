"""A map of the numbers of objects, drawn from their outlines when all are known.

An object gets its number when it ends, and then the rows that it is on are written. So outlines wait on the disk, and
the map is drawn from the top when the last object is there.
"""

import os
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import shapely

from pathseg.labels.drawing import PolygonDrawing


class ObjectMap:
    """Outlines that wait on the disk to be drawn.

    Parameters
    ----------
    folder
        Where there is room.
    """

    def __init__(self, folder: Path) -> None:
        self._scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        # Of each object where its outline ends in the file, and its first and last row.
        self._ends, self._tops, self._bottoms = array("q", [0]), array("d"), array("d")

    def append(self, polygons: np.ndarray) -> None:
        """Add the outlines of the objects with the next numbers, object [n], in pixels of the map."""
        bounds = shapely.bounds(polygons)
        self._tops.extend(bounds[:, 1].tolist())
        self._bottoms.extend(bounds[:, 3].tolist())
        end = self._ends[-1]
        for outline in shapely.to_wkb(polygons).tolist():
            self._scratch.write(outline)
            end += len(outline)
            self._ends.append(end)

    def strips(self, width: int, height: int, rows: int) -> Iterator[np.ndarray]:
        """Yield the map from the top, in strips of so many rows: uint32 [h, width], 0 where no object is."""
        self._scratch.flush()
        tops, bottoms = np.array(self._tops), np.array(self._bottoms)
        for y in range(0, height, rows):
            strip = np.zeros((min(rows, height - y), width), np.uint32)
            here = np.flatnonzero((tops < y + len(strip)) & (bottoms > y))
            if len(here):
                outlines = [shapely.from_wkb(self._outline(index)) for index in here.tolist()]
                PolygonDrawing(outlines, (here + 1).tolist(), (1.0, 1.0)).draw(strip, 0, y)
            yield strip

    def _outline(self, index: int) -> bytes:
        return os.pread(self._scratch.fileno(), self._ends[index + 1] - self._ends[index], self._ends[index])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()
