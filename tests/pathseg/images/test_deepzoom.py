"""The layout is that of Deep Zoom, as viewers compute it from width, height and tile size."""

import cv2
import numpy as np
import pytest

from pathseg.images.deepzoom import TILE, TileFolder, as_jpeg, as_layer, levels_of
from pathseg.images.resampling import block_mean


def as_png(tile):
    return cv2.imencode(".png", tile)[1].tobytes()


def strips_of(picture):
    return (picture[top : top + TILE] for top in range(0, len(picture), TILE))


def read_level(folder, level, ending):
    """Put the tiles of a level together."""
    places = sorted(tuple(map(int, path.stem.split("_")[::-1])) for path in (folder / str(level)).iterdir())
    rows = {}
    for row, column in places:
        path = folder / str(level) / f"{column}_{row}{ending}"
        rows.setdefault(row, []).append(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return np.concatenate([np.concatenate(tiles, axis=1) for tiles in rows.values()])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (512, 512), (513, 700), (1500, 2100), (2600, 300)])
def test_levels_halve_and_the_finest_is_the_picture(tmp_path, rng, height, width):
    picture = cv2.resize(rng.integers(0, 255, (5, 5), dtype=np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    tiles = TileFolder(tmp_path / "t", width, height, ".png", as_png, 2)
    tiles.write(strips_of(picture))
    levels = levels_of(width, height)
    np.testing.assert_array_equal(read_level(tmp_path / "t", levels[-1], ".png"), picture)
    for level in levels:
        factor = 2 ** (levels[-1] - level)
        found = read_level(tmp_path / "t", level, ".png")
        assert found.shape == (-(-height // factor), -(-width // factor))
        expected = block_mean(picture, factor)
        # Each level rounds; blocks at the right and at the lower end are filled up level by level.
        assert np.abs(found.astype(int) - expected)[:-1, :-1].max(initial=0) <= levels[-1] - level
    assert max(read_level(tmp_path / "t", levels[0], ".png").shape) <= TILE
    assert len(tiles.tiles) == sum(1 for path in (tmp_path / "t").rglob("*.png"))


def test_the_coarsest_level_is_one_tile():
    for side in (1, 2, 511, 512, 513, 1024, 1025, 60_000):
        levels = levels_of(side, 1)
        assert 2 ** levels[-1] >= side > 2 ** (levels[-1] - 1) or side == 1
        assert -(-side // 2 ** (levels[-1] - levels[0])) <= TILE


def test_tiles_that_show_nothing_are_left_out(tmp_path):
    opacity = np.zeros((600, 1200), np.uint8)
    opacity[10:20, 1100:1110] = 255
    tiles = TileFolder(tmp_path / "t", 1200, 600, ".png", as_layer("#ff8000"), 1)
    tiles.write(strips_of(opacity))
    assert tiles.tiles == {"11/2_0", "10/1_0", "9/0_0"}
    pixels = cv2.imread(str(tmp_path / "t/11/2_0.png"), cv2.IMREAD_UNCHANGED)
    assert list(pixels[15, 80]) == [0, 128, 255, 255]
    assert pixels[30, 80, 3] == 0


def test_jpeg_keeps_colours():
    tile = np.full((64, 64, 3), (200, 30, 90), np.uint8)
    back = cv2.imdecode(np.frombuffer(as_jpeg(tile), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(back.astype(int) - tile).max() < 6
