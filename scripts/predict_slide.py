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
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pathseg import __version__
from pathseg.colors import colors_of
from pathseg.files import atomic_path, file_digest
from pathseg.images.overlay import draw_overlay
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, open_slide
from pathseg.labels.tissue import tissue_source
from pathseg.logs import progress, start_log
from pathseg.network.checkpoint import Checkpoint, class_names
from pathseg.network.devices import choose_devices, describe
from pathseg.network.precision import name_of
from pathseg.prediction.delivery import load_predictor, predict_view, view_of_model
from pathseg.prediction.inference import Band, Predictor
from pathseg.prediction.outputs import SlideOutputs, class_rows
from pathseg.prediction.summaries import areas_text


def watched(bands: Iterator[Band], view: ResampledSlide) -> Iterator[Band]:
    """Pass bands on, with a progress bar in million pixels."""
    with progress(None, "predicting", total=round(view.width * view.height / 1e6, 1), unit="Mpx") as bar:
        for band in bands:
            yield band
            bar.update(round(band.classes.size / 1e6, 3))


def predict(
    slide: Slide,
    row: dict[str, Any],
    models: list[Checkpoint],
    predictor: Predictor,
    settings: dict[str, Any],
    colors: list[str],
    paths: dict[str, Path],
) -> dict[str, Any]:
    """Predict a slide band by band and write all outputs but the summary, which is returned.

    Parameters
    ----------
    slide, row
        The slide, and its row of the slide table with a `key` that no other experiment's has.
    models, predictor
        The checkpoints and their networks.
    settings
        `prediction` of the configuration.
    colors
        Of the models' classes.
    paths
        Where to write `classes`, `annotations`, `overlay` and, if it is there, `probability`.
    """
    names, mpp = class_names(models[0]), slide.mpp
    view = view_of_model(models[0], slide)
    with SlideOutputs(
        paths,
        view,
        mpp,
        names,
        colors,
        settings["min_area_um2"],
        row["key"],
        settings["objects"],
        settings["split_um"],
    ) as outputs:
        for band in watched(predict_view(view, predictor, settings, row["tissue"]), view):
            outputs.add(band)
    small = outputs.thumbnail()
    height, width = small.shape
    picture = ResampledSlide(slide, slide.width / width).read(0, 0, width, height)
    small_mpp = mpp * slide.width / width if mpp else None
    draw_overlay(picture, small, names, colors, row["slide"], small_mpp).savefig(paths["overlay"], dpi="figure")
    seen = int(outputs.pixels.sum())
    return {
        "slide": row["slide"],
        "file": str(slide.path),
        "reader": slide.reader,
        "width": slide.width,
        "height": slide.height,
        "mpp": mpp,
        "mpp_source": slide.mpp_source,
        "origin": slide.origin,
        "model_width": view.width,
        "model_height": view.height,
        "model_mpp": outputs.view_mpp,
        "tissue_source": tissue_source(slide, row["tissue"], settings["tissue"]),
        "tissue_share": round(seen / (view.width * view.height), 6),
        "tissue_mm2": round(seen * outputs.pixel_um2 / 1e6, 6) if mpp else None,
        "classes": class_rows(outputs, names),
        "seconds_by_stage": {key: round(value, 2) for key, value in (predictor.seconds | outputs.seconds).items()},
    }


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, paths = snakemake.params, list(snakemake.input.models)
    started = time.monotonic()
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    settings = {**params.prediction, **params.machine}
    models, predictor = load_predictor(paths, params.classes, settings, device)
    slide = open_slide(snakemake.input.slide, params.mpp)
    with ExitStack() as stack:
        # The last to be entered is the first to be renamed: the summary appears when all the rest is there.
        keys = ["summary", *(key for key, _ in snakemake.output.items() if key != "summary")]
        outputs = {key: stack.enter_context(atomic_path(snakemake.output[key])) for key in keys}
        colors = colors_of(class_names(models[0]), params.classes)
        row = {
            "slide": snakemake.wildcards.slide,
            # What another experiment finds on the slide are other annotations, also in one project of QuPath.
            "key": f"{snakemake.wildcards.experiment}/{snakemake.wildcards.slide}",
            "tissue": snakemake.input.get("tissue"),
        }
        summary = predict(slide, row, models, predictor, settings, colors, outputs)
        summary["file"] = params.addresses.get(summary["file"], summary["file"])
        seconds = time.monotonic() - started
        summary |= {
            "models": [{"file": params.addresses.get(path, path), "sha256": file_digest(path)} for path in paths],
            "pathseg_version": __version__,
            "device": describe(device),
            "precision": name_of(predictor.dtype),
            "seconds": round(seconds, 1),
        }
        outputs["summary"].write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info(
        "%s: %s (%.0f %% tissue, %.1f s)", row["slide"], areas_text(summary), 100 * summary["tissue_share"], seconds
    )
