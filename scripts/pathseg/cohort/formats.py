"""Slides of several files: which belong together, on a disk or in a bucket.

MIRAX (.mrxs) keeps its pixels in a folder of the same name, Hamamatsu (.vms, .vmu) in files that it names, and DICOM
each level in a file of its own, with any name: those of one series are a slide.
"""

import posixpath
import re
import struct
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import BinaryIO, Protocol

# What these endings say is believed; any other file may be DICOM, which its content tells.
_ENDINGS = "svs tif tiff ndpi scn bif mrxs vms vmu czi svslide png jpg jpeg jp2 bmp webp"
IMAGE_ENDINGS = frozenset(f".{ending}" for ending in _ENDINGS.split())
SLIDE_ENDINGS = IMAGE_ENDINGS | {".dcm"}
SERIES = (0x0020, 0x000E)
END_OF_SEQUENCE, END_OF_ITEM = (0xFFFE, 0xE0DD), (0xFFFE, 0xE00D)
UNKNOWN_LENGTH = 0xFFFFFFFF
# Kinds of values whose length has four bytes (DICOM PS3.5, 7.1.2).
LONG_KINDS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Files(Protocol):
    """Where a slide's files are."""

    def beside(self, path: str) -> Collection[str]:
        """Return the files of the folder that a file is in."""

    def below(self, folder: str) -> Collection[str]:
        """Return the files in a folder and its folders."""

    def text(self, path: str) -> str:
        """Return what a file says."""


class LocalFiles:
    """Files on a disk."""

    def beside(self, path: str) -> list[str]:
        """Return the files of the folder that a file is in."""
        return [str(other) for other in Path(path).parent.iterdir() if other.is_file()]

    def below(self, folder: str) -> list[str]:
        """Return the files in a folder and its folders."""
        return [str(other) for other in Path(folder).rglob("*") if other.is_file()]

    def text(self, path: str) -> str:
        """Return what a file says."""
        return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).is_file() else ""


def is_address(name: str) -> bool:
    """Say whether a name is an address that a storage plugin of Snakemake may fetch, such as s3://bucket/a.svs."""
    return _ADDRESS.match(name) is not None


def tidied(address: str) -> str:
    """Return an address as it is compared with others: without . and .. and doubled slashes."""
    scheme, _, path = address.partition("://")
    return f"{scheme.lower()}://{posixpath.normpath(path.lstrip('/'))}"


def address_fault(address: str, endings: Collection[str] = ()) -> str | None:
    """Say why an address cannot be fetched as it stands, or does not end in one of `endings`; None if it can."""
    for character, why in {
        "*": "which nobody can look up in a bucket: list the slides in a table, each with its address",
        "?": "which is no part of a name there",
        "#": "which is no part of a name there",
    }.items():
        if character in address:
            return f"has {character}, {why}"
    if endings and PurePath(address).suffix.lower() not in endings:
        return f"has no ending that says what it is ({', '.join(sorted(endings))})"
    return None


def folder_of(path: str) -> str:
    """Return the folder of a file or an address."""
    return path.rpartition("/")[0]


def companions(path: str, files: Files) -> list[str]:
    """Return the files that belong to a slide's file: a change of one of them is a change of the slide.

    Parameters
    ----------
    path
        The slide's file, or its address.
    files
        Where it is.
    """
    ending = PurePath(path).suffix.lower()
    found: Collection[str] = ()
    if ending == ".mrxs":
        found = files.below(path[: -len(ending)])
    elif ending in (".vms", ".vmu"):
        lines = [line.partition("=") for line in files.text(path).splitlines()]
        named = {value.strip() for _, equals, value in lines if equals}
        found = [other for other in files.beside(path) if PurePath(other).name in named]
    elif is_address(path) and ending == ".dcm":
        # Of what is not on this disk nobody knows the series; names must do.
        found = [other for other in files.beside(path) if other.lower().endswith(ending)]
    elif series := series_of(path):
        found = [other for other in files.beside(path) if series_of(other) == series]
    return sorted(other for other in found if PurePath(other) != PurePath(path))


def series_of(path: str) -> str | None:
    """Return the number of the series that a DICOM file belongs to; None if it is another file.

    Its ending is not asked: scanners write files without one. Of the standard only what leads to the number is read
    (DICOM PS3.5, 7.1), little endian, with and without kinds of values.
    """
    if PurePath(path).suffix.lower() in IMAGE_ENDINGS:
        return None
    try:
        with open(path, "rb") as file:
            return _find_series(file) if file.read(132)[128:] == b"DICM" else None
    except (OSError, ValueError, struct.error, RecursionError):
        return None


def _find_series(file: BinaryIO) -> str | None:
    while True:
        tag, length = _element(file)
        if tag == SERIES:
            return file.read(length).decode("ascii").strip("\0 ")
        if tag > SERIES:
            return None
        _skip(file, length)


def _element(file: BinaryIO) -> tuple[tuple[int, int], int]:
    """Read the head of an element: its tag, and how many bytes its value has."""
    group, element, kind, length = struct.unpack("<HH2sH", file.read(8))
    if group == END_OF_ITEM[0] or not kind.isalpha():
        # The four bytes after the tag are the length.
        (length,) = struct.unpack("<I", kind + struct.pack("<H", length))
    elif kind in LONG_KINDS:
        (length,) = struct.unpack("<I", file.read(4))
    return (group, element), length


def _skip(file: BinaryIO, length: int) -> None:
    """Go on behind a value; a sequence may say only at its end that it ends."""
    if length != UNKNOWN_LENGTH:
        file.seek(length, 1)
        return
    tag = (0, 0)
    while tag not in (END_OF_SEQUENCE, END_OF_ITEM):
        tag, inner = _element(file)
        _skip(file, inner)
