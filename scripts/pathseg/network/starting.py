"""Start a training from a model that was trained before: its weights by name and shape."""

import json
import logging
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pathseg.errors import CheckpointError, TrainingError
from pathseg.files import file_digest
from pathseg.network.checkpoint import build_network, load_checkpoint
from pathseg.network.unet import UNet
from pathseg.tiles.database import TileDatabase

logger = logging.getLogger("pathseg")

# What makes every layer what it is. The others change some layers, which then begin anew.
SHAPE_KEYS = ("depth", "wf", "batch_norm")
HEAD = "last."


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes
    ----------
    sha256 : str
        Digest of the model file.
    images : list of str
        SHA-256 of the images that it was trained on, directly or through what it started from itself.
    not_loaded : list of str
        Names of the weights that begin anew.
    """

    sha256: str
    images: list[str]
    not_loaded: list[str]


def start_from(network: UNet, path: str, classes: list[str], attributes: dict[str, Any]) -> Start:
    """Give a network the weights of a model file, as far as they fit.

    The head, the last convolution, begins anew if the classes are others.

    Parameters
    ----------
    network
        With its initial weights; it is changed.
    path
        A model of pathseg or of the tutorial.
    classes
        Names of the network's classes.
    attributes
        Of the tile databases: the resolution.

    Raises
    ------
    CheckpointError
        If it is no such file, or of another depth or width, or only one of both normalises its batches.
    """
    model = load_checkpoint(path)
    build_network(model, path)
    other = [key for key in SHAPE_KEYS if model[key] != getattr(network, key)]
    if other:
        shape = ", ".join(f"{key}: {json.dumps(model[key])}" for key in SHAPE_KEYS)
        raise CheckpointError(
            f"{path}: is a network of {' and '.join(f'{key} {json.dumps(model[key])}' for key in other)}, and unet has "
            f"{' and '.join(f'{key} {json.dumps(getattr(network, key))}' for key in other)}; set unet: {{{shape}}}, or "
            "another training.init"
        )
    given: dict[str, Tensor] = dict(model["model_dict"])
    if model["classes"] and [class_["name"] for class_ in model["classes"]] != classes:
        given = {name: values for name, values in given.items() if not name.startswith(HEAD)}
    own = network.state_dict()
    anew = {_layer(name) for name in own if name not in given or given[name].shape != own[name].shape}
    fitting = {name: given[name] for name in own if _layer(name) not in anew}
    network.load_state_dict(own | fitting)
    not_loaded = [name for name in own if name not in fitting]
    _say(path, len(own) - len(not_loaded), not_loaded)
    for key in ("mpp", "resize"):
        if model[key] and model[key] != attributes[key]:
            logger.warning("%s: was trained at %s %g, and the tiles have %s", path, key, model[key], attributes[key])
    objects, others = attributes.get("objects"), model.get("objects")
    if objects and others and objects["shrink"] != others["shrink"]:
        logger.warning(
            "%s: its insides are %d pixels from the rim, and the tiles' %d", path, others["shrink"], objects["shrink"]
        )
    return Start(file_digest(path), model["training_images"], not_loaded)


def _layer(name: str) -> str:
    """Return the layer that a weight is of: its weights are taken together, or begin anew together."""
    return name.rpartition(".")[0]


def _say(path: str, loaded: int, not_loaded: list[str]) -> None:
    rest = f"; these begin anew: {', '.join(not_loaded)}" if not_loaded else ""
    logger.info("starts from %d weights of %s%s", loaded, path, rest)


def freeze_encoder(network: UNet) -> None:
    """Keep the weights on the way down as they are; the statistics of its normalisations still follow the images."""
    network.down_path.requires_grad_(False)


def refuse_seen(start: Start, path: str, validation: TileDatabase) -> None:
    """Stop if the model that a training starts from was trained on a validation image.

    Raises
    ------
    TrainingError
        With the first such image.
    """
    for content, name in validation.images:
        if content in start.images:
            raise TrainingError(
                f"{path}: was trained on the image of sample {name}, which is a validation image now; scores would be "
                "too good. Start from the model of the same fold, or let patients keep their parts"
            )
