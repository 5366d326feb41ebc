"""Pictures of slides with the classes laid over them."""

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pathseg.figures import class_legend, class_picture, show

# Inches per picture: the text is as large in relation to a small picture as to a large one.
WIDTH_INCHES = 11
SMALLEST_WIDTH = 500
# Height over width; a narrow strip would be taller than a JPEG can be.
TALLEST = 4
# Opacity of the classes over the slide.
OPACITY = 0.35
# A picture is so many times as wide as the line along the border of a class.
LINES = 1000


def draw_overlay(
    image: np.ndarray, classes: np.ndarray, names: list[str], colors: list[str], title: str, mpp: float | None
) -> Figure:
    """Draw a slide with the classes laid over it, but the first.

    Parameters
    ----------
    image
        uint8 [H, W, 3].
    classes
        Class indices [H, W].
    names, colors
        Of the classes.
    title
        Name of the slide.
    mpp
        µm per pixel of the image for the scale bar, or None.
    """
    height, width = image.shape[:2]
    picture = class_picture(classes, colors)
    shown = np.where((classes > 0)[..., None], cv2.addWeighted(image, 1 - OPACITY, picture, OPACITY, 0), image)
    borders = borders_of(classes, 1 + 2 * round(max(width / LINES, 1)))
    shown[borders] = picture[borders]
    size = (WIDTH_INCHES, WIDTH_INCHES * min(height / width, TALLEST) + 0.8)
    figure = Figure(figsize=size, dpi=max(width, SMALLEST_WIDTH) / WIDTH_INCHES)
    axes = figure.subplots()
    show(axes, shown, title)
    if mpp:
        draw_scale_bar(axes, width, height, mpp)
    class_legend(figure, names[1:], colors[1:])
    return figure


def borders_of(classes: np.ndarray, side: int) -> np.ndarray:
    """Say which pixels of classes (uint8 [H, W]) but the first have another class in a square of a side around them."""
    square = np.ones((side, side), np.uint8)
    same = (cv2.erode(classes, square) == classes) & (cv2.dilate(classes, square) == classes)
    return (classes > 0) & ~same


def draw_scale_bar(axes: Axes, width: int, height: int, mpp: float) -> None:
    """Draw a bar of a round length, about a fifth of the picture [height, width] pixels of `mpp` µm."""
    # A hair more, so that a round width has a round bar whatever the last digits of its logarithm are.
    wanted = width * mpp / 5 * (1 + 1e-9)
    step = 10 ** np.floor(np.log10(wanted))
    length = max(factor * step for factor in (0.5, 1, 2, 5) if factor * step <= wanted)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar, margin, thickness = length / mpp, 0.02 * width, max(3.0, 0.004 * width)
    axes.add_patch(Rectangle((margin, height - margin - thickness), bar, thickness, color="black"))
    place = (margin + bar / 2, height - margin - 2 * thickness)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 2}
    axes.text(*place, text, ha="center", va="bottom", bbox=box)
