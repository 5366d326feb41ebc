import numpy as np
import pytest
import tables

from pathseg.errors import DatabaseError, ResourceError
from pathseg.files import file_digest
from pathseg.tiles import database
from pathseg.tiles.database import DatabaseWriter, TileDatabase, check_databases

ATTRIBUTES = {
    "classes": ["a", "b"],
    "mpp": 0.5,
    "resize": None,
    "tile_size": 32,
    "stride": 16,
    "pad": 0,
    "edge_sigma": 5.0,
}


def write(path, rng, patients=("P1", "P2"), complib="none", **attributes):
    """Write three tiles for each patient and return images and masks."""
    attributes = ATTRIBUTES | attributes
    written = []
    with DatabaseWriter(path, 32, 2, complib=complib, complevel=1, attributes=attributes) as writer:
        for number, patient in enumerate(patients):
            images = rng.integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
            masks = rng.integers(0, 2, (3, 32, 32), dtype=np.uint8)
            source = {"sample": f"Größe {number}", "image": f"{number}.png", "mask": f"{number}_m.png"}
            source |= {"image_sha256": f"{patient:0>64}", "mask_sha256": "1" * 64}
            corners = np.array([[0, 0], [16, 0], [0, 16]]) * 2.0
            writer.add_source(source, np.array([100, 50]))
            edges = rng.integers(0, 255, (3, 32, 32), dtype=np.uint8)
            arrays = [images, masks, *([edges] if attributes["edge_sigma"] else [])]
            writer.append(source | {"patient": patient}, arrays, corners, 2.0)
            written.append(arrays)
        writer.close()
    return tuple(np.concatenate(arrays) for arrays in zip(*written, strict=True))


@pytest.mark.parametrize("complib", ["none", "zlib", "blosc2:lz4", "blosc:zstd"])
def test_reads_back_pixel_for_pixel(tmp_path, rng, complib):
    written = write(tmp_path / "x.h5", rng, complib=complib)
    order = np.array([4, 0, 5, 1])
    with TileDatabase(tmp_path / "x.h5") as database:
        for name, values in zip(("img", "mask", "edge"), written, strict=True):
            np.testing.assert_array_equal(database.read(name, order), values[order])
        assert len(database) == 6
        assert database.samples == ["Größe 0"] * 3 + ["Größe 1"] * 3
        assert database.patients == ["P1"] * 3 + ["P2"] * 3
        assert database.attributes == ATTRIBUTES
        np.testing.assert_array_equal(database.corners[1], [32, 0])
        np.testing.assert_array_equal(database.class_pixels, [200, 100])


def test_layout_is_the_tutorials(tmp_path, rng):
    images, masks = write(tmp_path / "x.h5", rng, edge_sigma=None)
    with tables.open_file(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file.root.img[:], images)
        np.testing.assert_array_equal(file.root.mask[:], masks)
        assert file.root.img.chunkshape == (1, 32, 32, 3)
        assert file.root.filename[0] == b"0.png"
        np.testing.assert_array_equal(file.root.numpixels[:], [[0, 1], [200, 100]])
        assert "edge" not in file.root


