"""Tell tissue from glass."""

from pathlib import Path

import cv2
import numpy as np
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import dilation, disk, remove_small_objects

from pathseg.images.masks import read_labels
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide
from pathseg.labels.drawing import pixels_inside
from pathseg.labels.geojson import is_annotation_file, read_annotations

# Saturation (0..1) that counts as stained. Otsu's threshold lies between glass and the typical tissue, and may lie
# above a pale fragment; the upper limit makes the mask err towards tissue, the lower one keeps out noise of the glass.
LOWEST_THRESHOLD, HIGHEST_THRESHOLD = 0.02, 0.045

# Tissue is looked for at this µm per pixel, so that it does not depend on the scanner's; on large slides, and where the
# pixel size is unknown, in a picture of this side in pixels. A margin is added around it.
MASK_MPP = 4.0
MASK_SIDE = 2048
MARGIN_PIXELS = 4
SMALLEST_PIXELS = 16


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


def find_tissue(slide: Slide) -> np.ndarray:
    """Find tissue on a low-resolution picture of a slide.

    Returns
    -------
    numpy.ndarray
        bool [h, w] that covers the whole slide, at most `MASK_SIDE` pixels a side.
    """
    wanted = MASK_MPP / slide.mpp if slide.mpp else 1.0
    view = ResampledSlide(slide, max(wanted, max(slide.width, slide.height) / MASK_SIDE))
    saturation = gaussian(stained(view.read(0, 0, view.width, view.height)), sigma=2)
    if saturation.max() == saturation.min():
        return np.full(saturation.shape, saturation.max() > HIGHEST_THRESHOLD)
    threshold = np.clip(threshold_otsu(saturation), LOWEST_THRESHOLD, HIGHEST_THRESHOLD)
    tissue = remove_small_objects(saturation > threshold, max_size=SMALLEST_PIXELS)
    return dilation(tissue, disk(MARGIN_PIXELS))


def read_tissue(path: str | Path, slide: Slide) -> np.ndarray:
    """Read a user's own mask of the tissue.

    Parameters
    ----------
    path
        An image of any size that covers the whole slide, whose pixels above 0 are tissue; or annotations (GeoJSON) of
        any class in pixels of the slide.
    slide
        The slide.

    Returns
    -------
    numpy.ndarray
        bool [h, w] that covers the whole slide.
    """
    if not is_annotation_file(path):
        return read_labels(path) > 0
    scale = min(1.0, MASK_SIDE / max(slide.width, slide.height))
    width, height = (max(1, round(side * scale)) for side in (slide.width, slide.height))
    tissue = np.zeros((height, width), bool)
    for annotation in read_annotations(path):
        scales = (width / slide.width, height / slide.height)
        tissue |= pixels_inside(annotation.polygon, (0, 0, width, height), scales)
    return tissue
