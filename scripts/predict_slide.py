"""Predict a slide, and write what pathologists and programs read.

Outputs
-------
classes : tiled pyramidal TIFF, uint8
    Class indices at the model's resolution, in the classes' colours, with pixel size.
annotations : GeoJSON, compressed
    A polygon for each connected region of a class but the first, in pixels of the slide's finest level, with its area
    and mean probability; QuPath opens it.
overlay : JPEG
    The slide with the classes laid over it.
summary : JSON
    Area of each class in mm², and how the result came about.
probability : tiled pyramidal TIFF, uint8
    Probability of each class times 255, a plane for each class. Only if the configuration asks for it.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pathseg import __version__
from pathseg.checkpoint import Checkpoint, build_network, load_checkpoint
from pathseg.colors import colors_of
from pathseg.devices import choose_device, compute_type, describe
from pathseg.errors import CheckpointError
from pathseg.figures import class_legend, class_picture, show
from pathseg.files import atomic_path, file_digest
from pathseg.geojson import AnnotationWriter
from pathseg.inference import Band, Predictor, predict_bands
from pathseg.logs import progress, start_log
from pathseg.polygons import Component, ComponentFinder, to_full_resolution
from pathseg.resample import ResampledSlide
from pathseg.resolution import model_downsample
from pathseg.slides import Slide, open_slide
from pathseg.tissue import find_tissue
from pathseg.writers import PyramidWriter

OVERLAY_SIDE = 2048
# Inches per picture: the text is as large in relation to a small picture as to a large one.
OVERLAY_INCHES = 11
# Opacity of the classes over the slide.
OVERLAY_OPACITY = 0.35


def load_models(paths: list[str], classes: list[dict[str, Any]], resolution: dict[str, Any]) -> list[Checkpoint]:
    """Read the models whose probabilities are averaged.

    Parameters
    ----------
    paths
        Model files.
    classes
        The configuration's classes, for files that name none.
    resolution
        `mpp` and `resize`, for files that say neither.

    Raises
    ------
    CheckpointError
        If the models differ in their classes or resolution, or name no classes and the configuration has not as many.
    """
    models = [load_checkpoint(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if not model["mpp"] and not model["resize"]:
            model |= resolution
        if model["classes"] is None:
            if len(classes) != model["n_classes"]:
                raise CheckpointError(
                    f"{path}: has {model['n_classes']} classes without names, the configuration {len(classes)}; "
                    "list the model's classes under `classes`"
                )
            model["classes"] = classes
        for what, mine, first in (
            ("classes", class_names(model), class_names(models[0])),
            ("mpp", model["mpp"], models[0]["mpp"]),
            ("resize", model["resize"], models[0]["resize"]),
        ):
            if mine != first:
                raise CheckpointError(
                    f"{path}: its {what} {mine} differ from {first} of {paths[0]}; models that are averaged must agree"
                )
    return models


def class_names(model: Checkpoint) -> list[str]:
    """Return the names of a model's classes."""
    return [class_["name"] for class_ in model["classes"]]


@dataclass
class Totals:
    """What is summed up over a slide.

    Attributes
    ----------
    pixels : numpy.ndarray
        int64 [C], pixels of each class where tissue was looked for.
    probability : numpy.ndarray
        float64 [C], sum of the probability (0..1) of each class over the pixels that got it.
    regions : numpy.ndarray
        int64 [C], annotations of each class.
    """

    pixels: np.ndarray
    probability: np.ndarray
    regions: np.ndarray

    def add(self, band: Band) -> None:
        """Count a band."""
        count = len(self.pixels)
        seen = band.classes[band.tissue]
        winning = np.take_along_axis(band.probabilities, band.classes[None], axis=0)[0][band.tissue]
        self.pixels += np.bincount(seen, minlength=count)
        self.probability += np.bincount(seen, weights=winning, minlength=count) / 255


