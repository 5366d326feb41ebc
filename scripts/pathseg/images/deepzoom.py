"""Write pictures too large for a browser as pyramids of small tiles, which viewers such as OpenSeadragon fetch.

The layout is that of Deep Zoom: a folder for each level, in which tiles are named by column and row. A level has half
the size of the next; level n has at most 2**n pixels a side. The coarsest that is written fits into one tile.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from pathseg.colors import rgb_of
from pathseg.images.resampling import block_mean

TILE = 512
JPEG_QUALITY = 85

# Turns a tile [h, w, ...] into the bytes of a file; None for one that shows nothing, which is not written.
Encoder = Callable[[np.ndarray], bytes | None]


def levels_of(width: int, height: int) -> range:
    """Return the numbers of the levels of a picture, the coarsest first."""
    finest = (max(width, height) - 1).bit_length()
    return range(min(finest, TILE.bit_length() - 1), finest + 1)


class TileFolder:
    """Write a picture that comes in strips from top to bottom; each level is made from the finer one as it comes.

    Parameters
    ----------
    folder
        Folder to make.
    width, height
        Size of the picture in pixels.
    ending
        Of the tiles' names, with its dot.
    encode
        Makes the tiles' files.
    threads
        Tiles that are encoded at a time.

    Attributes
    ----------
    tiles : set of str
        Those that were written, as "level/column_row".
    """

    def __init__(self, folder: Path, width: int, height: int, ending: str, encode: Encoder, threads: int) -> None:
        self.folder, self.width, self.height, self.ending = folder, width, height, ending
        self._encode, self._threads = encode, threads
        self.levels = levels_of(width, height)
        self.tiles: set[str] = set()
        self._rows = dict.fromkeys(self.levels, 0)
        self._halves: dict[int, list[np.ndarray]] = {level: [] for level in self.levels}
        for level in self.levels:
            (folder / str(level)).mkdir(parents=True)

    def write(self, strips: Iterator[np.ndarray]) -> None:
        """Write all levels from strips uint8 [h, W, ...], each of `TILE` rows but the last, which may be lower."""
        with ThreadPoolExecutor(self._threads) as self._pool:
            for strip in strips:
                self._write_row(self.levels[-1], strip)
            for level in reversed(self.levels[:-1]):
                self._write_halves(level)

    def _write_row(self, level: int, strip: np.ndarray) -> None:
        places = [(level, column, self._rows[level]) for column in range(-(-strip.shape[1] // TILE))]
        tiles = [strip[:, column * TILE : (column + 1) * TILE] for _, column, _ in places]
        self.tiles.update(filter(None, self._pool.map(self._write_tile, places, tiles)))
        self._rows[level] += 1
        if level > self.levels[0]:
            self._halves[level - 1].append(block_mean(strip, 2))
            if len(self._halves[level - 1]) == 2:
                self._write_halves(level - 1)

    def _write_halves(self, level: int) -> None:
        halves, self._halves[level] = self._halves[level], []
        if halves:
            self._write_row(level, np.concatenate(halves))

    def _write_tile(self, place: tuple[int, int, int], tile: np.ndarray) -> str | None:
        content = self._encode(np.ascontiguousarray(tile))
        if content is None:
            return None
        level, column, row = place
        name = f"{level}/{column}_{row}"
        (self.folder / f"{name}{self.ending}").write_bytes(content)
        return name


def as_jpeg(tile: np.ndarray) -> bytes:
    """Encode uint8 [h, w, 3] RGB."""
    return cv2.imencode(".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def as_layer(color: str) -> Encoder:
    """Return what encodes opacities uint8 [h, w] as PNG of one colour; what is wholly transparent is left out."""
    bgr = rgb_of(color)[::-1]

    def encode(tile: np.ndarray) -> bytes | None:
        if not tile.any():
            return None
        pixels = np.empty((*tile.shape, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = bgr, tile
        return cv2.imencode(".png", pixels)[1].tobytes()

    return encode
