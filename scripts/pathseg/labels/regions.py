"""Regions in which all is known: what a person encloses in QuPath with an annotation of the class `Region*`.

What has no annotation inside a region is background; outside of the regions nothing is known.
"""

import numpy as np
import shapely
from shapely.geometry import Polygon

from pathseg.labels.geojson import Annotation

# QuPath's own name for such a class.
REGION_CLASS = "Region*"
# How the name of a region begins that was suggested and not answered yet: what is in it is a model's, not a person's.
TO_DO = "to do"


def has_regions(annotations: list[Annotation]) -> bool:
    """Say whether there are regions among annotations, answered or not."""
    return any(annotation.name == REGION_CLASS for annotation in annotations)


def answered_regions(annotations: list[Annotation]) -> list[Polygon]:
    """Return the regions whose content is a person's: all whose own name does not say that they are still to do."""
    return [
        annotation.polygon for annotation in annotations if annotation.name == REGION_CLASS and is_answered(annotation)
    ]


def is_answered(region: Annotation) -> bool:
    """Say whether a region's own name does not say that it is still to do."""
    return not (region.title or "").strip().casefold().startswith(TO_DO)


def within_regions(annotations: list[Annotation], background: str) -> list[Annotation]:
    """Return what annotations say if there are regions among them; if there are none, all as they are.

    Parameters
    ----------
    annotations
        As read; a later one covers an earlier one.
    background
        Name of the class that fills the regions.

    Returns
    -------
    list of Annotation
        The answered regions, as background, and what of the other annotations lies inside of them, in their order.
    """
    if not has_regions(annotations):
        return annotations
    regions = answered_regions(annotations)
    others = [annotation for annotation in annotations if annotation.name != REGION_CLASS]
    return [Annotation(background, polygon) for polygon in regions] + cut_to(others, regions)


def cut_to(annotations: list[Annotation], regions: list[Polygon]) -> list[Annotation]:
    """Return what of annotations lies inside of regions, in their order; of one in several pieces each by itself."""
    area = shapely.union_all(regions)
    shapely.prepare(area)
    whole = shapely.covers(area, np.array([annotation.polygon for annotation in annotations], object))
    inside = []
    for annotation, is_whole in zip(annotations, whole, strict=True):
        # Of millions, most are far from any region.
        if is_whole or area.intersects(annotation.polygon):
            pieces = [annotation.polygon] if is_whole else shapely.get_parts(annotation.polygon & area)
            inside += [Annotation(annotation.name, piece) for piece in pieces if isinstance(piece, Polygon)]
    return inside
