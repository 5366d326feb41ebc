"""Blocks are decoded once, kept up to a limit, and shared by threads."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scanner_files import Layout, smooth_picture, write_scan

from pathseg.errors import ImageError
from pathseg.images import blocks
from pathseg.images.blocks import BlockCache, Lattice, Level
from pathseg.images.slides import Slide, open_slide

LAYOUT = Layout("classic", "jpeg", 256, (4,))


def block(value, side=10):
    return np.full((side, side, 3), value, np.uint8)


def test_what_was_used_last_is_kept():
    cache, decoded = BlockCache(3 * 300), []

    def get(key):
        return cache.get(key, lambda: decoded.append(key) or block(key))

    for key in (1, 2, 3, 1, 4, 1, 3, 2):
        assert get(key)[0, 0, 0] == key
    assert decoded == [1, 2, 3, 4, 2]
    assert cache.bytes == 900


def test_a_block_larger_than_the_limit_is_used_and_then_dropped():
    cache = BlockCache(300)
    assert cache.get("large", lambda: block(1, 50)).shape == (50, 50, 3)
    assert cache.get("small", lambda: block(2)).shape == (10, 10, 3)
    assert cache.bytes == 300


def test_a_block_that_cannot_be_decoded_is_tried_again():
    cache = BlockCache(300)

    def fail():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cache.get(1, fail)
    assert cache.get(1, lambda: block(1))[0, 0, 0] == 1


def test_several_threads_decode_at_the_same_time_and_nothing_twice():
    """Two blocks that each wait for the other to be begun, asked for by eight threads."""
    cache, both, decoded = BlockCache(10_000), threading.Barrier(2, timeout=20), []

    def decode(key):
        both.wait()
        decoded.append(key)
        return block(key)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda key: cache.get(key, lambda: decode(key))[0, 0, 0], [1, 2] * 20))
    assert read == [1, 2] * 20
    assert sorted(decoded) == [1, 2]


def test_a_rectangle_is_cut_out_of_its_blocks(rng):
    image = rng.integers(0, 255, (100, 130, 3), dtype=np.uint8)
    lattice = Lattice(32, 16, lambda row, column: image[row * 16 :][:16, column * 32 :][:, :32])
    for x, y, width, height in [(0, 0, 130, 100), (31, 15, 2, 2), (129, 99, 1, 1), (40, 3, 77, 90)]:
        np.testing.assert_array_equal(lattice.read(x, y, width, height), image[y : y + height, x : x + width])


def test_threads_read_what_one_reads(tmp_path, rng, monkeypatch):
    """With a cache so small that most is decoded again and again."""
    monkeypatch.setattr(blocks, "CACHE", BlockCache(3 * 256 * 256 * 3))
    slide = open_slide(write_scan(tmp_path / "x.tif", smooth_picture(1201, 1603), LAYOUT, 0.25))
    whole = [slide.read_level(n, 0, 0, level.width, level.height) for n, level in enumerate(slide.levels)]

    def check(rectangle):
        number, x, y = rectangle
        part = whole[number][y : y + 150, x : x + 200]
        return np.array_equal(slide.read_level(number, x, y, part.shape[1], part.shape[0]), part)

    places = [(n, int(rng.integers(0, 300)) * (4 - 3 * n), int(rng.integers(0, 250))) for n in rng.integers(0, 2, 200)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, places))
    assert blocks.CACHE.bytes <= 3 * 256 * 256 * 3


def test_files_are_closed_with_their_slides(tmp_path):
    path = write_scan(tmp_path / "x.tif", smooth_picture(301, 403), LAYOUT, 0.25)

    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files cannot be counted here")

    def open_files():
        return len(list(descriptors.iterdir()))

    before = open_files()
    for _ in range(5):
        slide = open_slide(path)
        slide.read_level(0, 0, 0, 10, 10)
    assert open_files() > before
    del slide
    gc.collect()
    assert open_files() == before


def test_a_damaged_tile_is_said_where_it_is_read(tmp_path):
    path = write_scan(tmp_path / "x.tif", smooth_picture(1201, 1603), LAYOUT, 0.25)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 20_000] = bytes(20_000)
    path.write_bytes(content)
    slide = open_slide(path)
    with pytest.raises(ImageError, match=r"x.tif: reading at x=0, y=0 of level 0 failed \(.*the file is damaged"):
        slide.read_level(0, 0, 0, 1603, 1201)


@pytest.mark.parametrize(("wanted", "level"), [(3.7, 0), (3.8, 0), (3.82, 1), (4.0, 1), (16.0, 2), (15.0, 1), (0.3, 0)])
def test_a_level_that_is_a_little_too_coarse_serves(wanted, level):
    """A scan at 0.2525 µm has a level of 1.01 for a model of 1: read it, and not sixteen times the pixels."""
    levels = [Level(8000, 8000, 1.0), Level(1999, 1999, 4.0004), Level(499, 499, 16.01)]
    assert Slide("s", levels, 0.25, None, "none").level_for(wanted) == level
