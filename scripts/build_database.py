"""Cut the images and masks of one part into tiles, and store them in one HDF5 file.

Outputs
-------
database : HDF5
    See `pathseg.database`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pathseg import __version__
from pathseg.database import DatabaseWriter
from pathseg.errors import ImageError
from pathseg.files import atomic_path, file_digest
from pathseg.geometry import tile_starts
from pathseg.labels import IGNORE, class_counts, to_class_indices
from pathseg.logs import progress, start_log
from pathseg.resample import ResampledSlide, resample_labels
from pathseg.slides import choose_mpp, open_slide, read_labels
from pathseg.tissue import tissue_share


@dataclass(frozen=True)
class Cutting:
    """How images are cut; the fields are those of `tiles` in the configuration."""

    size: int
    stride: int
    mpp: float | None
    resize: float | None
    pad: int
    min_tissue: float


@dataclass(frozen=True)
class Tiles:
    """The tiles of an image, as `DatabaseWriter.append` takes them."""

    source: dict[str, str]
    patient: str
    images: np.ndarray
    masks: np.ndarray
    corners: np.ndarray
    downsample: float
    pixels: np.ndarray


def cut_image(
    sample: dict[str, Any], cutting: Cutting, classes: list[dict[str, Any]], ignore_value: int | None
) -> Tiles:
    """Bring an image and its mask to the training resolution and cut them into tiles.

    Every pixel is in at least one tile. The mirrored border, and what a small image lacks to fill a tile, are
    `IGNORE` in the mask. Tiles without a known pixel, or with too little tissue, are left out.

    Parameters
    ----------
    sample
        `sample`, `patient`, `image`, `mask` and `mpp` (µm per pixel or None).
    cutting
        How to cut.
    classes, ignore_value
        As in the configuration.
    """
    slide = open_slide(sample["image"])
    labels = read_labels(sample["mask"])
    if labels.shape != (slide.height, slide.width):
        raise ImageError(
            f"{sample['mask']}: has {labels.shape[1]} x {labels.shape[0]} pixels, but its image {sample['image']} has "
            f"{slide.width} x {slide.height}; a mask must match its image"
        )
    downsample = 1 / cutting.resize if cutting.resize else cutting.mpp / choose_mpp(slide, sample["mpp"])
    view = ResampledSlide(slide, downsample)
    indices = to_class_indices(labels, classes, ignore_value, sample["mask"])
    indices = resample_labels(indices, view.width, view.height)
    pad, size = cutting.pad, cutting.size
    width, height = (max(side + 2 * pad, size) for side in (view.width, view.height))
    image = view.read(-pad, -pad, width, height)
    mask = np.full((height, width), IGNORE, np.uint8)
    mask[pad : pad + view.height, pad : pad + view.width] = indices
    corners = [
        (x, y)
        for y in tile_starts(height, size, cutting.stride)
        for x in tile_starts(width, size, cutting.stride)
        if is_useful(image[y : y + size, x : x + size], mask[y : y + size, x : x + size], cutting.min_tissue)
    ]
    shape = (len(corners), size, size)
    return Tiles(
        source={
            "sample": sample["sample"],
            "image": sample["image"],
            "mask": sample["mask"],
            "image_sha256": file_digest(sample["image"]),
            "mask_sha256": file_digest(sample["mask"]),
        },
        patient=sample["patient"],
        images=np.array([image[y : y + size, x : x + size] for x, y in corners], np.uint8).reshape(*shape, 3),
        masks=np.array([mask[y : y + size, x : x + size] for x, y in corners], np.uint8).reshape(shape),
        corners=(np.array(corners, float).reshape(-1, 2) - pad) * downsample,
        downsample=downsample,
        pixels=class_counts(indices, len(classes)),
    )


def is_useful(image: np.ndarray, mask: np.ndarray, min_tissue: float) -> bool:
    """Say whether a tile has a known pixel and enough tissue."""
    return bool((mask != IGNORE).any()) and (min_tissue == 0 or tissue_share(image) >= min_tissue)


def in_order(function: Callable, items: Iterable, threads: int) -> Iterator[Any]:
    """Yield `function` of each item in order, computed by threads that run only a little ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params = snakemake.params
    cutting = Cutting(**params.tiles)
    split = pd.read_csv(snakemake.input.split, sep="\t", dtype={"sample": str, "patient": str})
    rows = split[split["part"] == snakemake.wildcards.part].replace({np.nan: None}).to_dict("records")
    attributes = {
        "classes": [class_["name"] for class_ in params.classes],
        "mpp": cutting.mpp,
        "resize": cutting.resize,
        "tile_size": cutting.size,
        "stride": cutting.stride,
        "pad": cutting.pad,
        "pathseg_version": __version__,
    }

    def cut(row: dict[str, Any]) -> Tiles:
        """Cut the image of a row of the split table."""
        return cut_image(row, cutting, params.classes, params.ignore_value)

    with atomic_path(snakemake.output.database) as temporary:
        database = params.database
        with DatabaseWriter(temporary, cutting.size, len(params.classes), attributes=attributes, **database) as writer:
            for tiles in progress(in_order(cut, rows, snakemake.threads), "cutting", total=len(rows), unit="image"):
                if not len(tiles.images):
                    log.warning("%s: gives no tile", tiles.source["image"])
                writer.append(**vars(tiles))
            count = writer.close()
    log.info("%s: %d tiles of %d images", snakemake.output.database, count, len(rows))
