import numpy as np
import pytest
from build_database import Cutting, cut_image, in_order
from conftest import CLASSES, write_image

from pathseg.errors import ImageError, ResolutionError
from pathseg.labels import IGNORE

PLAIN = {"size": 32, "stride": 16, "mpp": None, "resize": 1.0, "pad": 0, "min_tissue": 0.0}


@pytest.fixture
def sample(tmp_path, rng):
    """An image of 70 x 50 random pixels with its mask, on the disk and as arrays."""
    image = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
    mask = (rng.random((50, 70)) > 0.5).astype(np.uint8) * 255
    write_image(tmp_path / "i.png", image)
    write_image(tmp_path / "m.png", mask)
    row = {
        "sample": "s",
        "patient": "p",
        "image": str(tmp_path / "i.png"),
        "mask": str(tmp_path / "m.png"),
        "mpp": None,
    }
    return row, image, mask


def cut(row, **changes):
    return cut_image(row, Cutting(**PLAIN | changes), CLASSES, None)


@pytest.mark.parametrize(("size", "stride"), [(32, 16), (32, 32), (16, 5), (64, 64)])
def test_every_pixel_is_in_a_tile_at_its_place(sample, size, stride):
    row, image, mask = sample
    tiles = cut(row, size=size, stride=stride)
    rebuilt, rebuilt_mask = np.zeros((80, 80, 3), np.uint8), np.full((80, 80), 9, np.uint8)
    for tile, tile_mask, (x, y) in zip(tiles.images, tiles.masks, tiles.corners.astype(int), strict=True):
        rebuilt[y : y + size, x : x + size] = tile
        rebuilt_mask[y : y + size, x : x + size] = tile_mask
    np.testing.assert_array_equal(rebuilt[:50, :70], image)
    np.testing.assert_array_equal(rebuilt_mask[:50, :70], mask // 255)
    np.testing.assert_array_equal(tiles.pixels, [(mask == 0).sum(), (mask == 255).sum()])


def test_a_small_image_is_mirrored_and_the_rest_ignored(sample):
    row, image, _ = sample
    tiles = cut(row, size=96, stride=96)
    assert tiles.images.shape == (1, 96, 96, 3)
    np.testing.assert_array_equal(tiles.images[0], np.pad(image, ((0, 46), (0, 26), (0, 0)), "reflect"))
    assert (tiles.masks[0] != IGNORE).sum() == 50 * 70
    assert (tiles.masks[0][:50, :70] != IGNORE).all()


def test_padding_is_mirrored_and_ignored(sample):
    row, image, _ = sample
    tiles = cut(row, size=32, stride=32, pad=8)
    np.testing.assert_array_equal(tiles.corners[0], [-8, -8])
    np.testing.assert_array_equal(tiles.images[0], np.pad(image, ((8, 0), (8, 0), (0, 0)), "reflect")[:32, :32])
    assert (tiles.masks[0][:8] == IGNORE).all()
    assert (tiles.masks[0][8:, 8:] != IGNORE).all()


def test_resolution(sample):
    row = sample[0]
    assert cut(row | {"mpp": 0.5}, mpp=1.0, resize=None, size=16, stride=16).downsample == 2
    half = cut(row, resize=0.5, size=16, stride=16)
    assert half.downsample == 2
    assert half.pixels.sum() == 25 * 35
    assert cut(row, resize=2.0, size=64, stride=64).pixels.sum() == 100 * 140
    with pytest.raises(ResolutionError, match=r"i\.png.*column `mpp`"):
        cut(row, mpp=1.0, resize=None)


def test_tiles_without_tissue_are_left_out(tmp_path, tissue_field):
    image, epithelium = tissue_field[0].copy(), tissue_field[1].astype(np.uint8) * 255
    image[:, 128:] = 243
    write_image(tmp_path / "i.png", image)
    write_image(tmp_path / "m.png", epithelium)
    row = {
        "sample": "s",
        "patient": "p",
        "image": str(tmp_path / "i.png"),
        "mask": str(tmp_path / "m.png"),
        "mpp": None,
    }
    tiles = cut(row, size=64, stride=64, min_tissue=0.5)
    assert len(tiles.images) == 6
    assert (tiles.corners[:, 0] < 128).all()


def test_a_mask_of_another_size_is_refused(sample, tmp_path):
    write_image(tmp_path / "m.png", np.zeros((50, 60), np.uint8))
    with pytest.raises(ImageError, match=r"m\.png: has 60 x 50 pixels, but its image .*i\.png has 70 x 50"):
        cut(sample[0])


def test_results_come_in_order_and_not_far_ahead():
    started = []

    def work(number):
        started.append(number)
        return number * number

    results = in_order(work, range(50), threads=2)
    assert next(results) == 0
    assert len(started) <= 6
    assert list(results) == [n * n for n in range(1, 50)]
