"""Read PNG, JPEG, BMP and other plain images, which are decoded whole, by OpenCV."""

from pathlib import Path

import cv2
import numpy as np

from pathseg.errors import ImageError
from pathseg.images.blocks import Level, Opened
from pathseg.images.decoding import over_white

# What OpenCV writes to the terminal of a file that it cannot read, the errors here say in a sentence.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def open_plain(path: Path) -> Opened:
    """Open a plain image, which has one level."""
    image = read_plain_image(path)

    def read_level(_level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[y : y + height, x : x + width]

    return Opened([Level(image.shape[1], image.shape[0], 1.0)], read_level, None, "OpenCV")


def read_plain_image(path: Path) -> np.ndarray:
    """Decode a PNG, JPEG or other plain image whole: uint8 [H, W, 3] RGB."""
    pixels = decode(path)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{path}: has {pixels.dtype} pixels; pathseg reads 8 bits per channel, so convert it")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    # In place: a copy may have gigabytes.
    if pixels.shape[2] == 4:
        return over_white(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, pixels))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels)


def decode(path: Path) -> np.ndarray:
    """Decode with OpenCV without any conversion, as [H, W] or [H, W, channels], after a look at the header's size."""
    try:
        count = cv2.imcount(str(path))
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(
            f"{path}: OpenCV refuses it ({error.err or error}); the image is damaged or too large"
        ) from error
    if pixels is None:
        raise ImageError(f"{path}: is not an image that OpenSlide, tifffile or OpenCV can read, or it is damaged")
    if count > 1:
        raise ImageError(f"{path}: holds {count} pictures (animated); save the one you mean as a file of its own")
    return pixels
