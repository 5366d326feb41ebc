"""Predict slides one after another with models that are read once, and keep what the networks say of each."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from pathseg import __version__
from pathseg.files import atomic_path, file_digest
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, open_slide
from pathseg.labels.tissue import tissue_source
from pathseg.logs import progress
from pathseg.network.checkpoint import Checkpoint, class_names
from pathseg.network.devices import describe
from pathseg.network.precision import name_of
from pathseg.prediction.answers import AnswerWriter, thumbnail_places, write_picture
from pathseg.prediction.bands import Band
from pathseg.prediction.delivery import load_predictor, predict_view, view_of_model
from pathseg.prediction.inference import Predictor
from pathseg.prediction.reference import reference_of
from pathseg.prediction.trust import USUAL, judge

log = logging.getLogger("pathseg")


class SlidePredictor:
    """Models that are ready to predict slides.

    Parameters
    ----------
    paths
        Model files, whose probabilities are averaged.
    classes
        The configuration's classes, for files that name none.
    settings
        `prediction` of the configuration.
    device
        Where the networks run.
    addresses
        Of those files that were fetched from elsewhere: what the summary calls them.
    objects
        Classes whose objects are to be told apart.

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
        self._references = [reference_of(model, path) for model, path in zip(self._models, paths, strict=True)]
        self._files = [{"file": addresses.get(path, path), "sha256": file_digest(path)} for path in paths]

    def predict(self, path: str, row: dict[str, Any], outputs: dict[str, str]) -> dict[str, Any]:
        """Predict a slide and write its answer, whose files appear when all are complete.

        Parameters
        ----------
        path
            The slide's file.
        row
            `slide`, its name; `mpp` of the slide table, or None; `tissue`, the user's own mask, or None.
        outputs
            Where to write `classes`, `confidence`, `picture`, `about` and, if they are there, `insides`, `probability`
            and `uncertainty`.

        Returns
        -------
        dict
            What is known of the slide and of how it was predicted, as in `about`.
        """
        started = time.monotonic()
        self._predictor.seconds = dict.fromkeys(self._predictor.seconds, 0.0)
        slide = open_slide(path, row["mpp"])
        with ExitStack() as stack:
            # The last to be entered is the first to be renamed: this one appears when all the rest is there.
            keys = ["about", *(key for key in outputs if key != "about")]
            paths = {key: stack.enter_context(atomic_path(outputs[key])) for key in keys}
            traits = self._predictor.watch(view_of_model(self._models[0], slide))
            about = predict(slide, row, self._models, self._predictor, self._settings, paths)
            about["trust"] = judge(self._references, traits, class_names(self._models[0]))
            about["file"] = self._addresses.get(about["file"], about["file"])
            seconds = time.monotonic() - started
            about |= {
                "models": self._files,
                "pathseg_version": __version__,
                "device": describe(self._device),
                "precision": name_of(self._predictor.dtype),
                "seconds": round(seconds, 2),
            }
            paths["about"].write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        log.info("%s: predicted in %.1f s", row["slide"], seconds)
        if (trust := about["trust"])["word"] not in (None, USUAL):
            log.warning("%s: %s: %s", row["slide"], trust["word"], trust["reason"])
        return about


def predict(
    slide: Slide,
    row: dict[str, Any],
    models: list[Checkpoint],
    predictor: Predictor,
    settings: dict[str, Any],
    paths: dict[str, Path],
) -> dict[str, Any]:
    """Predict a slide band by band and write all of its answer but `about`, which is returned.

    Parameters
    ----------
    slide, row
        The slide, and its row of the slide table.
    models, predictor
        The checkpoints and their networks.
    settings
        `prediction` of the configuration.
    paths
        Where to write, see `SlidePredictor.predict`.
    """
    names, mpp = class_names(models[0]), slide.mpp
    view = view_of_model(models[0], slide)
    model_mpp = mpp * slide.width / view.width if mpp else None
    with AnswerWriter(paths, (view.width, view.height), model_mpp, len(names)) as writer:
        for band in watched(predict_view(view, predictor, settings, row["tissue"]), view):
            writer.add(band)
    height, width = map(len, thumbnail_places(view.width, view.height))
    write_picture(paths["picture"], ResampledSlide(slide, slide.width / width).read(0, 0, width, height))
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
        "model_mpp": model_mpp,
        "tissue_source": tissue_source(slide, row["tissue"], settings["tissue"]),
        "names": names,
        "shrink": models[0]["objects"]["shrink"] if "insides" in paths else None,
        "seconds_by_stage": {key: round(value, 2) for key, value in predictor.seconds.items()},
    }


def watched(bands: Iterator[Band], view: ResampledSlide) -> Iterator[Band]:
    """Pass bands on, with a progress bar in million pixels."""
    with progress(None, "predicting", total=round(view.width * view.height / 1e6, 3), unit="Mpx") as bar:
        for band in bands:
            yield band
            bar.update(round(band.classes.size / 1e6, 3))
