"""Small tile databases to train on."""

import shutil

import numpy as np
import pytest

from pathseg.labels.insides import insides
from pathseg.labels.values import IGNORE
from pathseg.tiles.database import DatabaseWriter

SIDE = 32


def write_database(path, rng, patient, count, known=SIDE, objects=None):
    """Write tiles whose bright squares are class 1; of each, so many rows are known."""
    images = rng.integers(0, 60, (count, SIDE, SIDE, 3), dtype=np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for image, mask, (x, y) in zip(images, masks, rng.integers(0, 20, (count, 2)), strict=True):
        image[y : y + 12, x : x + 12] += 150
        mask[y : y + 12, x : x + 12] = 1
        mask[:2] = IGNORE
        mask[known:] = IGNORE
    attributes = {"classes": ["a", "b"], "mpp": 1.0, "resize": None, "tile_size": SIDE, "edge_sigma": None}
    arrays = [images, masks]
    if objects:
        attributes["objects"] = objects
        arrays.append(np.array([insides(mask == 1, mask, [1], objects["shrink"]) for mask in masks]))
    source = dict.fromkeys(("sample", "image", "mask", "image_sha256", "mask_sha256"), patient)
    with DatabaseWriter(path, SIDE, 2, complib="none", complevel=1, attributes=attributes) as writer:
        writer.add_source(source, np.bincount((masks == 1).ravel()))
        writer.append(source | {"patient": patient}, arrays, np.zeros((count, 2)), 1.0)
        writer.close()


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    rng = np.random.default_rng(0)
    write_database(folder / "train.h5", rng, "P1", 9)
    write_database(folder / "val.h5", rng, "P2", 5)
    return folder


@pytest.fixture
def folder(databases, tmp_path):
    for name in ("train.h5", "val.h5"):
        shutil.copy(databases / name, tmp_path)
    return tmp_path
