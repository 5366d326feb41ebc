"""What all readers share: the file must be there, not be too large, and what a decoder raises becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pathseg.errors import ImageError, PathsegError

# Larger images must come as a tiled format: plain images and untiled TIFF can only be decoded whole.
MAX_WHOLE_PIXELS = 2**30

# Pixels that are laid over white together: in between they take several times their bytes.
PIXELS_AT_A_TIME = 2**17


def existing_file(path: str | Path) -> Path:
    """Return the path of a file that is there and not empty.

    Raises
    ------
    ImageError
        If it is not.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: is not a file; check the path and that links lead somewhere")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: is empty (0 bytes); copy it again from its source")
    return path


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Turn whatever decoders and parsers of headers raise into one sentence.

    A damaged file can raise nearly anything: those of imagecodecs derive from RuntimeError, a broken header gives
    KeyError, TypeError, ZeroDivisionError, ParseError and others. Only a want of memory is not the file's fault.

    Parameters
    ----------
    path
        The file.
    what
        What fails, as "cannot be read as an image".

    Raises
    ------
    ImageError
    """
    try:
        yield
    except (PathsegError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: {what} ({reason}); the file is damaged or not an image") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse pixels that would have to be decoded together.

    Raises
    ------
    ImageError
        If there are none, or more than `MAX_WHOLE_PIXELS`.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{path}: has {width} x {height} pixels; the file is damaged or not an image")
    if width * height > MAX_WHOLE_PIXELS:
        raise ImageError(
            f"{path}: {width} x {height} pixels are too many to decode whole (at most {MAX_WHOLE_PIXELS:,}); "
            "convert it to a tiled pyramidal TIFF"
        )


def over_white(rgba: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Lay uint8 [H, W, 4] over white glass: what a scanner has not scanned is transparent."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    result = np.empty((*rgba.shape[:2], 3), np.uint8)
    step = max(1, PIXELS_AT_A_TIME // rgba.shape[1])
    for top in range(0, len(rgba), step):
        part = rgba[top : top + step]
        alpha = part[..., 3:].astype(np.uint16)
        if premultiplied:
            result[top : top + step] = np.minimum(part[..., :3] + (255 - alpha), 255)
        else:
            result[top : top + step] = (part[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return result
