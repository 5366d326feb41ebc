"""A QuPath project: made once, and added to without touching what a person has changed.

The fields are those of QuPath's classes `DefaultProject`, `ImageServerBuilder.DefaultImageServerBuilder` and
`PathClass`, read in its source (0.6 to 0.8). Not yet seen in QuPath itself. Objects are not written: QuPath keeps them
as Java's own serialised classes, and scripts of the project import them.
"""

import hashlib
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pathseg.colors import packed
from pathseg.errors import ProjectError
from pathseg.files import atomic_path

PROJECT_FILE = "project.qpproj"
RECORD_FILE = "pathseg/project.json"
CLASSES_FILE = "classifiers/classes.json"
# QuPath's own, with the colours that it gives them: a rectangle in which all is annotated, and what is left out.
QUPATH_CLASSES = {"Region*": "#0000b4", "Ignore*": "#b4b4b4"}
# The oldest version whose files look as those written here.
VERSION = "0.6.0"


@dataclass
class Record:
    """What pathseg has put into a project, so that it knows later what is a person's.

    Attributes
    ----------
    project : str
        Identifier of the project, which exported annotations carry.
    images : dict
        By slide: `entry`, the number of the image in the project, and `uri` as it was written.
    classes : list of str
        Names of classes that were added.
    files : dict
        By path in the project: SHA-256 of what was written.
    slides : dict
        By number of the image, what the scripts read: `slide`, `mpp`, and by experiment the files of `predictions` and
        `suggestions`, relative to the project's folder.
    """

    project: str = field(default_factory=lambda: str(uuid.uuid4()))
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    slides: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_record(folder: Path) -> Record:
    """Return the record of a project; a new one if there is none.

    Raises
    ------
    ProjectError
        If it is damaged.
    """
    path = folder / RECORD_FILE
    content = _read(path, {})
    if set(content) - set(vars(Record())):
        raise ProjectError(f"{path}: is not what pathseg wrote; remove it, and images are known by their files again")
    return Record(**content)


def add_images(folder: Path, record: Record, slides: list[dict[str, Any]]) -> list[str]:
    """Make the project if there is none, and add the slides that are new.

    Parameters
    ----------
    folder
        Of the project.
    record
        Of the project; it is brought up to date.
    slides
        `slide` (its name) and `uri` of each.

    Returns
    -------
    list of str
        A sentence for each thing that a person may want to know.

    Raises
    ------
    ProjectError
        If the project's file is damaged.
    """
    path = folder / PROJECT_FILE
    now = int(time.time() * 1000)
    here = path.absolute().as_uri()
    empty = {"version": VERSION, "createTimestamp": now, "modifyTimestamp": now, "uri": here, "lastID": 0, "images": []}
    if not path.exists():
        # A new project, whatever there was: nobody has removed anything from it.
        record.images.clear()
    project = _read(path, empty)
    images = project.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) and "entryID" in image for image in images):
        raise ProjectError(f"{path}: is not a project of QuPath 0.2 or newer; move it away, and a new one is made")
    before = json.dumps(project)
    by_number = {image["entryID"]: image for image in images}
    by_uri = {_resolved(uri, project.get("uri"), here): image for image in reversed(images) for uri in _uris(image)}
    last = max([project.get("lastID") or 0, *by_number])
    said = []
    for slide in slides:
        name, uri = slide["slide"], slide["uri"]
        known = record.images.get(name)
        image = by_number.get(known["entry"]) if known else by_uri.get(uri)
        if known and image is None:
            said.append(f"{name}: was removed from the project, and is left out")
            continue
        if image is None:
            last += 1
            image = _entry(last, slide)
            images.append(image)
            said.append(f"{name}: added")
        elif known and uri != known["uri"] and _uris(image) == [known["uri"]]:
            image["serverBuilder"]["uri"] = uri
            said.append(f"{name}: its file is now {uri}")
        record.images[name] = {"entry": image["entryID"], "uri": (_uris(image) or [uri])[0]}
    if json.dumps(project) != before or not path.exists():
        project |= {"lastID": last, "modifyTimestamp": now}
        _write(path, project)
    return said


def removed_slides(folder: Path) -> set[str]:
    """Return the names of slides that a person has removed from a project; of none if there is no project."""
    if not (folder / PROJECT_FILE).exists():
        return set()
    there = {image.get("entryID") for image in _read(folder / PROJECT_FILE, {}).get("images", [])}
    record = read_record(folder)
    return {name for name, image in record.images.items() if image["entry"] not in there}


def _entry(number: int, slide: dict[str, Any]) -> dict[str, Any]:
    """Return an image of a project, whose reader QuPath chooses."""
    return {
        "serverBuilder": {"builderType": "uri", "uri": slide["uri"], "args": []},
        "entryID": number,
        "randomizedName": str(uuid.uuid4()),
        "imageName": slide["slide"],
        "metadata": {},
    }


def _uris(builder: Any) -> list[str]:
    """Return the URIs of an image, however deep QuPath has nested them (rotated, cropped ...)."""
    if isinstance(builder, list):
        return [uri for item in builder for uri in _uris(item)]
    if not isinstance(builder, dict):
        return []
    own = [builder["uri"]] if isinstance(builder.get("uri"), str) else []
    return own + [uri for value in builder.values() for uri in _uris(value)]


def _resolved(uri: str, project_before: str | None, project_now: str) -> str:
    """Return where an image is, as QuPath finds it after a project has been moved.

    That is where it was, or if nothing is there, at the same place relative to the project's folder.
    """
    path = path_of(uri)
    if path is None or path.exists() or not project_before or project_before == project_now:
        return path.as_uri() if path else uri
    before, now = path_of(project_before), path_of(project_now)
    if before is None or now is None:
        return uri
    moved = Path(os.path.normpath(now.parent / os.path.relpath(path, before.parent)))
    return moved.as_uri() if moved.exists() else uri


def path_of(uri: str) -> Path | None:
    """Return the path of a file's URI, also in Java's form with one slash (`file:/a`); None for other URIs."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def add_classes(folder: Path, record: Record, classes: dict[str, str]) -> None:
    """Add classes (colours by name) that are new to the project; those that are there keep their colour."""
    path = folder / CLASSES_FILE
    content = _read(path, {"pathClasses": []})
    there = content.setdefault("pathClasses", [])
    present = {class_.get("name") for class_ in there}
    new = [name for name in classes if name not in present and name not in record.classes]
    if new:
        there += [{"name": name, "color": packed(classes[name])} for name in new]
        _write(path, content)
    record.classes += [name for name in classes if name not in record.classes]


def add_file(folder: Path, record: Record, name: str, content: str) -> str | None:
    """Write a file of the project, or its new version; say why not if a person has changed or removed it."""
    path = folder / name
    if name in record.files and not path.exists():
        return f"{path}: was removed, and is left out"
    if path.exists() and _digest(path.read_bytes()) not in (record.files.get(name), _digest(content.encode())):
        return f"{path}: is not as pathseg wrote it, and is left as it is; rename it to get the new one"
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    record.files[name] = _digest(content.encode())
    return None


def write_record(folder: Path, record: Record) -> None:
    """Write the record, which the project's scripts read."""
    _write(folder / RECORD_FILE, vars(record))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return otherwise
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path}: cannot be read ({error}); close QuPath, or move the file away") from error
    if not isinstance(content, dict):
        raise ProjectError(f"{path}: is not what QuPath or pathseg wrote; move the file away")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
