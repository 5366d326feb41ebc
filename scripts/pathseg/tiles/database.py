"""The tile database: a PyTables file in the tutorial's layout, with what training must know beside it.

`/img` uint8 [N, H, W, 3], `/mask` uint8 [N, H, W] of class indices (IGNORE where nothing is known), on request `/edge`
uint8 [N, H, W] (see `pathseg.labels.edges.gap_map`) and `/inside` uint8 [N, H, W] (1 inside of objects, IGNORE as in
the mask, see `pathseg.labels.insides`), `/filename`, `/numpixels` [2, C] (class indices, pixel counts); `/tiles`
(sample, patient, x, y, downsample) and `/sources` (sample, image, mask and their SHA-256). One chunk is one tile, so
that a tile is read alone, and carries a checksum.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tables

from pathseg.digests import digest
from pathseg.errors import DatabaseError, ResourceError
from pathseg.files import file_digest

# What must stay free on the disk, more than HDF5 keeps to write later.
SPARE_BYTES = 2**23
# Tiles that are read at a time when a database is checked.
ROWS_AT_A_TIME = 64
# Arrays that a network is trained on; names of files and samples change nothing.
TRAINED_ON = ("img", "mask", "edge", "inside", "numpixels")
TILE_COLUMNS = np.dtype([("sample", "S480"), ("patient", "S480"), ("x", "f8"), ("y", "f8"), ("downsample", "f8")])
SOURCE_COLUMNS = np.dtype(
    [("sample", "S480"), ("image", "S1024"), ("mask", "S1024"), ("image_sha256", "S64"), ("mask_sha256", "S64")]
)


class DatabaseWriter:
    """Write a tile database, one image's tiles after another's, and read it back: HDF5 may not notice a full disk.

    Parameters
    ----------
    path
        File to write; the caller renames it when it is complete.
    tile_size
        Side of a tile in pixels.
    n_classes
        Number of classes.
    complib, complevel
        PyTables compression, "none" for none.
    attributes
        Plain values kept as attributes of the root, see `TileDatabase.attributes`; with an `edge_sigma`, tiles have
        edge maps, with `objects` what is inside of them.
    """

    def __init__(
        self, path: Path, tile_size: int, n_classes: int, complib: str, complevel: int, attributes: dict[str, Any]
    ) -> None:
        compression = {} if complib == "none" else {"complib": complib, "complevel": complevel}
        filters = tables.Filters(fletcher32=True, **compression)
        self._path = path
        self._file = tables.open_file(str(path), "w", title="pathseg tiles")
        shapes = {"img": (tile_size, tile_size, 3), "mask": (tile_size, tile_size)}
        if attributes.get("edge_sigma"):
            shapes["edge"] = (tile_size, tile_size)
        if attributes.get("objects"):
            shapes["inside"] = (tile_size, tile_size)
        for name, shape in shapes.items():
            self._file.create_earray(
                "/", name, tables.UInt8Atom(), (0, *shape), filters=filters, chunkshape=(1, *shape)
            )
        self._file.create_earray("/", "filename", tables.StringAtom(255), (0,))
        self._file.create_table("/", "tiles", TILE_COLUMNS)
        self._file.create_table("/", "sources", SOURCE_COLUMNS)
        self._images = list(shapes)
        self._checksums = dict.fromkeys([*shapes, "filename", "tiles", "sources"], 0)
        self._pixels = np.zeros(n_classes)
        self._attributes = attributes
        self._file.root._v_attrs.pathseg = json.dumps(attributes, ensure_ascii=False)

    def add_source(self, source: dict[str, str], pixels: np.ndarray) -> None:
        """Note an image: the values of `/sources`, and its pixels of each class, each counted once [C]."""
        self._append(
            "sources", np.array([tuple(source[name].encode() for name in SOURCE_COLUMNS.fields or ())], SOURCE_COLUMNS)
        )
        self._pixels += pixels

    def append(self, row: dict[str, Any], arrays: list[np.ndarray], corners: np.ndarray, downsample: float) -> None:
        """Add tiles of an image.

        Parameters
        ----------
        row
            `sample`, `patient` and `image` (file name).
        arrays
            Images uint8 [n, H, W, 3], masks uint8 [n, H, W] and, if the database holds them, edge maps and insides
            uint8 [n, H, W].
        corners
            Top left corners [n, 2] as (x, y) in pixels of the image file.
        downsample
            Pixels of the image file per pixel of a tile.
        """
        if not len(corners):
            return
        for name, values in zip(self._images, arrays, strict=True):
            self._append(name, values)
        self._append("filename", np.full(len(corners), row["image"].encode()[-255:], dtype="S255"))
        sample, patient = row["sample"].encode(), row["patient"].encode()
        self._append("tiles", np.array([(sample, patient, x, y, downsample) for x, y in corners], TILE_COLUMNS))

    def _append(self, name: str, values: np.ndarray) -> None:
        if shutil.disk_usage(self._path.parent).free < values.nbytes + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.get_node("/", name).append(values)
        self._checksums[name] = zlib.crc32(np.ascontiguousarray(values), self._checksums[name])

    @property
    def count(self) -> int:
        """Tiles so far."""
        return int(self._file.root.img.nrows)

    def close(self) -> int:
        """Write the pixel counts, close the file and return the number of tiles.

        Raises
        ------
        ResourceError
            If the file is not what was written to it.
        """
        pixels = np.stack([np.arange(len(self._pixels)), self._pixels])
        self._file.create_carray("/", "numpixels", obj=pixels)
        self._checksums["numpixels"] = zlib.crc32(pixels)
        content = {name: self._checksums[name] for name in TRAINED_ON if name in self._checksums}
        self._file.root._v_attrs.digest = digest([self._attributes, content, self.count])
        count = self.count
        self._file.close()
        if self._read_back() != self._checksums:
            raise ResourceError(
                f"{self._path.parent}: a database that was written there reads back otherwise: is the disk, or your "
                "quota of it, full, or is it broken? Make room and run again"
            )
        return count

    def _read_back(self) -> dict[str, int]:
        """Return the checksums of the closed file's arrays, none of those that cannot be read."""
        found = {}
        with suppress(tables.HDF5ExtError, tables.NoSuchNodeError, OSError), tables.open_file(str(self._path)) as file:
            for name in self._checksums:
                node, checksum = file.get_node("/", name), 0
                for start in range(0, len(node), ROWS_AT_A_TIME):
                    checksum = zlib.crc32(np.ascontiguousarray(node[start : start + ROWS_AT_A_TIME]), checksum)
                found[name] = checksum
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file.isopen:
            self._file.close()


