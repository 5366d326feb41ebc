"""How large a pixel is: what to believe of what a file says, and what if the table says something else."""

from pathlib import Path

from pathseg.errors import ResolutionError

# A pixel size in µm outside this range is that of a printer or a screen (600 dpi are 42 µm), not of a microscope.
PLAUSIBLE_MPP = (0.01, 10.0)
# What both sides of a pixel, and file and table, may differ by: more than rounding, less than would be noticed.
SQUARE_TOLERANCE = 0.02
AGREEMENT = 0.05


def plausible_mpp(path: Path, x: float | None, y: float | None) -> float | None:
    """Return µm per pixel of what a file says of both axes, or None if a microscope does not make such pixels.

    Raises
    ------
    ResolutionError
        If the pixels are not square.
    """
    low, high = PLAUSIBLE_MPP
    if x is None or y is None or not low <= x <= high or not low <= y <= high:
        return None
    if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
        raise ResolutionError(
            f"{path}: has pixels of {x:.4g} x {y:.4g} µm; pathseg needs square ones, so resample it or mend its tags"
        )
    return (x + y) / 2


def agreed_mpp(path: Path, own: float | None, given: float | None) -> tuple[float | None, str]:
    """Return µm per pixel, and where it is from: "file", "table" or "unknown".

    Parameters
    ----------
    path
        The slide or image.
    own
        What the file says, if anything.
    given
        What the table says, if anything.

    Raises
    ------
    ResolutionError
        If they contradict each other.
    """
    if own and given and abs(own - given) > AGREEMENT * max(own, given):
        raise ResolutionError(
            f"{path}: the file says {own:.4g} µm per pixel, the column `mpp` of the table {given:.4g}; correct the one "
            "that is wrong (an empty cell takes the file's)"
        )
    if own:
        return own, "file"
    return (given, "table") if given else (None, "unknown")
