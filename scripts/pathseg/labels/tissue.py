"""Tell tissue from glass."""

import logging
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import dilation, disk, remove_small_objects

from pathseg.errors import ImageError
from pathseg.images.masks import read_labels
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide
from pathseg.labels.drawing import PolygonDrawing
from pathseg.labels.geojson import is_annotation_file, read_annotations

log = logging.getLogger("pathseg")

# Saturation (0..1) that counts as stained. Otsu's threshold lies between glass and the typical tissue, and may lie
# above a pale fragment; the upper limit makes the mask err towards tissue, the lower one keeps out noise of the glass.
LOWEST_THRESHOLD, HIGHEST_THRESHOLD = 0.02, 0.045

# Tissue is looked for at this µm per pixel, so that it does not depend on the scanner's; on large slides, and where the
# pixel size is unknown, in a picture of this side in pixels. A margin is added around it.
MASK_MPP = 4.0
MASK_SIDE = 2048
MARGIN_PIXELS = 4
SMALLEST_PIXELS = 16

# Images of one level are fields of tissue, not slides with glass around it, up to this size: all of them is looked at.
LARGEST_PLAIN_PIXELS = 100_000_000

# Masks of programs that look for artefacts, known by how these programs name their files: the folder and the end of the
# name, the values that are tissue to look at, and the other values that the program writes. GrandQC's mask of artefacts
# has 1 for tissue, 2 to 6 for folds, dark spots, pen, edges and air bubbles, and what is out of focus, 7 for glass, 0
# beyond its tiles; its mask of tissue has 0 for tissue. HistoQC's has 255 for what is to be used.
QUALITY_MASKS = (
    ("GrandQC", "mask_qc/*_mask.png", (1,), (0, 2, 3, 4, 5, 6, 7)),
    ("GrandQC", "tis_det_mask/*_MASK.png", (0,), (1,)),
    ("HistoQC", "*_mask_use.png", (255,), (0,)),
)

# By what share the width of a mask may differ from what its height and the slide tell.
SHAPE_TOLERANCE = 0.01


def stained(rgb: np.ndarray) -> np.ndarray:
    """Return colour saturation, max minus min of the channels: float32 [H, W], 0 (grey, glass) to 1.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3].
    """
    return (rgb.max(axis=-1) - rgb.min(axis=-1)).astype(np.float32) / 255


def tissue_share(rgb: np.ndarray) -> float:
    """Return the share of the pixels of uint8 [H, W, 3] that are stained, after a light smoothing."""
    return float((cv2.blur(stained(rgb), (5, 5)) > HIGHEST_THRESHOLD).mean())


def tissue_source(slide: Slide, own_tissue: str | None, setting: str) -> str:
    """Return what says where to look on a slide.

    Parameters
    ----------
    slide
        The slide.
    own_tissue
        File of the user's own mask, or None.
    setting
        "auto" or "none".

    Returns
    -------
    str
        The user's file, "auto" for the search, "none", or "whole image" for one that is too small to be searched.
    """
    if own_tissue:
        return str(own_tissue)
    plain = len(slide.levels) == 1 and slide.width * slide.height <= LARGEST_PLAIN_PIXELS
    return "whole image" if plain and setting == "auto" else setting


def choose_tissue(slide: Slide, own_tissue: str | None, setting: str, holes_um2: float) -> np.ndarray | None:
    """Return where to look, bool [h, w] that covers the slide; None for everywhere.

    Parameters
    ----------
    slide, own_tissue, setting
        See `tissue_source`.
    holes_um2
        See `find_tissue`.
    """
    if own_tissue:
        return read_tissue(own_tissue, slide)
    return find_tissue(slide, holes_um2) if tissue_source(slide, None, setting) == "auto" else None


