"""Predict slides one after another with models that are read once, and write all that is delivered of each."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from pathseg import __version__
from pathseg.colors import colors_of
from pathseg.files import atomic_path, file_digest
from pathseg.images.overlay import draw_overlay
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, open_slide
from pathseg.labels.tissue import tissue_source
from pathseg.logs import progress
from pathseg.network.checkpoint import Checkpoint, class_names
from pathseg.network.devices import describe
from pathseg.network.precision import name_of
from pathseg.prediction.delivery import load_predictor, predict_view, view_of_model
from pathseg.prediction.inference import Band, Predictor
from pathseg.prediction.objects import reach_of
from pathseg.prediction.outputs import SlideOutputs, class_rows
from pathseg.prediction.reference import reference_of
from pathseg.prediction.summaries import areas_text
from pathseg.prediction.trust import USUAL, judge

log = logging.getLogger("pathseg")


class SlidePredictor:
    """Models that are ready to predict slides.

    Parameters
    ----------
    paths
        Model files, whose probabilities are averaged.
    classes
        The configuration's classes.
    settings
        `prediction` of the configuration.
    device
        Where the networks run.
    addresses
        Of those files that were fetched from elsewhere: what the summary calls them.
    objects
        Classes whose objects are told apart.

    Raises
    ------
    CheckpointError
        See `pathseg.prediction.delivery.load_predictor`.
    """

    def __init__(
        self,
        paths: list[str],
        classes: list[dict[str, Any]],
        settings: dict[str, Any],
        device: torch.device,
        addresses: dict[str, str],
        objects: list[str] | None = None,
    ) -> None:
        self._settings, self._device, self._addresses = settings, device, addresses
        self._models, self._predictor = load_predictor(paths, classes, settings, device, objects)
        self._objects = objects or []
        self._colors = colors_of(class_names(self._models[0]), classes)
        self._references = [reference_of(model, path) for model, path in zip(self._models, paths, strict=True)]
        self._files = [{"file": addresses.get(path, path), "sha256": file_digest(path)} for path in paths]

    def predict(self, path: str, row: dict[str, Any], outputs: dict[str, str]) -> dict[str, Any]:
        """Predict a slide and write all outputs, which appear when all are complete.

        Parameters
        ----------
        path
            The slide's file.
        row
            `slide`, its name; `key`, that no other experiment's has; `mpp` of the slide table, or None; `tissue`, the
            user's own mask, or None.
        outputs
            Where to write `classes`, `annotations`, `overlay`, `summary` and, if they are there, `probability` and
            `objects`.

        Returns
        -------
        dict
            The summary.
        """
        started = time.monotonic()
        self._predictor.seconds = dict.fromkeys(self._predictor.seconds, 0.0)
        slide = open_slide(path, row["mpp"])
        with ExitStack() as stack:
            # The last to be entered is the first to be renamed: the summary appears when all the rest is there.
            keys = ["summary", *(key for key in outputs if key != "summary")]
            paths = {key: stack.enter_context(atomic_path(outputs[key])) for key in keys}
            told_apart = {name: reach_of(self._models[0]) for name in self._objects}
            traits = self._predictor.watch(view_of_model(self._models[0], slide))
            summary = predict(
                slide, row, self._models, self._predictor, self._settings, self._colors, paths, told_apart
            )
            summary["trust"] = judge(self._references, traits, class_names(self._models[0]))
            summary["file"] = self._addresses.get(summary["file"], summary["file"])
            seconds = time.monotonic() - started
            summary |= {
                "models": self._files,
                "pathseg_version": __version__,
                "device": describe(self._device),
                "precision": name_of(self._predictor.dtype),
                "seconds": round(seconds, 1),
            }
            paths["summary"].write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        share = 100 * summary["tissue_share"]
        log.info("%s: %s (%.0f %% tissue, %.1f s)", row["slide"], areas_text(summary), share, seconds)
        if (trust := summary["trust"])["word"] not in (None, USUAL):
            log.warning("%s: %s: %s", row["slide"], trust["word"], trust["reason"])
        return summary


def predict(
    slide: Slide,
    row: dict[str, Any],
    models: list[Checkpoint],
    predictor: Predictor,
    settings: dict[str, Any],
    colors: list[str],
    paths: dict[str, Path],
    told_apart: dict[str, int] | None = None,
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
        Where to write `classes`, `annotations`, `overlay` and, if they are there, `probability` and `objects`.
    told_apart
        Classes whose objects are told apart, and how far these grow from their insides, in pixels of the models.
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
        {names.index(name): reach for name, reach in (told_apart or {}).items()},
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
        "tissue_mm2": round(seen * outputs.pixel_um2 / 1e6, 6) if outputs.pixel_um2 else None,
        "classes": class_rows(outputs, names),
        "seconds_by_stage": {key: round(value, 2) for key, value in (predictor.seconds | outputs.seconds).items()},
    }


def watched(bands: Iterator[Band], view: ResampledSlide) -> Iterator[Band]:
    """Pass bands on, with a progress bar in million pixels."""
    with progress(None, "predicting", total=round(view.width * view.height / 1e6, 3), unit="Mpx") as bar:
        for band in bands:
            yield band
            bar.update(round(band.classes.size / 1e6, 3))
