"""Write pyramids as scanners and converters write them, with sides that nothing divides."""

from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np
import tifffile
from dicom_files import write_dicom

KINDS = ("classic", "bigtiff", "svs", "ome", "ome channels", "stripped", "untiled", "dicom")
COMPRESSIONS = ("jpeg", "jpeg2000", "jpeg2000 ycbcr", "zlib", "none")


@dataclass(frozen=True)
class Layout:
    """How a pyramid is written.

    Attributes
    ----------
    kind, compression : str
        One of `KINDS` and `COMPRESSIONS`.
    tile : int
        Side of a tile.
    factors : tuple of int
        How many finest pixels a pixel of each smaller level spans.
    """

    kind: str
    compression: str
    tile: int
    factors: tuple[int, ...]


def smooth_picture(height, width):
    """Return a picture uint8 [H, W, 3] of smooth waves, which show any shift."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (np.sin(x / 9 + y / 31), np.cos(x / 23 - y / 7), np.sin((x + y) / 17))
    return (np.stack(waves, axis=-1) * 100 + 127).astype(np.uint8)


def reduced(picture, factor):
    """Average blocks and leave out what is left of the sides, as scanners do: floor(side / factor) pixels."""
    height, width = (side // factor for side in picture.shape[:2])
    picture = picture[: height * factor, : width * factor]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def levels_of(picture, layout):
    """Return the levels, the finest first: uint8 [H, W, 3] each."""
    return [picture, *(reduced(picture, factor) for factor in layout.factors)]


def write_scan(path, picture, layout, mpp):
    """Write uint8 [H, W, 3] as a pyramid; returns its file, for DICOM one in a folder that has the name of `path`."""
    levels = levels_of(picture, layout)
    if layout.kind == "dicom":
        return write_dicom(path.with_suffix(""), levels, layout.compression, layout.tile, mpp)
    if layout.kind == "svs":
        _write_svs(path, levels, layout, mpp)
    elif layout.kind.startswith("ome"):
        _write_ome(path, levels, layout, mpp)
    else:
        _write_classic(path, levels, layout, mpp)
    return path


def _options(image, layout):
    """Return what tifffile needs to write a level; Aperio's JPEG 2000 it does not write, so that is encoded here."""
    options = {"photometric": "rgb", "tile": (layout.tile, layout.tile)}
    if layout.compression == "jpeg":
        # Aperio stores RGB, others YCbCr with half the colours.
        colours = {"outcolorspace": "rgb"} if layout.kind == "svs" else {}
        return image, options | {"compression": "jpeg", "compressionargs": {"level": 90, **colours}}
    if layout.compression.startswith("jpeg2000"):
        ycbcr = layout.compression.endswith("ycbcr")
        encoded = [_jpeg2000(tile, ycbcr) for tile in _tiles(image, layout.tile)]
        options |= {"compression": 33003 if ycbcr else 33005, "shape": image.shape, "dtype": np.uint8}
        return iter(encoded), options
    return image, options | ({"compression": "zlib"} if layout.compression == "zlib" else {})


def _tiles(image, side):
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield np.ascontiguousarray(padded[y : y + side, x : x + side])


def _jpeg2000(tile, ycbcr):
    if ycbcr:
        tile = np.ascontiguousarray(cv2.cvtColor(tile, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]])
    return imagecodecs.jpeg2k_encode(tile, level=45, codecformat="j2k", mct=not ycbcr)


def _resolution(mpp):
    return {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}


def _write_classic(path, levels, layout, mpp):
    with tifffile.TiffWriter(path, bigtiff=layout.kind == "bigtiff") as tiff:
        for number, image in enumerate(levels):
            data, options = _options(image, layout)
            if layout.kind in ("stripped", "untiled"):
                options["tile"] = None
                options["rowsperstrip"] = 16 if layout.kind == "stripped" else len(image)
            tiff.write(data, subfiletype=int(number > 0), metadata=None, **_resolution(mpp), **options)


def _write_svs(path, levels, layout, mpp):
    """Write pages in Aperio's order: the picture, a thumbnail, its smaller levels, label and macro."""
    height, width = levels[0].shape[:2]
    coder = "J2K/YUV16" if layout.compression.startswith("jpeg2000") else "JPEG/RGB"
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] ({layout.tile}x{layout.tile})"
    extra = cv2.resize(levels[0], (160, 120))
    with tifffile.TiffWriter(path) as tiff:
        for number, image in enumerate(levels):
            data, options = _options(image, layout)
            description = f"{head} {coder} Q=70|AppMag = 40|MPP = {mpp}"
            tiff.write(data, metadata=None, description=description, **options)
            if number == 0:
                tiff.write(extra, photometric="rgb", rowsperstrip=16, metadata=None, description=f"{head} -> 160x120 -")
        for name, kind in (("label", 1), ("macro", 9)):
            description = f"Aperio Image Library v11.2.1 \r\n{name} 160x120"
            tiff.write(
                extra, photometric="rgb", rowsperstrip=16, metadata=None, description=description, subfiletype=kind
            )


def _write_ome(path, levels, layout, mpp):
    """Write levels in SubIFDs; the kind "ome channels" has a page for each of red, green and blue."""
    metadata = {f"PhysicalSize{axis}": mpp for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    channels = layout.kind == "ome channels"
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        for number, image in enumerate(levels):
            data, options = _options(image, layout)
            if channels:
                data = np.moveaxis(image, -1, 0)
                options = {"photometric": "minisblack", "tile": options["tile"], "compression": "zlib"}
            subs = {"subifds": len(levels) - 1, "metadata": metadata | {"axes": "CYX" if channels else "YXS"}}
            tiff.write(data, **options, **(subs if number == 0 else {"subfiletype": 1}))