def find_tissue(slide: Slide, holes_um2: float = np.inf) -> np.ndarray:
    """Find tissue on a low-resolution picture of a slide.

    Parameters
    ----------
    slide
        The slide.
    holes_um2
        What looks like glass but has tissue all around, such as lumen, fat or a tear, counts as tissue up to this area;
        of any area if the pixel size is not known.

    Returns
    -------
    numpy.ndarray
        bool [h, w] that covers the whole slide, at most `MASK_SIDE` pixels a side.
    """
    mpp = slide.mpp
    wanted = MASK_MPP / mpp if mpp else 1.0
    view = ResampledSlide(slide, max(wanted, max(slide.width, slide.height) / MASK_SIDE))
    picture = view.read(0, 0, view.width, view.height)
    stain = stained(picture)
    # A grey scan has no colours: its tissue is what is darker than its brightest pixel, the glass.
    saturation = gaussian(stain if stain.any() else (picture.max() - picture[..., 0]).astype(np.float32) / 255, sigma=2)
    if saturation.max() == saturation.min():
        return np.full(saturation.shape, saturation.max() > HIGHEST_THRESHOLD)
    threshold = np.clip(threshold_otsu(saturation), LOWEST_THRESHOLD, HIGHEST_THRESHOLD)
    tissue = remove_small_objects(saturation > threshold, max_size=SMALLEST_PIXELS)
    if not mpp:
        log.info("%s: its pixel size is not known, so that holes of any size count as tissue", slide.path)
    pixel_um2 = mpp**2 * slide.width * slide.height / (view.width * view.height) if mpp else 0.0
    return without_holes(dilation(tissue, disk(MARGIN_PIXELS)), holes_um2 / pixel_um2 if pixel_um2 else np.inf)


def without_holes(tissue: np.ndarray, largest: float) -> np.ndarray:
    """Fill what has tissue all around, up to an area in pixels; what reaches the border of the picture is no hole.

    Parameters
    ----------
    tissue
        bool [h, w].
    largest
        Larger holes stay.
    """
    count, glass = cv2.connectedComponents((~tissue).astype(np.uint8), connectivity=4)
    hole = np.bincount(glass.ravel(), minlength=count) <= largest
    for side in (glass[0], glass[-1], glass[:, 0], glass[:, -1]):
        hole[side] = False
    hole[0] = True  # the tissue itself
    return hole[glass]


def read_tissue(path: str | Path, slide: Slide) -> np.ndarray:
    """Read a user's own mask of the tissue.

    Parameters
    ----------
    path
        An image of any size that covers the whole slide, whose pixels above 0 are tissue, or one of `QUALITY_MASKS`; or
        annotations (GeoJSON) of any class in pixels of the slide.
    slide
        The slide.

    Returns
    -------
    numpy.ndarray
        bool [h, w] that covers the whole slide.

    Raises
    ------
    ImageError
        If an image has another shape than the slide, or one of `QUALITY_MASKS` a value that its program does not write.
    """
    if not is_annotation_file(path):
        tissue = usable(read_labels(path), path)
        height, width = tissue.shape
        # Sides may be rounded to whole pixels.
        if abs(np.log(width / height * slide.height / slide.width)) > SHAPE_TOLERANCE + 1 / min(width, height):
            raise ImageError(
                f"{path}: has {width} x {height} pixels, another shape than {slide.path} ({slide.width} x "
                f"{slide.height}); a mask of the tissue must cover the whole slide and nothing else"
            )
        return tissue
    scale = min(1.0, MASK_SIDE / max(slide.width, slide.height))
    width, height = (max(1, round(side * scale)) for side in (slide.width, slide.height))
    tissue = np.zeros((height, width), np.uint8)
    polygons = [annotation.polygon for annotation in read_annotations(path)]
    if polygons:
        scales = (width / slide.width, height / slide.height)
        PolygonDrawing(polygons, [1] * len(polygons), scales).draw(tissue, 0, 0)
    return tissue > 0


def usable(labels: np.ndarray, path: str | Path) -> np.ndarray:
    """Return where a mask says to look: above 0, or as the program that wrote it says.

    Parameters
    ----------
    labels
        uint8 or uint16 [h, w].
    path
        Of the mask, by which the program is known.

    Returns
    -------
    numpy.ndarray
        bool [h, w].
    """
    for program, pattern, tissue, other in QUALITY_MASKS:
        # Not Path.match, which knows no difference of case on some systems.
        if fnmatchcase(f"/{Path(path).as_posix()}", f"*/{pattern}"):
            wrong = np.setdiff1d(labels, [*tissue, *other])
            if len(wrong):
                raise ImageError(
                    f"{path}: by its name it is a mask of {program}, which has the values "
                    f"{', '.join(map(str, sorted([*tissue, *other])))}, but it has pixels of value {wrong[0]}; give "
                    "the file that the program wrote, or rename your own, whose pixels above 0 are tissue"
                )
            return np.isin(labels, tissue)
    return labels > 0