class AnnotationSink:
    """Turn bands into annotations as soon as their regions are complete.

    Parameters
    ----------
    writer
        Where they are written.
    view
        The slide at the model's resolution.
    pixel_um2
        Area of one of its pixels in µm², or None if the slide's pixel size is unknown.
    min_area_um2
        Smaller regions are left out.
    totals
        Where they are counted.
    """

    def __init__(
        self,
        writer: AnnotationWriter,
        view: ResampledSlide,
        pixel_um2: float | None,
        min_area_um2: float,
        totals: Totals,
    ) -> None:
        self._writer, self._pixel_um2, self._totals = writer, pixel_um2, totals
        self._factors = view.slide.width / view.width, view.slide.height / view.height
        self._min_pixels = min_area_um2 / pixel_um2 if pixel_um2 else 0
        self._finder = ComponentFinder(len(totals.pixels))

    def add(self, band: Band) -> None:
        """Take the next band."""
        self._write(self._finder.add(band.y, band.classes, band.probabilities))

    def finish(self) -> None:
        """Write what reaches the last row."""
        self._write(self._finder.finish())

    def _write(self, components: Iterable[Component]) -> None:
        for component in components:
            if component.pixels < self._min_pixels:
                continue
            measurements = {"Mean probability": round(component.probability_sum / component.pixels, 4)}
            if self._pixel_um2:
                measurements["Area µm²"] = round(component.pixels * self._pixel_um2, 2)
            polygon = to_full_resolution(component.joined(), *self._factors)
            self._writer.append(component.class_index, polygon, measurements)
            self._totals.regions[component.class_index] += 1


def thumbnail_rows(band: Band, step: int) -> np.ndarray:
    """Return every `step`-th pixel of a band's classes, in both directions, as the whole slide's would be."""
    return band.classes[-band.y % step :: step, ::step]


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
    picture = class_picture(classes, colors).astype(float)
    shown = np.where((classes > 0)[..., None], (1 - OVERLAY_OPACITY) * image + OVERLAY_OPACITY * picture, image)
    figure = Figure(
        figsize=(OVERLAY_INCHES, OVERLAY_INCHES * height / width + 0.8), dpi=max(width, 500) / OVERLAY_INCHES
    )
    axes = figure.subplots()
    show(axes, shown.astype(np.uint8), title)
    for index in range(1, len(names)):
        if (classes == index).any():
            axes.contour(classes == index, [0.5], colors=colors[index], linewidths=1)
    if mpp:
        draw_scale_bar(axes, width, height, mpp)
    class_legend(figure, names[1:], colors[1:])
    return figure


def draw_scale_bar(axes: Any, width: int, height: int, mpp: float) -> None:
    """Draw a bar of a round length, about a fifth of the picture [height, width] pixels of `mpp` µm."""
    wanted = width * mpp / 5
    step = 10 ** np.floor(np.log10(wanted))
    length = max(factor * step for factor in (1, 2, 5) if factor * step <= wanted)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar, margin = length / mpp, 0.02 * width
    thickness = max(3.0, 0.004 * width)
    axes.add_patch(Rectangle((margin, height - margin - thickness), bar, thickness, color="black"))
    axes.text(
        margin + bar / 2, height - margin - 2 * thickness, text, ha="center", va="bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 2},
    )  # fmt: skip


def summarize(totals: Totals, names: list[str], pixel_um2: float | None) -> list[dict[str, Any]]:
    """Return for each class its pixels, area, share of the tissue, mean probability and number of regions."""
    tissue = max(int(totals.pixels.sum()), 1)
    rows = []
    for index, name in enumerate(names):
        pixels = int(totals.pixels[index])
        rows.append(
            {
                "name": name,
                "pixels": pixels,
                "area_mm2": round(pixels * pixel_um2 / 1e6, 6) if pixel_um2 else None,
                "share_of_tissue": round(pixels / tissue, 6),
                "mean_probability": round(float(totals.probability[index]) / pixels, 4) if pixels else None,
                "regions": int(totals.regions[index]) if index else None,
            }
        )
    return rows


def watched(bands: Iterator[Band], view: ResampledSlide) -> Iterator[Band]:
    """Pass bands on, with a progress bar in million pixels."""
    with progress(None, "predicting", total=round(view.width * view.height / 1e6, 1), unit="Mpx") as bar:
        for band in bands:
            yield band
            bar.update(round(band.classes.size / 1e6, 3))


def microns_per_pixel(slide: Slide, given: float | None) -> tuple[float | None, str]:
    """Return µm per pixel of a slide, if known, and where that is from."""
    if slide.mpp:
        return slide.mpp, "file"
    return (given, "table") if given else (None, "unknown")


