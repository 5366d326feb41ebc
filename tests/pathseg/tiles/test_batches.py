import tracemalloc

import numpy as np
import pytest

from pathseg.tiles import batches
from pathseg.tiles.batches import Tiles, epoch_plan
from pathseg.tiles.database import DatabaseWriter, TileDatabase

SIDE = 64


@pytest.fixture
def databases(tmp_path, rng):
    """Two databases of 40 and 60 tiles with edge maps, and all their arrays."""
    opened, written = [], []
    attributes = {"classes": ["a", "b"], "mpp": 1.0, "resize": None, "tile_size": SIDE, "edge_sigma": 3.0}
    for name, count in (("a", 40), ("b", 60)):
        with DatabaseWriter(tmp_path / name, SIDE, 2, "none", 1, attributes=attributes) as writer:
            source = dict.fromkeys(("sample", "image", "mask", "image_sha256", "mask_sha256", "patient"), name)
            writer.add_source(source, np.ones(2))
            arrays = [rng.integers(0, 255, (count, SIDE, SIDE, *more), dtype=np.uint8) for more in ((3,), (), ())]
            writer.append(source, arrays, np.zeros((count, 2)), 1.0)
            writer.close()
        opened.append(TileDatabase(tmp_path / name))
        written.append(arrays)
    yield opened, [np.concatenate(parts) for parts in zip(*written, strict=True)]
    for database in opened:
        database.close()


@pytest.mark.parametrize("limit", [0, 2**31])
def test_tiles_are_the_same_from_memory_and_from_the_files(databases, monkeypatch, limit):
    opened, (images, masks, edges) = databases
    monkeypatch.setattr(batches, "MEMORY_BYTES", limit)
    tiles = Tiles(opened, edges=True)
    assert (tiles._held is None) == (limit == 0)
    order = np.array([99, 0, 39, 40, 7])
    batch = tiles.read(order)
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), images[order])
    np.testing.assert_array_equal(batch.masks, masks[order])
    np.testing.assert_array_equal(batch.edges, edges[order])


def test_what_is_held_counts_edge_maps_and_is_read_in_parts(databases, monkeypatch):
    opened, _ = databases
    pixels = 100 * SIDE**2
    monkeypatch.setattr(batches, "MEMORY_BYTES", 4 * pixels)
    monkeypatch.setattr(batches, "TILES_AT_A_TIME", 10)
    assert Tiles(opened, edges=True)._held is None
    tracemalloc.start()
    tiles = Tiles(opened)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tiles._held is not None
    assert peak < 5 * pixels


@pytest.mark.parametrize("limit", [0, 2**31])
def test_which_classes_tiles_have(databases, monkeypatch, limit):
    opened, (_, masks, _) = databases
    monkeypatch.setattr(batches, "MEMORY_BYTES", limit)
    found = Tiles(opened).holders(7)
    assert found.dtype == bool
    for tile, mask in zip(found, masks, strict=True):
        assert set(np.flatnonzero(tile)) == set(np.unique(mask)) & set(range(7))


def test_each_batch_has_each_class_and_little_else_changes(rng):
    """Of 200 tiles 4 have the class that is rare, 20 another one, all the first."""
    holders = np.zeros((200, 4), bool)
    holders[:, 0] = True
    holders[rng.choice(200, 20, replace=False), 1] = True
    holders[rng.choice(200, 4, replace=False), 2] = True
    exchanged, used = 0, set()
    for epoch in range(20):
        plain = epoch_plan(200, 8, 1, epoch)
        plan = epoch_plan(200, 8, 1, epoch, holders)
        assert all(holders[batch, :3].any(axis=0).all() for batch in plan)
        assert [len(batch) for batch in plan] == [len(batch) for batch in plain]
        exchanged += sum((one != other).sum() for one, other in zip(plan, plain, strict=True))
        used |= set(np.concatenate(plan)[holders[np.concatenate(plan), 2]])
        assert all(map(np.array_equal, plan, epoch_plan(200, 8, 1, epoch, holders)))
    assert exchanged <= 20 * 25 * 2
    assert len(used) == 4


def test_a_tile_that_alone_has_a_class_stays():
    holders = np.array([[True, False], [False, True]])
    for epoch in range(20):
        assert all(set(batch) == {0, 1} for batch in epoch_plan(2, 2, 1, epoch, holders))
        # Batches of one tile cannot have both.
        assert all(len(batch) == 1 for batch in epoch_plan(2, 1, 1, epoch, holders))
