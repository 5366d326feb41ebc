"""Each format is written by a library and read back through our interface."""

import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import write_image
from pathseg.errors import ImageError
from pathseg.images.slides import open_slide

PER_CM = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}  # 0.5 µm per pixel


@pytest.fixture(scope="module")
def picture():
    """Uint8 [320, 384, 3]: smooth, so that JPEG keeps it nearly."""
    y, x = np.mgrid[0:320, 0:384]
    return np.stack([x / 384 * 255, y / 320 * 255, (x + y) / 704 * 255], axis=-1).astype(np.uint8)


def half(picture):
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def write_pyramid(path, picture):
    with tifffile.TiffWriter(path) as tiff:
        for level, image in enumerate((picture, half(picture))):
            tiff.write(image, tile=(64, 64), photometric="rgb", subfiletype=int(level > 0), metadata=None, **PER_CM)


def write_ome(path, picture):
    metadata = {
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        "axes": "YXS",
    }
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(picture, tile=(64, 64), photometric="rgb", subifds=1, metadata=metadata)
        tiff.write(half(picture), tile=(64, 64), photometric="rgb", subfiletype=1)


def write_ome_jpeg(path, picture):
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        metadata = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "axes": "YXS"}
        tiff.write(
            picture, tile=(64, 64), compression="jpeg", compressionargs={"level": 98}, subifds=1, metadata=metadata
        )
        tiff.write(half(picture), tile=(64, 64), compression="jpeg", compressionargs={"level": 98}, subfiletype=1)


def write_stripped(path, picture):
    tifffile.imwrite(path, picture, rowsperstrip=16, compression="lzw", photometric="rgb", metadata=None, **PER_CM)


def write_bigtiff(path, picture):
    tifffile.imwrite(path, picture, bigtiff=True, tile=(128, 128), compression="zlib", photometric="rgb", **PER_CM)


FORMATS = [
    ("classic.tif", write_pyramid, "tifffile", 2, 0.5, 0),
    ("x.ome.tif", write_ome, "tifffile", 2, 0.5, 0),
    ("jpeg.ome.tif", write_ome_jpeg, "tifffile", 2, 0.5, 6),
    ("stripped.tif", write_stripped, "tifffile", 1, 0.5, 0),
    ("big.tif", write_bigtiff, "tifffile", 1, 0.5, 0),
    ("x.png", write_image, "OpenCV", 1, None, 0),
    ("x.jpg", write_image, "OpenCV", 1, None, 6),
]


@pytest.mark.parametrize(("name", "write", "reader", "levels", "mpp", "error"), FORMATS, ids=[f[0] for f in FORMATS])
def test_formats(tmp_path, picture, name, write, reader, levels, mpp, error):
    write(tmp_path / name, picture)
    slide = open_slide(tmp_path / name)
    assert (slide.width, slide.height, len(slide.levels), slide.reader) == (384, 320, levels, reader)
    assert slide.mpp == (pytest.approx(mpp, rel=1e-3) if mpp else None)
    for x, y, width, height in [(0, 0, 384, 320), (37, 61, 130, 140), (383, 319, 1, 1)]:
        read = slide.read_level(0, x, y, width, height)
        assert np.abs(read.astype(int) - picture[y : y + height, x : x + width]).max() <= error
    if levels == 2:
        read = slide.read_level(1, 11, 13, 100, 90)
        assert np.abs(read.astype(int) - half(picture)[13:103, 11:111]).max() <= error


def test_transparency_is_glass(tmp_path, picture):
    alpha = np.full((320, 384, 1), 255, np.uint8)
    alpha[:100] = 0
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / "a.png")
    read = open_slide(tmp_path / "a.png").read_level(0, 0, 0, 384, 320)
    assert (read[:100] == 255).all()
    np.testing.assert_array_equal(read[100:], picture[100:])


def test_a_tile_that_is_not_there_is_glass(tmp_path, picture):
    """Scanners leave out what they have not seen."""
    tiles = [picture[y : y + 64, x : x + 64] for y in range(0, 320, 64) for x in range(0, 384, 64)]
    tiles[7] = None
    tifffile.imwrite(
        tmp_path / "a.tif", iter(tiles), shape=picture.shape, dtype=np.uint8, tile=(64, 64), photometric="rgb", **PER_CM
    )
    picture = picture.copy()
    picture[64:128, 64:128] = 255
    np.testing.assert_array_equal(open_slide(tmp_path / "a.tif").read_level(0, 0, 0, 384, 320), picture)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiff_becomes_rgb(tmp_path, picture, photometric):
    grey = picture[..., 0]
    tifffile.imwrite(tmp_path / "g.tif", grey, photometric=photometric)
    read = open_slide(tmp_path / "g.tif").read_level(0, 0, 0, 384, 320)
    np.testing.assert_array_equal(read[..., 1], grey if photometric == "minisblack" else 255 - grey)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("layout", ["pages", "planes"])
