"""Make docs/images/demo.jpg, the picture of the README, from the results of `make run`.

Usage: PYTHONPATH=scripts python docs/make_figure.py
"""

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pathseg.figures import show
from pathseg.files import atomic_path
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
SLIDE, SAMPLE, WINDOW = "S01", "P09a", 900


def outlines(annotations: Path) -> list[np.ndarray]:
    """Return the rings of all outlines, float [n, 2] each, in pixels of the slide."""
    with gzip.open(annotations) as file:
        features = json.load(file)
    features = features["features"] if isinstance(features, dict) else features
    rings = []
    for feature in features:
        shape = feature["geometry"]
        parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        rings += [np.array(ring, float) for part in parts for ring in part]
    return rings


def window_of(rings: list[np.ndarray], width: int, height: int) -> tuple[int, int]:
    """Return the corner of the window that most of the outlines' length lies in."""
    points = np.concatenate(rings)
    counts, xs, ys = np.histogram2d(*points.T, bins=[max(1, width // 150), max(1, height // 150)])
    reach = max(1, WINDOW // 150)
    sums = cv2.boxFilter(counts, -1, (reach, reach), normalize=False, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    column, row = np.unravel_index(sums.argmax(), sums.shape)
    return min(int(xs[column]), width - WINDOW), min(int(ys[row]), height - WINDOW)


def draw_slide(whole: Axes, near: Axes) -> None:
    """Draw a predicted slide, and a window of it with the outlines that QuPath gets."""
    folder = RESULTS / "slides" / "default" / SLIDE
    summary = json.loads((folder / "summary.json").read_text())
    slide = open_slide(RESULTS.parent / summary["file"])
    rings = outlines(folder / "annotations.geojson.gz")
    x, y = window_of(rings, slide.width, slide.height)
    overview = ResampledSlide(slide, slide.width / 1000)
    picture = overview.read(0, 0, overview.width, overview.height)
    show(whole, picture, "a slide, predicted", extent=(0, slide.width, slide.height, 0))
    for ring in rings:
        whole.fill(*ring.T, facecolor="#0072B2", alpha=0.25, edgecolor="#0072B2", linewidth=0.4)
    whole.add_patch(Rectangle((x, y), WINDOW, WINDOW, fill=False, edgecolor="black", linewidth=1.5))
    picture = slide.read_level(0, x, y, WINDOW, WINDOW)
    show(near, picture, "the outlines that QuPath gets", extent=(x, x + WINDOW, y + WINDOW, y))
    for ring in rings:
        near.plot(*ring.T, color="#00E5FF", linewidth=1.2)
    near.set_xlim(x, x + WINDOW)
    near.set_ylim(y + WINDOW, y)


def draw_scores(axes: Axes) -> None:
    """Draw the Dice of patients that the network has not seen, by class."""
    table = pd.read_csv(RESULTS / "validation/default/holdout/metrics_per_patient.tsv", sep="\t")
    table = table[table["part"] == "test"]
    for place, (name, color) in enumerate({"stroma": "#777777", "epithelium": "#0072B2"}.items()):
        dice = table.loc[table["class"] == name, "dice"].to_numpy()
        axes.plot(place + np.linspace(-0.15, 0.15, len(dice)), dice, "o", color=color, markersize=9)
        axes.plot([place - 0.25, place + 0.25], [dice.mean()] * 2, color="black")
        axes.text(place + 0.28, dice.mean(), f"{dice.mean():.3f}", va="center", fontsize=10)
    axes.set_xticks([0, 1], ["stroma", "epithelium"])
    axes.set_xlim(-0.5, 1.6)
    axes.set_ylim(0.85, 1)
    axes.set_title("Dice of unseen patients", fontsize=10, fontweight="normal")


def draw_panel(axes: Axes) -> None:
    """Draw what the network makes of a validation image beside the truth."""
    show(axes, cv2.imread(str(RESULTS / f"validation/default/holdout/panels/{SAMPLE}.png"))[..., ::-1])


if __name__ == "__main__":
    figure = Figure(figsize=(13.2, 9), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 0.62], height_ratios=[1, 0.74])
    draw_slide(figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]))
    draw_scores(figure.add_subplot(grid[0, 2]))
    draw_panel(figure.add_subplot(grid[1, :]))
    with atomic_path(DOCS / "images" / "demo.jpg") as temporary:
        figure.savefig(temporary, dpi=110, pil_kwargs={"quality": 88})
