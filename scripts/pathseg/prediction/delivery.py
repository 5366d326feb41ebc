"""The one way from model files and an image to what is delivered: slides and scores are predicted by it alike."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pathseg.errors import CheckpointError
from pathseg.images.resampling import ResampledSlide, model_downsample
from pathseg.images.slides import Slide
from pathseg.labels.tissue import choose_tissue
from pathseg.network.checkpoint import Checkpoint, build_network, class_names, load_checkpoint
from pathseg.network.precision import prediction_type
from pathseg.network.unet import UNet
from pathseg.prediction.bands import Band
from pathseg.prediction.inference import Predictor, predict_bands


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
            model |= {key: resolution[key] for key in ("mpp", "resize")}
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


def load_networks(
    paths: list[str], classes: list[dict[str, Any]], resolution: dict[str, Any], insides: bool = False
) -> tuple[list[Checkpoint], list[UNet]]:
    """Read models whose probabilities are averaged, and make their networks.

    Parameters
    ----------
    paths, classes, resolution
        As for `load_models`.
    insides
        Whether to keep the outputs for the insides of objects.

    Raises
    ------
    CheckpointError
        See `load_models` and `pathseg.network.checkpoint.build_network`.
    """
    models = load_models(paths, classes, resolution)
    return models, [build_network(model, path, insides) for model, path in zip(models, paths, strict=True)]


def load_predictor(
    paths: list[str],
    classes: list[dict[str, Any]],
    settings: dict[str, Any],
    device: torch.device,
    objects: list[str] | None = None,
) -> tuple[list[Checkpoint], Predictor]:
    """Read models and make them ready to predict, as `prediction` of the configuration says.

    Parameters
    ----------
    paths, classes
        As for `load_models`.
    settings
        `prediction` of the configuration.
    device
        Where the networks run.
    objects
        Classes whose objects are to be told apart; None for none, and then the networks do not compute insides.

    Raises
    ------
    CheckpointError
        See `load_networks`; and if a model has not learned to tell the objects of such a class apart.
    """
    models, networks = load_networks(paths, classes, settings, bool(objects))
    for path, model in zip(paths, models, strict=True):
        if objects:
            _check_objects(path, model, objects, models[0])
    dtype = prediction_type(settings["precision"], networks[0], device, models[0].get("precision"))
    return models, Predictor(networks, device, dtype, settings["tta"])


def _check_objects(path: str, model: Checkpoint, objects: list[str], first: Checkpoint) -> None:
    learned = model["objects"] and model["objects"]["classes"]
    if not learned or not set(objects) <= set(learned):
        raise CheckpointError(
            f"{path}: has learned to tell apart the objects of {', '.join(learned) if learned else 'no class'}, and "
            f"objects.class asks for {', '.join(objects)}; take that out of the configuration, or train the model again"
        )
    if model["objects"]["shrink"] != first["objects"]["shrink"]:
        raise CheckpointError(
            f"{path}: its insides are {model['objects']['shrink']} pixels from the rim of objects, and those of the "
            f"first model {first['objects']['shrink']}; models that are averaged must agree"
        )


def view_of_model(model: Checkpoint, slide: Slide) -> ResampledSlide:
    """Return a slide at the model's resolution."""
    return ResampledSlide(slide, model_downsample(model, slide))


def predict_view(
    view: ResampledSlide,
    predictor: Predictor,
    settings: dict[str, Any],
    own_tissue: str | None = None,
    wanted: np.ndarray | None = None,
) -> Iterator[Band]:
    """Predict an image as it is delivered, in bands from top to bottom.

    Parameters
    ----------
    view
        The image at the model's resolution.
    predictor
        The networks.
    settings
        `prediction` of the configuration: `tissue`, `tissue_holes_um2` and `tile`.
    own_tissue
        The user's own mask of the tissue, see `choose_tissue`.
    wanted
        bool [h, w] that covers the view: what does not touch it need not be predicted, and may have any class. None
        for everything.
    """
    started = time.monotonic()
    tissue = choose_tissue(view.slide, own_tissue, settings["tissue"], settings["tissue_holes_um2"])
    predictor.seconds["tissue"] += time.monotonic() - started
    return predict_bands(view, predictor, settings["tile"], tissue, wanted)
