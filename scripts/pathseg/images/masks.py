"""Read label images: whole numbers as they are stored, whatever colours a viewer would show."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from pathseg.errors import ImageError
from pathseg.images.decoding import MAX_WHOLE_PIXELS, check_size, decoding, existing_file
from pathseg.images.plain import decode
from pathseg.images.tiff import is_tiff, main_picture

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_GREY, PNG_INDEXED = 0, 3

# Pillow has a limit of its own, a sixth of ours, which was checked by then.
Image.MAX_IMAGE_PIXELS = MAX_WHOLE_PIXELS


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image whole, values as they are stored.

    Returns
    -------
    numpy.ndarray
        uint8 or uint16 [H, W].

    Raises
    ------
    ImageError
        If it is not an image of one channel (three equal channels are taken as one).
    """
    path = existing_file(path)
    with decoding(path, "cannot be read as a mask"):
        labels = _read_tiff_labels(path) if is_tiff(path) else _read_plain_labels(path)
    if labels.ndim == 3:
        if labels.shape[2] not in (3, 4) or not (labels[..., :1] == labels[..., :3]).all():
            raise ImageError(
                f"{path}: is a colour picture; a mask must hold one number per pixel (the class's mask_value), so save "
                "it as a grey or indexed image"
            )
        labels = labels[..., 0]
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    if labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path}: has {labels.dtype} pixels; a mask has 8 or 16 bits of whole numbers")
    return np.ascontiguousarray(labels)


def _read_plain_labels(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        header = file.read(26)
    bits, colour_type = header[24:26] if header.startswith(PNG_MAGIC) and len(header) == 26 else (0, 0)
    if bits and colour_type != PNG_INDEXED:
        pixels = decode(path)
        # OpenCV stretches grey levels of 1, 2 and 4 bits to 0 ... 255.
        return pixels // (255 // (2**bits - 1)) if colour_type == PNG_GREY and bits < 8 else pixels
    try:
        with Image.open(path) as image:
            check_size(path, *image.size)
            # OpenCV shows an indexed image in its palette's colours; the labels are the indices.
            if image.mode in ("P", "1") and getattr(image, "n_frames", 1) == 1:
                return np.asarray(image)
    except UnidentifiedImageError:
        pass  # OpenCV may know it, or says that it does not
    return decode(path)


def _read_tiff_labels(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        pages, _ = main_picture(path, tiff)
        if len(pages) > 1:
            raise ImageError(f"{path}: holds separate channels; a mask must hold one number per pixel, in one channel")
        (page,) = pages
        check_size(path, page.imagewidth, page.imagelength)
        pixels = page.asarray()
        separate = page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        return np.moveaxis(pixels, 0, -1) if separate else pixels
