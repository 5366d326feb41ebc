"""What is written is read back by other libraries."""

from collections import Counter

import numpy as np
import openslide
import pytest
import tifffile

from pathseg.images.pyramids import PyramidWriter, most_of_four

COLORS = ["#999999", "#0072b2", "#d55e00"]


def write(path, picture, strip, **options):
    with PyramidWriter(path, picture.shape[-1], picture.shape[-2], 0.5, **options) as writer:
        for y in range(0, picture.shape[-2], strip):
            writer.append(picture[..., y : y + strip, :])


@pytest.mark.parametrize("planes", [0, 2])
def test_what_only_pathseg_reads_comes_back(tmp_path, rng, planes):
    maps = rng.integers(0, 256, (2, 700, 1300) if planes else (700, 1300), dtype=np.uint8)
    write(tmp_path / "i.tif", maps, 100, planes=planes, internal=True)
    with tifffile.TiffFile(tmp_path / "i.tif") as tiff:
        assert {page.compression.name for page in tiff.pages} == {"ZSTD"}
        assert len(tiff.series[0].levels) == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "i.tif"), maps)


@pytest.mark.parametrize("shape", [(1, 1), (700, 1300), (513, 512), (2000, 90)])
@pytest.mark.parametrize("strip", [100, 512, 5000])
def test_classes_come_back_at_every_level(tmp_path, rng, shape, strip):
    classes = rng.integers(0, 3, shape, dtype=np.uint8)
    write(tmp_path / "c.tif", classes, strip, colors=COLORS)
    with tifffile.TiffFile(tmp_path / "c.tif") as tiff:
        levels = tiff.series[0].levels
        for level in levels:
            np.testing.assert_array_equal(level.asarray(), classes)
            classes = most_of_four(classes)
        assert max(levels[-1].shape) <= 512
        assert tiff.pages[0].tags["XResolution"].value[0] / tiff.pages[0].tags["XResolution"].value[1] == 20_000


def test_a_viewer_sees_pyramid_colours_and_pixel_size(tmp_path, rng):
    classes = rng.integers(0, 3, (1100, 1500), dtype=np.uint8)
    write(tmp_path / "c.tif", classes, 300, colors=COLORS)
    slide = openslide.OpenSlide(tmp_path / "c.tif")
    assert slide.level_count == 3
    assert float(slide.properties["tiff.XResolution"]) == 20_000
    shown = np.asarray(slide.read_region((100, 200), 0, (64, 48)))[..., :3]
    table = np.array([[153, 153, 153], [0, 114, 178], [213, 94, 0]])
    np.testing.assert_array_equal(shown, table[classes[200:248, 100:164]])


def test_planes(tmp_path, rng):
    probabilities = rng.integers(0, 255, (3, 900, 700), dtype=np.uint8)
    write(tmp_path / "p.tif", probabilities, 256, planes=3)
    with tifffile.TiffFile(tmp_path / "p.tif") as tiff:
        np.testing.assert_array_equal(tiff.series[0].levels[0].asarray(), probabilities)
        expected = probabilities.reshape(3, 450, 2, 350, 2).mean((2, 4))
        assert np.abs(tiff.series[0].levels[1].asarray() - expected).max() <= 0.5


def test_amounts_are_averaged(tmp_path, rng):
    amounts = rng.integers(0, 255, (1400, 700), dtype=np.uint8)
    write(tmp_path / "a.tif", amounts, 300, averaged=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        np.testing.assert_array_equal(tiff.series[0].levels[0].asarray(), amounts)
        for side in (2, 4):
            amounts = amounts.reshape(len(amounts) // 2, 2, -1, 2).mean((1, 3))
            assert np.abs(tiff.series[0].levels[side // 2].asarray() - amounts).max() <= side / 4


def test_numbers_of_objects_have_32_bits(tmp_path, rng):
    numbers = rng.integers(0, 2**32, (700, 1300), dtype=np.uint32)
    numbers[:512, :512] = 70_000
    write(tmp_path / "o.tif", numbers, 300, dtype=np.uint32)
    with tifffile.TiffFile(tmp_path / "o.tif") as tiff:
        for level in tiff.series[0].levels:
            np.testing.assert_array_equal(level.asarray(), numbers)
            numbers = most_of_four(numbers)


def test_a_reduced_level_has_what_most_of_four_have(rng):
    classes = rng.integers(0, 3, (41, 35), dtype=np.uint8)
    small = most_of_four(classes)
    assert small.shape == (21, 18)
    for (y, x), value in np.ndenumerate(small):
        counts = Counter(classes[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
        assert counts[int(value)] == max(counts.values())
    np.testing.assert_array_equal(most_of_four(classes[6:], first_row=3), small[3:])


@pytest.mark.parametrize("turned", [False, True])
def test_edges_stay_where_they_are_when_zoomed_out(tmp_path, turned):
    """At each level, edges at all places on average; taking the first pixel moved them by half a pixel."""
    ends = np.arange(1000, 1064)
    classes = (np.arange(1600) < np.repeat(ends, 16)[:, None]).astype(np.uint8)
    classes = classes.T if turned else classes
    write(tmp_path / "c.tif", classes, 300, colors=COLORS)
    write(tmp_path / "p.tif", np.stack([classes, 1 - classes]) * 255, 300, planes=2)
    with tifffile.TiffFile(tmp_path / "c.tif") as tiff, tifffile.TiffFile(tmp_path / "p.tif") as mean:
        for number in (1, 2):
            level = tiff.series[0].levels[number].asarray()
            rows = (level.T if turned else level).sum(1, dtype=float).reshape(64, -1).mean(1)
            assert abs((rows - ends / 2**number).mean()) < 0.02
            assert np.abs(rows - ends / 2**number).max() <= 0.5
            averaged = mean.series[0].levels[number].asarray()[0]
            rows = (averaged.T if turned else averaged).sum(1, dtype=float).reshape(64, -1).mean(1) / 255
            assert np.abs(rows - ends / 2**number).max() < 0.02


def test_an_error_in_the_background_is_raised(tmp_path):
    with pytest.raises((ValueError, OSError)), PyramidWriter(tmp_path / "no" / "c.tif", 600, 600, None) as writer:
        for _ in range(50):
            writer.append(np.zeros((12, 600), np.uint8))


def test_an_error_of_the_caller_does_not_hang(tmp_path):
    with pytest.raises(KeyError), PyramidWriter(tmp_path / "c.tif", 600, 600, None) as writer:
        writer.append(np.zeros((100, 600), np.uint8))
        raise KeyError
