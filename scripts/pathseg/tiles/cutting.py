"""Cut images and their masks into tiles, a few images and tiles ahead of whoever stores them."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathseg import __version__
from pathseg.digests import digest
from pathseg.files import file_digest
from pathseg.geometry import tile_starts
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, choose_mpp, open_slide
from pathseg.labels.edges import REACH, gap_map
from pathseg.labels.insides import AROUND, insides
from pathseg.labels.label_maps import (
    AnnotatedLabels,
    LabelImage,
    LabelMap,
    check_instances,
    count_labels,
    open_instances,
    open_labels,
)
from pathseg.labels.tissue import tissue_share
from pathseg.labels.values import IGNORE
from pathseg.logs import progress
from pathseg.scores.objects import connected
from pathseg.tiles.database import DatabaseWriter

log = logging.getLogger("pathseg")

# Opened images that wait may take so many bytes together; one may wait however large it is.
BYTES_AHEAD = 2**28
# Tiles that a thread cuts at a time, so that a slide's tiles never are in memory together.
TILES_AT_A_TIME = 32


@dataclass(frozen=True)
class TileSettings:
    """How images are cut; the fields are those of `tiles` in the configuration."""

    size: int
    stride: int
    mpp: float | None
    resize: float | None
    pad: int
    min_tissue: float
    edge_sigma: float | None


@dataclass(frozen=True)
class LabelSettings:
    """How masks are read; the fields are those of the configuration.

    Attributes
    ----------
    objects : dict, optional
        `classes` and `shrink` of the objects whose insides are stored; None for none.
    """

    classes: list[dict[str, Any]]
    ignore_value: int | None
    outside: str
    objects: dict[str, Any] | None = None


@dataclass(frozen=True)
class Source:
    """An image with what is known of it, at the training resolution.

    Attributes
    ----------
    row : dict
        Its row of the sample table.
    labelling
        How its mask is read.
    view, labels
        Its pixels and class indices.
    objects
        Numbers of its objects, for gap maps and insides; None without them.
    corners : list of (int, int)
        Where its tiles start, (x, y) in pixels of the view.
    pixels : numpy.ndarray
        Pixels of each class, each counted once [C].
    """

    row: dict[str, Any]
    labelling: LabelSettings
    view: ResampledSlide
    labels: LabelMap
    objects: LabelMap | None
    corners: list[tuple[int, int]]
    pixels: np.ndarray


def open_source(row: dict[str, Any], cutting: TileSettings, labelling: LabelSettings) -> Source:
    """Open an image and its mask, and plan its tiles: those that have a known pixel.

    Together the tiles hold every pixel. The mirrored border, and what a small image lacks to fill a tile, are `IGNORE`.
    """
    slide = open_slide(row["image"], row["mpp"])
    if cutting.resize:
        view = ResampledSlide(slide, 1 / cutting.resize)
    else:
        assert cutting.mpp is not None
        view = ResampledSlide(slide, cutting.mpp / choose_mpp(slide))
    labels = open_labels(row["mask"], view, labelling.classes, labelling.ignore_value, labelling.outside)
    size, pad = cutting.size, cutting.pad
    xs, ys = (tile_starts(max(side + 2 * pad, size), size, cutting.stride) for side in (view.width, view.height))
    corners = [
        (x - pad, y - pad) for y in ys for x in xs if (labels.read(x - pad, y - pad, size, size) != IGNORE).any()
    ]
    pixels = count_labels(labels, view.width, view.height, len(labelling.classes))
    if row["instances"]:
        check_numbers(row, slide, labelling)
    objects = open_objects(row, view, labels) if cutting.edge_sigma or labelling.objects else None
    return Source(row, labelling, view, labels, objects, corners, pixels)


def check_numbers(row: dict[str, Any], slide: Slide, labelling: LabelSettings) -> None:
    """Stop if the numbers of objects contradict the mask, see `check_instances`.

    They are compared at the resolution of the files: a coarse pixel between objects may be of the mask and of none.
    """
    whole = ResampledSlide(slide, 1.0)
    labels = open_labels(row["mask"], whole, labelling.classes, labelling.ignore_value, labelling.outside)
    numbers = open_instances(row["instances"], whole)
    check_instances(row["instances"], row["mask"], numbers.indices, labels.read(0, 0, whole.width, whole.height))


def open_objects(row: dict[str, Any], view: ResampledSlide, labels: LabelMap) -> LabelMap:
    """Return the numbers of an image's objects: those of the table, or else what is connected in the whole image.

    A tile sees only a part of an object, which may look like two.
    """
    if row["instances"]:
        return open_instances(row["instances"], view)
    if isinstance(labels, AnnotatedLabels):
        return labels.objects()
    return LabelImage(connected(labels.read(0, 0, view.width, view.height)), beyond=0)


def cut(source: Source, corners: list[tuple[int, int]], cutting: TileSettings) -> tuple[list[np.ndarray], np.ndarray]:
    """Cut tiles; those with too little tissue are left out.

    Returns
    -------
    arrays : list of numpy.ndarray
        Images uint8 [n, H, W, 3], masks uint8 [n, H, W] and, with `edge_sigma`, edge maps and, with `objects`, insides
        uint8 [n, H, W].
    corners : numpy.ndarray
        Their top left corners [n, 2], (x, y) in pixels of the image file.
    """
    size = cutting.size
    tiles = [(corner, source.view.read(*corner, size, size)) for corner in corners]
    if cutting.min_tissue:
        tiles = [(corner, image) for corner, image in tiles if tissue_share(image) >= cutting.min_tissue]
    corners = [corner for corner, _ in tiles]
    images = np.array([image for _, image in tiles], np.uint8).reshape(-1, size, size, 3)
    masks = np.array([source.labels.read(x, y, size, size) for x, y in corners], np.uint8).reshape(-1, size, size)
    arrays = [images, masks]
    if cutting.edge_sigma:
        maps = [edge_map(source, x, y, size, cutting.edge_sigma) for x, y in corners]
        arrays.append(np.array(maps, np.uint8).reshape(-1, size, size))
    if source.labelling.objects:
        maps = [inside_map(source, x, y, size) for x, y in corners]
        arrays.append(np.array(maps, np.uint8).reshape(-1, size, size))
    return arrays, np.array(corners, float).reshape(-1, 2) * source.view.downsample


def edge_map(source: Source, x: int, y: int, size: int, sigma: float) -> np.ndarray:
    """Return the gap map of a tile, uint8 [H, W], made from so much around it that no border shows."""
    assert source.objects is not None
    reach = int(np.ceil(REACH * sigma))
    side = size + 2 * reach
    objects = source.objects.read(x - reach, y - reach, side, side)
    return gap_map(objects, sigma)[reach : reach + size, reach : reach + size]


def inside_map(source: Source, x: int, y: int, size: int) -> np.ndarray:
    """Return what is inside of objects in a tile, uint8 [H, W], made from so much around it that its rim is none."""
    wanted = source.labelling.objects
    assert wanted is not None
    assert source.objects is not None
    shrink, names = wanted["shrink"], [class_["name"] for class_ in source.labelling.classes]
    reach = AROUND * shrink
    window = (x - reach, y - reach, size + 2 * reach, size + 2 * reach)
    classes, objects = source.labels.read(*window), source.objects.read(*window)
    indices = [names.index(name) for name in wanted["classes"]]
    return insides(objects, classes, indices, shrink)[reach : reach + size, reach : reach + size]


def digests(row: dict[str, Any]) -> dict[str, str]:
    """Return what `/sources` of the database says of an image."""
    return {
        "sample": row["sample"],
        "image": row["image"],
        "mask": row["mask"],
        "image_sha256": file_digest(row["image"]),
        "mask_sha256": file_digest(row["mask"]),
    }


def cut_all(
    rows: list[dict[str, Any]], cutting: TileSettings, labelling: LabelSettings, threads: int
) -> Iterator[tuple[Source, dict[str, str], Iterator[Any]]]:
    """Yield each image with its digests and an iterator of its tiles, a few images and tiles ahead of the caller."""

    def open_row(row: dict[str, Any]) -> tuple[Source, dict[str, str]]:
        return open_source(row, cutting, labelling), digests(row)

    for source, files in in_order(open_row, rows, threads, lambda opened: source_bytes(opened[0])):
        chunks = [source.corners[i : i + TILES_AT_A_TIME] for i in range(0, len(source.corners), TILES_AT_A_TIME)]
        yield (
            source,
            files,
            in_order(lambda corners, source=source: cut(source, corners, cutting), chunks, threads),
        )


def source_bytes(source: Source) -> int:
    """Return what an opened image may take of memory: its pixels, its labels and the numbers of its objects."""
    return source.view.slide.width * source.view.slide.height * (3 + 1 + 4)


def in_order(
    function: Callable, items: Iterable, threads: int, n_bytes: Callable[[Any], int] | None = None
) -> Iterator[Any]:
    """Yield `function` of each item in order, computed by threads that run only a little ahead.

    Parameters
    ----------
    function, items, threads
        What is computed, of what, and by how many threads.
    n_bytes
        What a result takes of memory. If it is given, only one result is computed ahead until the largest so far says
        how many fit into `BYTES_AHEAD`.
    """
    ahead, largest = 2 * threads, 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) > (1 if n_bytes and largest == 1 else max(1, min(ahead, BYTES_AHEAD // largest))):
                result = waiting.popleft().result()
                largest = max(largest, n_bytes(result) if n_bytes else 1)
                yield result
        while waiting:
            yield waiting.popleft().result()


def attributes_of(cutting: TileSettings, labelling: LabelSettings) -> dict[str, Any]:
    """Return what a database says of itself; `settings` is a digest of all settings that decide what is stored."""
    return {
        "classes": [class_["name"] for class_ in labelling.classes],
        "mpp": cutting.mpp,
        "resize": cutting.resize,
        "tile_size": cutting.size,
        "stride": cutting.stride,
        "pad": cutting.pad,
        "edge_sigma": cutting.edge_sigma,
        "objects": labelling.objects,
        "settings": digest([asdict(cutting), asdict(labelling)]),
        "pathseg_version": __version__,
    }


def build(
    path: Path,
    rows: list[dict[str, Any]],
    cutting: TileSettings,
    labelling: LabelSettings,
    compression: dict[str, Any],
    threads: int,
) -> int:
    """Cut the images of rows of the split table into a database, and return its number of tiles."""
    attributes = attributes_of(cutting, labelling)
    with DatabaseWriter(path, cutting.size, len(labelling.classes), attributes=attributes, **compression) as writer:
        images = cut_all(rows, cutting, labelling, threads)
        for source, files, chunks in progress(images, "cutting", total=len(rows), unit="image"):
            before = writer.count
            writer.add_source(files, source.pixels)
            for arrays, corners in chunks:
                writer.append(source.row, arrays, corners, source.view.downsample)
            if writer.count == before:
                log.warning("%s: gives no tile", source.row["image"])
        return writer.close()