def test_a_flipped_byte_is_noticed(tmp_path, rng):
    path = tmp_path / "x.h5"
    images, *_ = write(path, rng)
    content = bytearray(path.read_bytes())
    content[content.index(images[4].tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with TileDatabase(path) as database:
        database.read("img", np.array([3]))
        with pytest.raises(DatabaseError, match=r"x\.h5: is damaged"):
            database.read("img", np.array([4]))


def test_a_full_disk_is_noticed(small_disk, rng):
    with pytest.raises(OSError, match="No space left"):
        write(small_disk / "x.h5", rng)


def test_what_hdf5_does_not_say_is_noticed(small_disk, rng, monkeypatch):
    """A quota, for example: the disk seems to have room, and HDF5 reports no error."""
    monkeypatch.setattr(database, "SPARE_BYTES", -(2**30))
    with pytest.raises(ResourceError, match="reads back otherwise"):
        write(small_disk / "x.h5", rng, patients=[f"P{number}" for number in range(40)])


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path, rng, keep):
    write(tmp_path / "x.h5", rng)
    (tmp_path / "x.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:keep])
    with pytest.raises(DatabaseError, match=r"x\.h5: is damaged"):
        TileDatabase(tmp_path / "x.h5")


def test_an_empty_database_says_why(tmp_path, rng):
    with DatabaseWriter(tmp_path / "x.h5", 32, 2, complib="none", complevel=1, attributes=ATTRIBUTES) as writer:
        writer.close()
    with pytest.raises(DatabaseError, match="holds no tile"):
        TileDatabase(tmp_path / "x.h5")


def test_databases_that_do_not_belong_together(tmp_path, rng):
    for name, patients, attributes in [
        ("train", ["P1", "P2"], {}),
        ("same", ["P2", "P3"], {}),
        ("coarse", ["P4"], {"mpp": 1.0}),
        ("good", ["P5"], {}),
    ]:
        write(tmp_path / f"{name}.h5", rng, patients, **attributes)
    train, same, coarse, good = (TileDatabase(tmp_path / f"{name}.h5") for name in ("train", "same", "coarse", "good"))
    check_databases([train], good)
    with pytest.raises(DatabaseError, match="patient 'P2' is in both"):
        check_databases([train], same)
    with pytest.raises(DatabaseError, match="differ in mpp"):
        check_databases([train], coarse)
    for opened in (train, same, coarse, good):
        opened.close()


@pytest.mark.parametrize(
    ("key", "value"), [("classes", ["a", "c"]), ("resize", 0.5), ("tile_size", 64), ("edge_sigma", 7.0)]
)
def test_databases_that_were_made_otherwise(tmp_path, rng, key, value):
    write(tmp_path / "train.h5", rng, ["P1"])
    write(tmp_path / "other.h5", rng, ["P2"], **{key: value})
    with (
        TileDatabase(tmp_path / "train.h5") as train,
        TileDatabase(tmp_path / "other.h5") as other,
        pytest.raises(DatabaseError, match=f"differ in {key}"),
    ):
        check_databases([train], other)


def test_the_digest_is_of_what_is_trained_on(tmp_path):
    digests = set()
    for name, seed, attributes in (("a", 1, {}), ("b", 1, {}), ("c", 2, {}), ("d", 1, {"settings": "other"})):
        write(tmp_path / f"{name}.h5", np.random.default_rng(seed), **attributes)
        with TileDatabase(tmp_path / f"{name}.h5") as database:
            digests.add(database.digest)
    assert len(digests) == 3


def test_a_database_of_version_0_1_has_the_digest_of_its_file(tmp_path, rng):
    write(tmp_path / "x.h5", rng)
    with tables.open_file(tmp_path / "x.h5", "a") as file:
        del file.root._v_attrs.digest
    with TileDatabase(tmp_path / "x.h5") as database:
        assert database.digest == file_digest(tmp_path / "x.h5")


def test_a_copy_of_an_image_is_not_learned_from_and_scored_on(tmp_path, rng):
    """Under another name, of another patient, byte for byte: between databases and within one."""
    images = {"train": ["0.png", "1.png"], "copy": ["2.png", "1.png"], "good": ["3.png"], "twice": ["4.png", "4.png"]}
    opened = {}
    for number, (name, contents) in enumerate(images.items()):
        with DatabaseWriter(tmp_path / f"{name}.h5", 32, 2, "none", 1, attributes=ATTRIBUTES) as writer:
            for place, content in enumerate(contents):
                source = {"sample": f"{name} {place}", "image": f"{name}{place}.png", "mask": "m.png"}
                writer.add_source(source | {"image_sha256": f"{content:0>64}", "mask_sha256": "1" * 64}, np.ones(2))
                tiles = [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32), np.uint8)]
                tiles += tiles[1:] if ATTRIBUTES["edge_sigma"] else []
                writer.append(source | {"patient": f"P{number}{place}"}, tiles, np.zeros((1, 2)), 1.0)
            writer.close()
        opened[name] = TileDatabase(tmp_path / f"{name}.h5")
    check_databases([opened["train"]], opened["good"])
    words = (
        r"copy\.h5: the image of sample 'copy 1' \(copy1\.png\) is a copy of that of sample 'train 1' \(train1\.png\)"
    )
    with pytest.raises(DatabaseError, match=words):
        check_databases([opened["train"]], opened["copy"])
    with pytest.raises(DatabaseError, match="copy of that of sample 'train 1'"):
        check_databases([opened["train"], opened["copy"]], opened["good"])
    with pytest.raises(DatabaseError, match="sample 'twice 1' .* of sample 'twice 0'"):
        check_databases([opened["twice"]], opened["good"])
    for one in opened.values():
        one.close()
