"""A figure of what was planned, and of what it was planned from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from pathseg.cohort.plans import PLANNABLE
from pathseg.figures import show
from pathseg.geometry import field_of_view
from pathseg.labels.values import IGNORE
from pathseg.planning.choices import weighted_median
from pathseg.planning.doubts import patient_colors
from pathseg.planning.measures import ImageMeasures

# Patients whose names stand beside their colours, at most.
NAMED_PATIENTS = 24
MARKERS = "os^Dv<>ph*"
TILE, FIELD = "#D55E00", "#000000"


def draw_plan(
    images: Sequence[ImageMeasures],
    learned: Sequence[ImageMeasures],
    parts: list[str],
    classes: list[dict[str, Any]],
    example: tuple[str, np.ndarray, np.ndarray],
    planned: dict[str, dict[str, Any]],
) -> Figure:
    """Draw a plan.

    Parameters
    ----------
    images, learned
        What was measured of all images, and of those that the plan is from.
    parts
        Names of the parts in the order to draw them.
    classes
        The configuration's classes.
    example
        Name of an image, its pixels at the planned resolution uint8 [H, W, 3], and their class indices [H, W].
    planned
        `tiles`, `objects` if there are any, and `unet` and `training` of the experiment that is drawn.
    """
    figure = Figure(figsize=(15, 9.4))
    axes = figure.subplot_mosaic(
        [
            ["image", "image", "widths", "shares"],
            ["image", "image", "gaps", "pixels"],
            ["plan", "plan", "colors", "colors"],
        ],
        height_ratios=[1, 1, 1.15],
    )
    tiles = planned["tiles"]
    unit, pixel = ("px", 1 / tiles["resize"]) if tiles["resize"] else ("µm", tiles["mpp"])
    _draw_example(axes["image"], example, tiles["size"], planned["unet"]["depth"], unit, pixel, classes)
    _write_plan(axes["plan"], planned)
    _draw_widths(axes["widths"], learned, classes, unit, pixel)
    _draw_gaps(axes["gaps"], learned, unit, pixel)
    _draw_shares(axes["shares"], images, parts, classes)
    _draw_pixels(axes["pixels"], images, parts, pixel, unit)
    _draw_colors(axes["colors"], images, parts)
    return figure


def _draw_example(
    axes: Axes,
    example: tuple[str, np.ndarray, np.ndarray],
    size: int,
    depth: int,
    unit: str,
    pixel: float,
    classes: list[dict[str, Any]],
) -> None:
    """Draw an image with its classes' outlines, a tile, and what one of its pixels sees, to scale."""
    name, image, indices = example
    height, width = image.shape[:2]
    field = field_of_view(depth)
    show(axes, image, interpolation="nearest")
    axes.set_anchor("N")
    for index, class_ in enumerate(classes):
        inside = (indices == index) & (indices != IGNORE)
        if index and inside.any() and not inside.all():
            axes.contour(inside, [0.5], colors=[class_["color"]], linewidths=1.2)
    x, y = (width - size) / 2, (height - size) / 2
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor="white", linewidth=4.5))
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=TILE, linewidth=2.5))
    middle = (width / 2 - field / 2, height / 2 - field / 2)
    axes.add_patch(Rectangle(middle, field, field, fill=False, edgecolor="white", linewidth=3.5))
    axes.add_patch(Rectangle(middle, field, field, fill=False, edgecolor=FIELD, linewidth=1.5, linestyle=(0, (4, 3))))
    axes.plot(width / 2, height / 2, marker="+", color=FIELD, markersize=12, markeredgewidth=2)
    least, most = min(x, middle[0], 0), max(x + size, middle[0] + field, width)
    top, bottom = min(y, middle[1], 0), max(y + size, middle[1] + field, height)
    margin = 0.02 * (most - least)
    axes.set(xlim=(least - margin, most + margin), ylim=(bottom + margin, top - margin))
    axes.set_title(f"{name} at {pixel:.3g} {unit} per pixel", fontsize=12, fontweight="bold")
    axes.set_xlabel(
        f"orange: a tile, {size} pixels = {size * pixel:,.0f} {unit}\n"
        f"dashed: what the pixel in the middle sees, {field} pixels = {field * pixel:,.0f} {unit}"
    )


def _write_plan(axes: Axes, settings: dict[str, dict[str, Any]]) -> None:
    """Write the settings that can be planned, block by block."""
    axes.axis("off")
    shown = {block: keys for block, keys in PLANNABLE.items() if block in settings}
    for column, (block, keys) in enumerate(shown.items()):
        lines = [block, *(f"  {key}: {settings[block][key]}" for key in keys)]
        axes.text(
            0.92 * column / len(shown), 0.95, "\n".join(lines), va="top", linespacing=1.6, transform=axes.transAxes
        )


def _draw_widths(
    axes: Axes, images: Sequence[ImageMeasures], classes: list[dict[str, Any]], unit: str, pixel: float
) -> None:
    axes.set(title="Widths of objects", xlabel=unit, ylabel="share of their area (%)")
    everything = np.concatenate([widths for image in images for widths in image.widths[1:]] or [np.empty(0)])
    if not len(everything):
        _nothing(axes, "no objects")
        return
    bins = np.geomspace(max(everything.min(), pixel / 4), max(everything.max(), pixel) * 1.01, 25).tolist()
    for index, class_ in enumerate(classes[1:], start=1):
        widths, areas = (
            np.concatenate([getattr(image, key)[index] for image in images]) for key in ("widths", "object_areas")
        )
        if len(widths):
            middle = weighted_median(widths, areas)
            label = f"{class_['name']}: {middle:.3g} {unit}, {middle / pixel:.0f} pixels"
            weights = 100 * areas / areas.sum()
            axes.hist(
                widths, bins, weights=weights, histtype="stepfilled", color=class_["color"], alpha=0.5, label=label
            )
            axes.axvline(middle, color=class_["color"])
    _logarithmic(axes)
    _legend_above(axes)


