"""Masks keep the numbers that are stored, whatever a viewer makes of them."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import write_image
from pathseg.errors import ImageError
from pathseg.images.masks import read_labels


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_values_are_kept(tmp_path, rng, name, kind):
    labels = rng.integers(0, 200, (20, 30)).astype(kind)
    (tifffile.imwrite if name.endswith("tif") else lambda p, a: cv2.imwrite(str(p), a))(tmp_path / name, labels)
    np.testing.assert_array_equal(read_labels(tmp_path / name), labels)


def test_an_indexed_image_gives_indices_not_colours(tmp_path, rng):
    labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
    image = Image.fromarray(labels, mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)


def test_three_equal_channels_are_one(tmp_path, rng):
    labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
    write_image(tmp_path / "m.png", np.repeat(labels[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)


def test_colours_are_refused(tmp_path, rng):
    write_image(tmp_path / "m.png", rng.integers(0, 9, (20, 30, 3), dtype=np.uint8))
    with pytest.raises(ImageError, match="m.png.*colour picture"):
        read_labels(tmp_path / "m.png")


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def packed(labels, bits):
    """Pack values of 1, 2 or 4 bits row by row: uint8 [H, bytes]."""
    as_bits = np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(as_bits.reshape(len(labels), -1), axis=1)


def write_png(path, labels, bits, indexed, glass=0):
    """Write a PNG of 1, 2 or 4 bits, grey or indexed, below rows of zeros: no library here writes all of them."""
    height, width = labels.shape
    rows = np.pad(packed(labels, bits), ((glass, 0), (1, 0)))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, glass + height, bits, 3 if indexed else 0, 0, 0, 0))]
    if indexed:
        parts.append(chunk(b"PLTE", bytes(range(100, 100 + 3 * 2**bits))))
    parts += [chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_tiff(path, labels, bits):
    """Write a grey TIFF of 1, 2 or 4 bits in one strip."""
    rows = packed(labels, bits).tobytes()
    tags = [(256, labels.shape[1]), (257, labels.shape[0]), (258, bits), (259, 1), (262, 1), (277, 1)]
    tags += [(278, labels.shape[0]), (279, len(rows)), (273, 8 + 2 + 12 * 9 + 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + rows)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["grey.png", "indexed.png", "indexed.bmp", "indexed.gif", "grey.tif"])
def test_few_bits_keep_their_values(tmp_path, rng, bits, kind):
    labels = rng.integers(0, 2**bits, (33, 45), dtype=np.uint8)
    path = tmp_path / kind
    if path.suffix == ".png":
        write_png(path, labels, bits, kind.startswith("indexed"))
    elif path.suffix == ".tif":
        write_tiff(path, labels, bits)
    else:
        image = Image.fromarray(labels, mode="P")
        image.putpalette(range(100, 100 + 3 * 2**bits))
        image.save(path)
    np.testing.assert_array_equal(read_labels(path), labels)


@pytest.mark.parametrize("indexed", [False, True])
def test_a_mask_of_200_megapixels_is_read(tmp_path, indexed):
    """More than Pillow takes by default."""
    side = 14_200
    labels = np.zeros((8, side), np.uint8)
    labels[-1, -1] = 1
    write_png(tmp_path / "m.png", labels, 1, indexed, glass=side - 8)
    read = read_labels(tmp_path / "m.png")
    assert read.shape == (side, side)
    assert (int(read[-1, -1]), int(np.count_nonzero(read))) == (1, 1)


@pytest.mark.parametrize("tiled", [False, True])
def test_a_mask_of_several_pages_is_refused(tmp_path, tiled):
    pages = np.zeros((3, 64, 80), np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", pages, photometric="minisblack", **({"tile": (16, 16)} if tiled else {}))
    with pytest.raises(ImageError, match="m.tif: holds"):
        read_labels(tmp_path / "m.tif")


def test_a_pyramid_of_labels_gives_its_finest_level(tmp_path, rng):
    labels = rng.integers(0, 4, (64, 80), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "m.tif") as tiff:
        tiff.write(labels, tile=(16, 16), metadata=None)
        tiff.write(labels[::2, ::2], tile=(16, 16), subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif"), labels)


def test_three_equal_planes_are_one(tmp_path, rng):
    labels = rng.integers(0, 4, (64, 80), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", np.stack([labels] * 3), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif"), labels)