class TileDatabase:
    """Read a tile database. The file is opened at the first use, so that each worker opens its own.

    Parameters
    ----------
    path
        File written by `DatabaseWriter`.

    Attributes
    ----------
    attributes : dict
        `classes` (list of names), `mpp` and `resize` (one is None), `tile_size`, `stride`, `pad`, `edge_sigma`
        (None if there are no edge maps), `objects` (`classes` and `shrink`; None or absent without insides),
        `pathseg_version`.
    samples, patients : list of str
        Of each tile.
    corners : numpy.ndarray
        [N, 2], (x, y) of each tile in pixels of its image file.
    downsamples : numpy.ndarray
        [N], pixels of the image file per pixel of the tile.
    class_pixels : numpy.ndarray
        Pixels of each class in the whole images [C].
    images : list of (str, str)
        SHA-256 of each image, and its sample and file name.
    source_digests : list of str
        SHA-256 of each image and of its mask, in order.
    digest : str
        Of all that is trained on: the stored arrays and the settings that they were made with.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: tables.File | None = None
        with self._errors_named():
            root = self._open().root
            self.attributes: dict[str, Any] = json.loads(str(root._v_attrs.pathseg))
            # Older files lack it; the whole file's digest changes at least as often.
            self.digest = str(root._v_attrs.digest) if "digest" in root._v_attrs else file_digest(path)
            tiles = root.tiles.read()
            self.class_pixels = root.numpixels[1]
            shapes = {len(root.img), len(root.mask), len(root.filename), len(tiles)}
            sources = root.sources.read()
        self.images = [
            (row["image_sha256"].decode(), f"{row['sample'].decode()!r} ({row['image'].decode()})") for row in sources
        ]
        self.source_digests = sorted((row["image_sha256"] + row["mask_sha256"]).decode() for row in sources)
        self.samples = [name.decode() for name in tiles["sample"]]
        self.patients = [name.decode() for name in tiles["patient"]]
        self.corners = np.column_stack([tiles["x"], tiles["y"]])
        self.downsamples = tiles["downsample"]
        if len(shapes) > 1 or not len(self):
            self.close()
        if len(shapes) > 1:
            raise DatabaseError(f"{self.path}: its arrays differ in length; delete it and run again")
        if not len(self):
            raise DatabaseError(f"{self.path}: holds no tile; lower tiles.min_tissue, or check the images of this part")

    def __len__(self) -> int:
        return len(self.samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def read(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Return tiles in the given order: `img` uint8 [n, H, W, 3], `mask`, `edge` or `inside` uint8 [n, H, W]."""
        with self._errors_named():
            array = getattr(self._open().root, name)
            result = np.empty((len(indices), *array.shape[1:]), np.uint8)
            for i, index in enumerate(indices):
                result[i] = array[index]
        return result

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> tables.File:
        if self._file is None:
            self._file = tables.open_file(str(self.path), "r")
        return self._file

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (tables.HDF5ExtError, tables.NoSuchNodeError, AttributeError, OSError, ValueError) as error:
            hint = ""
            if "lock" in str(error).lower():
                hint = " If the file system cannot lock files, set HDF5_USE_FILE_LOCKING=FALSE."
            raise DatabaseError(
                f"{self.path}: is damaged or not a database of pathseg; delete it and run again.{hint}"
            ) from error


