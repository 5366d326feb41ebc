"""What comes back from QuPath: exported annotations, whether they can be learned from, and what has changed in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import Polygon

from pathseg.errors import ImageError, ProjectError
from pathseg.labels.geojson import ENDINGS, Annotation, load_geojson, read_annotations
from pathseg.labels.label_maps import IGNORE_CLASS, known_class
from pathseg.labels.regions import REGION_CLASS, answered_regions, cut_to, is_answered


@dataclass(frozen=True)
class Export:
    """Annotations exported from QuPath.

    Attributes
    ----------
    path : Path
        The file.
    slide : str
        Name of the slide: what the project's script has written, else the file's name without its ending.
    project : str or None
        Identifier of the project, if a script of pathseg has exported it.
    annotations : list of Annotation
        All of them.
    """

    path: Path
    slide: str
    project: str | None
    annotations: list[Annotation]


def read_export(path: str | Path) -> Export:
    """Read exported annotations.

    Raises
    ------
    ImageError
        If the file is damaged.
    """
    path = Path(path)
    content = load_geojson(path)
    mark = content.get("pathseg") if isinstance(content, dict) else None
    mark = mark if isinstance(mark, dict) else {}
    ending = next((ending for ending in ENDINGS[::-1] if path.name.lower().endswith(ending)), "")
    name = path.name[: len(path.name) - len(ending)]
    return Export(path, str(mark.get("slide") or name), mark.get("project"), read_annotations(path))


def check_export(export: Export, classes: list[dict[str, Any]], size: tuple[int, int] | None) -> list[str]:
    """Check that the regions of an export can be learned from.

    Parameters
    ----------
    export
        The export.
    classes
        Of the configuration.
    size
        Width and height of the slide in its finest pixels; None if they are not known.

    Returns
    -------
    list of str
        A sentence for each thing that is taken and that a person may not have meant.

    Raises
    ------
    ProjectError
        If a class is new, or an annotation in a region has none.
    ImageError
        If a region is not on the slide.
    """
    regions = answered_regions(export.annotations)
    others = [annotation for annotation in export.annotations if annotation.name != REGION_CLASS]
    inside = cut_to(others, regions)
    _check_classes(export.path, inside, classes)
    said = []
    if size:
        slide = shapely.box(0, 0, *size)
        for region in regions:
            if not region.intersects(slide):
                raise ImageError(
                    f"{export.path}: a region at {region.bounds} lies outside of slide {export.slide!r}, which has "
                    f"{size[0]} x {size[1]} pixels; is it of another slide?"
                )
        over = sum(not slide.covers(region) for region in regions)
        if over:
            said.append(f"{export.slide}: {over} regions reach over the slide's rim; what lies beyond it is left out")
    if cut := _count_cut(others, regions):
        said.append(f"{export.slide}: {cut} annotations reach out of their region; what lies outside is left out")
    return said


def _count_cut(annotations: list[Annotation], regions: list[Polygon]) -> int:
    """Return how many annotations lie in a region and outside of it."""
    polygons = np.array([annotation.polygon for annotation in annotations], object)
    cut = np.zeros(len(polygons), bool)
    for region in regions:
        shapely.prepare(region)
        cut |= (
            shapely.intersects(region, polygons)
            & ~shapely.touches(region, polygons)
            & ~shapely.covers(region, polygons)
        )
    return int(cut.sum())


def _check_classes(path: Path, annotations: list[Annotation], classes: list[dict[str, Any]]) -> None:
    nameless = sum(annotation.name is None for annotation in annotations)
    if nameless:
        raise ProjectError(
            f"{path}: {nameless} annotations in its regions have no class; set their class in QuPath and export again"
        )
    found = {annotation.name for annotation in annotations if annotation.name not in (None, IGNORE_CLASS)}
    new = sorted(name for name in found if known_class(name, [class_["name"] for class_ in classes]) is None)
    if new:
        free = max(class_["mask_value"] for class_ in classes) + 1
        offered = ", ".join(f"{{name: {name!r}, mask_value: {free + number}}}" for number, name in enumerate(new))
        raise ProjectError(
            f"{path}: its regions have annotations of a class that `classes` does not have; add {offered} to the "
            "configuration, or give them another class in QuPath and export again"
        )


def waiting_regions(export: Export) -> int:
    """Return how many regions nobody has answered yet."""
    return sum(annotation.name == REGION_CLASS and not is_answered(annotation) for annotation in export.annotations)


def compare_regions(before: list[Annotation], now: list[Annotation]) -> list[dict[str, Any]]:
    """Say what has become of each answered region.

    Returns
    -------
    list of dict
        `what` (unchanged, changed, added, gone), `x`, `y`, `width` and `height` in the slide's finest pixels, and the
        number of `annotations` that are now in it.
    """
    old, new = _contents(before), _contents(now)
    rows = []
    for key in [*new, *(key for key in old if key not in new)]:
        if key not in new:
            what = "gone"
        elif key not in old:
            what = "added"
        else:
            what = "unchanged" if old[key][1] == new[key][1] else "changed"
        region, content = new.get(key) or old[key]
        x0, y0, x1, y1 = region.bounds
        size = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        rows.append({"what": what} | size | {"annotations": len(content) if key in new else 0})
    return rows


def _contents(annotations: list[Annotation]) -> dict[bytes, tuple[Polygon, list[tuple[str, bytes]]]]:
    """Return each answered region by its outline, with the classes and outlines of what is in it."""
    others = [annotation for annotation in annotations if annotation.name != REGION_CLASS]
    return {
        region.normalize().wkb: (
            region,
            sorted((part.name or "", part.polygon.normalize().wkb) for part in cut_to(others, [region])),
        )
        for region in answered_regions(annotations)
    }