def test_red_green_and_blue_in_planes_of_their_own(tmp_path, picture, tiled, layout):
    planes = np.moveaxis(picture, -1, 0)
    options = {"tile": (64, 64)} if tiled else {}
    if layout == "pages":
        options |= {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}}
    else:
        options |= {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "x.tif", planes, **options)
    slide = open_slide(tmp_path / "x.tif")
    np.testing.assert_array_equal(slide.read_level(0, 30, 40, 200, 150), picture[40:190, 30:230])


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", "ZYXS", "pages", "imagej"])
def test_a_stack_is_refused(tmp_path, picture, tiled, axes):
    options = {"tile": (64, 64)} if tiled else {}
    stack = np.stack([picture, 255 - picture, picture // 2, picture // 3])
    stack = stack if axes.endswith("S") or axes == "pages" else stack[..., 0]
    if axes == "pages":
        with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
            for page in stack:
                tiff.write(page, photometric="rgb", metadata=None, **options)
    elif axes == "imagej":
        tifffile.imwrite(tmp_path / "x.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    else:
        photometric = "rgb" if axes.endswith("S") else "minisblack"
        tifffile.imwrite(
            tmp_path / "x.tif", stack, ome=True, photometric=photometric, metadata={"axes": axes}, **options
        )
    with pytest.raises(ImageError, match="x.tif: holds 4 pictures of 384 x 320 pixels"):
        open_slide(tmp_path / "x.tif")


def test_what_is_not_a_level_is_left_alone(tmp_path, picture):
    """A thumbnail before the picture, and a label and a macro behind it, are no levels; what is reduced by 8 is one."""
    eighth = cv2.resize(picture, (48, 40), interpolation=cv2.INTER_AREA)
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        for image, kind in [(picture[:100, :160], 0), (picture, 0), (eighth, 1), (picture[:80, :40], 1)]:
            tiff.write(image, photometric="rgb", tile=(64, 64), subfiletype=kind, metadata=None)
    slide = open_slide(tmp_path / "x.tif")
    assert [(level.width, level.height, level.downsample) for level in slide.levels] == [(384, 320, 1), (48, 40, 8)]
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, 384, 320), picture)


def test_a_tiff_is_known_by_its_bytes(tmp_path, picture):
    tifffile.imwrite(tmp_path / "x.png", picture, photometric="rgb")
    write_image(tmp_path / "y.png", picture).rename(tmp_path / "y.tif")
    for name, reader in [("x.png", "tifffile"), ("y.tif", "OpenCV")]:
        slide = open_slide(tmp_path / name)
        assert slide.reader == reader
        np.testing.assert_array_equal(slide.read_level(0, 5, 6, 30, 20), picture[6:26, 5:35])


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_a_transparent_tiff_lies_on_glass(tmp_path, picture, extra):
    alpha = np.full((320, 384, 1), 255, np.uint8)
    alpha[:100] = 0
    shown = np.where(alpha, picture, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([shown, alpha]), photometric="rgb", extrasamples=[extra], tile=(64, 64)
    )
    read = open_slide(tmp_path / "a.tif").read_level(0, 0, 0, 384, 320)
    np.testing.assert_array_equal(read, np.where(alpha, picture, 255))


def test_the_file_is_opened_once(tmp_path, picture, monkeypatch):
    """Reading does not parse headers again, nor the OME-XML."""
    write_ome(tmp_path / "x.ome.tif", picture)
    slide = open_slide(tmp_path / "x.ome.tif")
    monkeypatch.setattr(tifffile, "TiffFile", None)
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, 384, 320), picture)


@pytest.mark.parametrize("kind", ["x.tif", "x.png", "transparent.png", "grey.tif"])
def test_what_is_decoded_whole_is_copied_once_at_most(tmp_path, kind):
    """Up to 2**30 pixels: transparent ones took eight times their bytes, 24 GiB."""
    pixels = np.random.default_rng(0).integers(0, 255, (1500, 2000, 4 if kind[0] == "t" else 3), dtype=np.uint8)
    if kind.endswith("tif"):
        pixels = pixels[..., 0] if kind[0] == "g" else pixels
        tifffile.imwrite(tmp_path / kind, pixels, rowsperstrip=64, photometric="rgb" if pixels.ndim > 2 else None)
    else:
        Image.fromarray(pixels).save(tmp_path / kind, compress_level=0)
    tracemalloc.start()
    slide = open_slide(tmp_path / kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert slide.width == 2000
    # What the file holds, what a viewer sees, and a little.
    assert peak < pixels.nbytes + (0 if kind in ("x.tif", "x.png") else 1500 * 2000 * 3) + 4 * 2**20