def check_databases(training: list[TileDatabase], validation: TileDatabase) -> None:
    """Stop if databases do not belong together.

    Raises
    ------
    DatabaseError
        If a patient is in training and validation, an image is there twice, whatever its names, classes, resolution or
        tile size differ, or there is only one class to learn.
    """
    pixels = sum(database.class_pixels for database in training)
    names = [name for name, count in zip(validation.attributes["classes"], pixels, strict=True) if count]
    if len(names) == 1:
        raise DatabaseError(
            f"{training[0].path}: all pixels are of class {names[0]!r}, so that there is nothing to learn; check the "
            "masks, and mask_value of the classes"
        )
    for database in training:
        shared = sorted(set(database.patients) & set(validation.patients))
        if shared:
            raise DatabaseError(
                f"patient {shared[0]!r} is in both {database.path} and {validation.path}; scores would be too good. "
                "Delete both and run again"
            )
        for key in ("classes", "mpp", "resize", "tile_size", "edge_sigma", "objects"):
            # Older files know of no objects.
            one, other = (each.attributes.get(key) for each in (database, validation))
            if one != other:
                raise DatabaseError(
                    f"{database.path} and {validation.path} differ in {key}: {one} and {other}; delete both and run "
                    "again"
                )
    _refuse_copies([*training, validation])


def _refuse_copies(databases: list[TileDatabase]) -> None:
    """Stop if the same image was cut twice: a copy under another name may be learned from and scored on."""
    seen: dict[str, str] = {}
    for database in databases:
        for content, name in database.images:
            if content in seen:
                raise DatabaseError(
                    f"{database.path}: the image of sample {name} is a copy of that of sample {seen[content]}; scores "
                    "would be too good. Take one out of the sample table and run again"
                )
            seen[content] = name