def _draw_gaps(axes: Axes, images: Sequence[ImageMeasures], unit: str, pixel: float) -> None:
    axes.set(title="Gaps to the next object", xlabel=unit, ylabel="objects (%)")
    everything = np.concatenate([image.gaps for image in images])
    gaps = everything[everything > 0]
    if not len(gaps):
        _nothing(axes, "no two objects with a gap in an image")
        return
    touching = 100 - 100 * len(gaps) / len(everything)
    bins = np.geomspace(gaps.min(), max(gaps.max(), 2 * pixel) * 1.01, 25).tolist()
    axes.hist(gaps, bins, weights=np.full(len(gaps), 100 / len(everything)), color="#999999")
    middle = float(np.median(gaps))
    axes.axvline(middle, color="black", label=f"half: {middle:.3g} {unit}, {middle / pixel:.1f} pixels")
    axes.axvline(pixel, color=TILE, linestyle="--", label="a pixel")
    if touching:
        axes.plot([], [], linestyle="", label=f"{touching:.0f} % touch and are not drawn")
    _logarithmic(axes)
    _legend_above(axes)


def _draw_shares(axes: Axes, images: Sequence[ImageMeasures], parts: list[str], classes: list[dict[str, Any]]) -> None:
    axes.set(title="Classes", xlabel="share of the known area (%)", xlim=(0, 100))
    before = np.zeros(len(parts))
    areas = np.array(
        [
            np.sum([image.areas for image in images if image.part == part] or [np.zeros(len(classes))], axis=0)
            for part in parts
        ]
    )
    shares = 100 * areas / np.maximum(areas.sum(axis=1, keepdims=True), 1e-12)
    total = 100 * areas.sum(axis=0) / max(areas.sum(), 1e-12)
    for index, class_ in enumerate(classes):
        label = f"{class_['name']} {total[index]:.3g} %"
        axes.barh(parts, shares[:, index], left=before, color=class_["color"], label=label)
        before += shares[:, index]
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.grid(visible=False)
    _legend_above(axes)


def _draw_pixels(axes: Axes, images: Sequence[ImageMeasures], parts: list[str], pixel: float, unit: str) -> None:
    axes.set(title="Pixel sizes", xlabel=f"{unit} per pixel")
    for row, part in enumerate(parts):
        sizes = [image.mpp for image in images if image.part == part]
        found, counts = np.unique(np.round(sizes, 4), return_counts=True)
        axes.scatter(
            found, np.full(len(found), row), s=30 + 170 * counts / max(len(images), 1), color="#0072B2", zorder=3
        )
    axes.axvline(pixel, color=TILE, linestyle="--", label=f"planned: {pixel:.3g}")
    everything = [image.mpp for image in images] + [pixel]
    axes.set_xlim(min(everything) / 1.5, max(everything) * 1.5)
    _logarithmic(axes)
    axes.set_yticks(range(len(parts)), parts)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    _legend_above(axes)


def _draw_colors(axes: Axes, images: Sequence[ImageMeasures], parts: list[str]) -> None:
    axes.set(
        title="Colours of patients: of stained tissue, the mean",
        xlabel="optical density in red (haematoxylin)",
        ylabel="optical density in green\n(both stains)",
    )
    colors = patient_colors(images)
    if not colors:
        _nothing(axes, "nothing is stained")
        return
    for number, part in enumerate(parts):
        own = np.array([color for (of, _), color in colors.items() if of == part]).reshape(-1, 3)
        faces = np.clip(10.0**-own, 0, 1)
        marker = MARKERS[number % len(MARKERS)]
        axes.scatter(own[:, 0], own[:, 1], s=140, c=faces, marker=marker, edgecolors="black", label=part, zorder=3)
    if len(colors) <= NAMED_PATIENTS:
        for (_, patient), color in colors.items():
            axes.annotate(patient[:12], (color[0], color[1]), xytext=(9, -3), textcoords="offset points", fontsize=9)
    axes.margins(0.12)
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[number % len(MARKERS)], mfc="#cccccc", mec="black", label=part)
        for number, part in enumerate(parts)
    ]
    axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)


def _logarithmic(axes: Axes) -> None:
    """Make the axis of lengths logarithmic, with plain numbers at 1, 2 and 5 of each power of ten."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [digit * power for power in powers for digit in (1, 2, 5) if low <= digit * power <= high]
    axes.set_xticks(ticks if len(ticks) <= 8 else [tick for tick in ticks if f"{tick:e}".startswith("1")])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)


def _legend_above(axes: Axes) -> None:
    """Put the legend between the title and what is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (0.02 + 0.13 * min(len(labels), 4)) * (high - low))
    columns = max(1, -(-len(labels) // 4))
    axes.legend(
        handles,
        labels,
        loc="upper left",
        fontsize=9,
        frameon=True,
        framealpha=1,
        edgecolor="none",
        borderpad=0.1,
        borderaxespad=0.1,
        ncols=columns,
    )


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
