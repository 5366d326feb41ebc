"""Each format is written by a library and read back through our interface."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import write_image
from pathseg.errors import ImageError, ResolutionError
from pathseg.images.slides import choose_mpp, open_slide, read_labels

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
    ("classic.tif", write_pyramid, "OpenSlide (generic-tiff)", 2, 0.5, 0),
    ("x.ome.tif", write_ome, "tifffile", 2, 0.5, 0),
    ("jpeg.ome.tif", write_ome_jpeg, "tifffile", 2, 0.5, 6),
    ("stripped.tif", write_stripped, "tifffile", 1, 0.5, 0),
    ("big.tif", write_bigtiff, "OpenSlide (generic-tiff)", 1, 0.5, 0),
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


def test_a_real_svs(real_data):
    slide = open_slide(real_data / "slides" / "CMU-1-Small-Region.svs")
    assert (slide.width, slide.height, slide.mpp) == (2220, 2967, pytest.approx(0.499))
    assert slide.read_level(0, 1000, 1000, 64, 48).shape == (48, 64, 3)


def test_transparency_is_glass(tmp_path, picture):
    alpha = np.full((320, 384, 1), 255, np.uint8)
    alpha[:100] = 0
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / "a.png")
    read = open_slide(tmp_path / "a.png").read_level(0, 0, 0, 384, 320)
    assert (read[:100] == 255).all()
    np.testing.assert_array_equal(read[100:], picture[100:])


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiff_becomes_rgb(tmp_path, picture, photometric):
    grey = picture[..., 0]
    tifffile.imwrite(tmp_path / "g.tif", grey, photometric=photometric)
    read = open_slide(tmp_path / "g.tif").read_level(0, 0, 0, 384, 320)
    np.testing.assert_array_equal(read[..., 1], grey if photometric == "minisblack" else 255 - grey)


def test_72_dpi_is_no_pixel_size(tmp_path, picture):
    tifffile.imwrite(tmp_path / "x.tif", picture, photometric="rgb", resolution=(72, 72), resolutionunit="INCH")
    slide = open_slide(tmp_path / "x.tif")
    assert slide.mpp is None
    assert choose_mpp(slide, 0.25) == 0.25
    with pytest.raises(ResolutionError, match="x.tif.*column `mpp`"):
        choose_mpp(slide, None)


class TestLabels:
    @pytest.mark.parametrize("name", ["m.png", "m.tif"])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_values_are_kept(self, tmp_path, rng, name, kind):
        labels = rng.integers(0, 200, (20, 30)).astype(kind)
        (tifffile.imwrite if name.endswith("tif") else lambda p, a: cv2.imwrite(str(p), a))(tmp_path / name, labels)
        np.testing.assert_array_equal(read_labels(tmp_path / name), labels)

    def test_an_indexed_image_gives_indices_not_colours(self, tmp_path, rng):
        labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
        image = Image.fromarray(labels, mode="P")
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)

    def test_three_equal_channels_are_one(self, tmp_path, rng):
        labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
        write_image(tmp_path / "m.png", np.repeat(labels[..., None], 3, axis=2))
        np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)

    def test_colours_are_refused(self, tmp_path, picture):
        write_image(tmp_path / "m.png", picture)
        with pytest.raises(ImageError, match="m.png.*colour picture"):
            read_labels(tmp_path / "m.png")