def predict(
    slide: Slide,
    given_mpp: float | None,
    models: list[Checkpoint],
    predictor: Predictor,
    settings: dict[str, Any],
    colors: list[str],
    outputs: dict[str, Path],
    name: str,
) -> dict[str, Any]:
    """Predict a slide band by band and write all outputs but the summary, which is returned.

    Parameters
    ----------
    slide, given_mpp
        The slide, and its µm per pixel from the table, if any.
    models, predictor
        The checkpoints and their networks.
    settings
        `prediction` of the configuration.
    colors
        Of the models' classes.
    outputs
        Where to write `classes`, `annotations`, `overlay` and, if it is there, `probability`.
    name
        Name of the slide.
    """
    names = class_names(models[0])
    mpp, mpp_source = microns_per_pixel(slide, given_mpp)
    view = ResampledSlide(slide, model_downsample(models[0], slide, given_mpp))
    view_mpp = mpp * slide.width / view.width if mpp else None
    pixel_um2 = mpp**2 * slide.width * slide.height / (view.width * view.height) if mpp else None
    tissue = find_tissue(slide) if settings["tissue"] == "auto" else None
    totals = Totals(*(np.zeros(len(names), kind) for kind in (np.int64, float, np.int64)))
    step = max(1, -(-max(view.width, view.height) // OVERLAY_SIDE))
    thumbnail = []
    with ExitStack() as stack:
        tiffs = [
            (
                stack.enter_context(PyramidWriter(outputs["classes"], view.width, view.height, view_mpp, colors)),
                "classes",
            )
        ]
        if "probability" in outputs:
            writer = PyramidWriter(outputs["probability"], view.width, view.height, view_mpp, planes=len(names))
            tiffs.append((stack.enter_context(writer), "probabilities"))
        annotations = stack.enter_context(AnnotationWriter(outputs["annotations"], names, colors, name))
        sink = AnnotationSink(annotations, view, pixel_um2, settings["min_area_um2"], totals)
        for band in watched(predict_bands(view, predictor, settings["tile"], tissue), view):
            for tiff, what in tiffs:
                tiff.append(getattr(band, what))
            sink.add(band)
            totals.add(band)
            thumbnail.append(thumbnail_rows(band, step))
        sink.finish()
    small = np.concatenate(thumbnail)
    height, width = small.shape
    picture = ResampledSlide(slide, slide.width / width).read(0, 0, width, height)
    figure = draw_overlay(picture, small, names, colors, name, view_mpp * view.width / width if view_mpp else None)
    figure.savefig(outputs["overlay"], dpi="figure")
    return {
        "slide": name,
        "file": str(slide.path),
        "reader": slide.reader,
        "width": slide.width,
        "height": slide.height,
        "mpp": mpp,
        "mpp_source": mpp_source,
        "model_width": view.width,
        "model_height": view.height,
        "model_mpp": view_mpp,
        "tissue_share": round(float(totals.pixels.sum()) / (view.width * view.height), 6),
        "tissue_mm2": round(float(totals.pixels.sum()) * pixel_um2 / 1e6, 6) if pixel_um2 else None,
        "classes": summarize(totals, names, pixel_um2),
    }


def areas_text(summary: dict[str, Any]) -> str:
    """Return the areas of the classes but the first as a line of text."""
    rows = summary["classes"][1:]
    if summary["mpp"]:
        return ", ".join(f"{row['name']} {row['area_mm2']:.3f} mm²" for row in rows)
    return ", ".join(f"{row['name']} {row['pixels']:,} pixels" for row in rows)


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, paths = snakemake.params, list(snakemake.input.models)
    started = time.monotonic()
    device = choose_device(snakemake.resources.get("gpu", 0), snakemake.threads)
    settings = dict(params.prediction)
    models = load_models(paths, params.classes, {key: settings[key] for key in ("mpp", "resize")})
    networks = [build_network(model, path) for model, path in zip(models, paths, strict=True)]
    predictor = Predictor(networks, device, compute_type(settings["precision"], device))
    slide = open_slide(snakemake.input.slide)
    with ExitStack() as stack:
        # The last to be entered is the first to be renamed: the summary appears when all the rest is there.
        keys = ["summary", *(key for key, _ in snakemake.output.items() if key != "summary")]
        outputs = {key: stack.enter_context(atomic_path(snakemake.output[key])) for key in keys}
        name, colors = snakemake.wildcards.slide, colors_of(class_names(models[0]), params.classes)
        summary = predict(slide, params.mpp, models, predictor, settings, colors, outputs, name)
        seconds = time.monotonic() - started
        summary |= {
            "models": [{"file": path, "sha256": file_digest(path)} for path in paths],
            "pathseg_version": __version__,
            "device": describe(device),
            "seconds": round(seconds, 1),
        }
        outputs["summary"].write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("%s: %s (%.0f %% tissue, %.1f s)", name, areas_text(summary), 100 * summary["tissue_share"], seconds)
