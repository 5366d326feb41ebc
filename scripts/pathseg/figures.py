"""Shared look of figures, and how they are saved."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pathseg.colors import rgb_of
from pathseg.files import atomic_path

mpl.use("Agg")
mpl.rc_file(Path(__file__).with_name("pathseg.mplstyle"))

# Colour of pixels that are ignored, in class pictures.
IGNORED_COLOR = (255, 255, 255)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure under a temporary name and rename it; the ending chooses the format."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def class_picture(indices: np.ndarray, colors: list[str]) -> np.ndarray:
    """Colour class indices [H, W] with the classes' colours; ignored pixels are white: uint8 [H, W, 3]."""
    table = np.full((256, 3), IGNORED_COLOR, np.uint8)
    table[: len(colors)] = [rgb_of(color) for color in colors]
    return table[indices]


def show(axes: Axes, picture: np.ndarray, title: str = "", **options: object) -> None:
    """Draw a picture [H, W] or [H, W, 3] without ticks or grid."""
    axes.imshow(picture, **options)  # type: ignore[arg-type]
    axes.set_title(title, fontsize=10, fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def class_legend(figure: Figure, names: list[str], colors: list[str]) -> None:
    """Put a legend of the classes below a figure."""
    patches = [mpl.patches.Patch(color=color, label=name) for name, color in zip(names, colors, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(names)))
