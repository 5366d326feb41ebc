"""Objects as they are delivered: how far they reach, and the table of all objects of a slide."""

import gzip
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from pathseg.labels.objects import measure
from pathseg.labels.outlines import Regions
from pathseg.table_files import tsv_text


def measured(
    objects: Regions, first: int, scale: tuple[float, float], unit: str
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Measure objects in the units of a slide.

    Parameters
    ----------
    objects
        In pixels of the class map.
    first
        Number of the first of them.
    scale
        Units per pixel of the class map, in x and y.
    unit
        "um" for µm, "px" for pixels of the slide's finest level.

    Returns
    -------
    table : pandas.DataFrame
        A row for each: `object` (its number), `x_um`, `y_um`, `area_um2`, `perimeter_um`, `major_axis_um`,
        `minor_axis_um`, `eccentricity`, `solidity`, `mean_probability`; with `px` where that is the unit.
    measurements : dict of numpy.ndarray
        The same but the place, by the names that QuPath shows.
    """
    found = measure(objects)
    mean = (scale[0] * scale[1]) ** 0.5
    shown_unit = "µm" if unit == "um" else "px"
    table = pd.DataFrame({"object": np.arange(first, first + len(objects))})
    measurements: dict[str, np.ndarray] = {"Object": table["object"].to_numpy()}
    for name, factor in (("x", scale[0]), ("y", scale[1])):
        table[f"{name}_{unit}"] = (found[name] * factor).round(2)
    table[f"area_{unit}2"] = (found["area"] * scale[0] * scale[1]).round(2)
    measurements[f"Area {shown_unit}²"] = table[f"area_{unit}2"].to_numpy()
    for name in ("perimeter", "major_axis", "minor_axis"):
        table[f"{name}_{unit}"] = (found[name] * mean).round(2)
        measurements[f"{name.replace('_', ' ').capitalize()} {shown_unit}"] = table[f"{name}_{unit}"].to_numpy()
    for name in ("eccentricity", "solidity", "mean_probability"):
        table[name] = found[name].round(4)
        measurements[name.replace("_", " ").capitalize()] = table[name].to_numpy()
    return table, measurements


class ObjectTable:
    """Write a table of objects as a stream, TSV compressed by gzip; the same objects give the same bytes.

    Parameters
    ----------
    path
        File to write; the caller renames it when it is complete.
    """

    def __init__(self, path: Path) -> None:
        self._raw = open(path, "wb")  # noqa: SIM115
        self._file = gzip.GzipFile("", "wb", compresslevel=4, fileobj=self._raw, mtime=0)
        self._header = True

    def append(self, table: pd.DataFrame) -> None:
        """Add rows; the first call, of which none may be missing, gives the columns their names."""
        self._file.write(tsv_text(table, self._header).encode())
        self._header = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self._raw.close()
