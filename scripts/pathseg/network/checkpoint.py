"""Model files: the tutorial's dictionary with what prediction must know beside it.

Files are loaded with `weights_only=True`: nothing in them is executed. They may be a stranger's, so that each field is
checked before it is used.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from pathseg.errors import CheckpointError
from pathseg.files import atomic_path
from pathseg.names import class_name_fault, twins
from pathseg.network.calibration import calibrate, calibration_of
from pathseg.network.unet import ARCHITECTURE_KEYS, UNet

# The tutorial's files hold two float32 scalars of NumPy 1; NumPy 2 pickles them under another name.
_NUMPY_SCALARS: list[Any] = [
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
]

Checkpoint = dict[str, Any]

# The limits that the configuration has for the same keys.
_WHOLE_NUMBERS = {"in_channels": (1, 1024), "n_classes": (2, 200), "depth": (1, 8), "wf": (0, 8)}
SHRINK_RANGE = (1, 64)
_NUMBERS = {"mpp": (0.01, 100.0), "resize": (0.001, 16.0), "tile_size": (1.0, 65536.0)}


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a model file under a temporary name and rename it."""
    # Given a name, PyTorch would not say why it cannot write.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(checkpoint, file)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a model file of pathseg or of the tutorial.

    Returns
    -------
    dict
        The file's content. Keys that the tutorial's files lack are set: `mpp`, `resize` (None), `classes` (None),
        `tile_size` (None), `training_images` (SHA-256 of the files that were trained on; empty), `objects` (what it has
        learned to tell apart, `classes` and `shrink`, see `pathseg.labels.insides`; None).

    Raises
    ------
    CheckpointError
        If it is not such a file, is damaged, holds anything but numbers and names, or a field is not what it must be.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a file; give the path of a model (best.pt, or a .pth of the tutorial)")
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: is refused: it is damaged, or holds more than weights, and loading that could run code. "
            "Use a model that pathseg or its tutorial wrote"
        ) from error
    except Exception as error:  # a damaged file can make the reader stumble in any way
        raise CheckpointError(f"{path}: is damaged or not a model file; copy it again, or train it again") from error
    missing = [
        key for key in ("model_dict", *ARCHITECTURE_KEYS) if not isinstance(checkpoint, dict) or key not in checkpoint
    ]
    if missing:
        raise CheckpointError(
            f"{path}: lacks {', '.join(missing)}; a model file has the network's weights and architecture"
        )
    absent = dict.fromkeys(("mpp", "resize", "classes", "tile_size", "objects"))
    checkpoint = absent | {"training_images": []} | checkpoint
    fault = _field_fault(checkpoint)
    if fault:
        raise CheckpointError(f"{path}: is refused: {fault}; use a model that pathseg or its tutorial wrote")
    return checkpoint


def _field_fault(checkpoint: Checkpoint) -> str | None:
    """Say which field of a model file is not of the type or in the range that its use needs."""
    for key, (low, high) in _WHOLE_NUMBERS.items():
        # True is an integer to Python.
        if type(checkpoint[key]) is not int or not low <= checkpoint[key] <= high:
            return f"its {key} is {_shown(checkpoint[key])}, not a whole number from {low} to {high}"
    for key, (least, most) in _NUMBERS.items():
        value = checkpoint[key]
        if value is not None and not (type(value) in (int, float) and least <= value <= most):
            return f"its {key} is {_shown(value)}, not a number from {least:g} to {most:g}"
    for key in ("padding", "batch_norm"):
        if type(checkpoint[key]) is not bool:
            return f"its {key} is {_shown(checkpoint[key])}, not true or false"
    if not isinstance(checkpoint["up_mode"], str) or checkpoint["up_mode"] not in ("upconv", "upsample"):
        return f"its up_mode is {_shown(checkpoint['up_mode'])}, not upconv or upsample"
    images = checkpoint["training_images"]
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return "its training_images are not a list of digests"
    return (
        _classes_fault(checkpoint["classes"], checkpoint["n_classes"])
        or _objects_fault(checkpoint["objects"], checkpoint["classes"])
        or _weights_fault(checkpoint["model_dict"])
    )


def _classes_fault(classes: Any, count: int) -> str | None:
    if classes is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(class_, dict) for class_ in classes):
        return "its classes are not a list of what each class is"
    names = [class_.get("name") for class_ in classes]
    if len(names) != count:
        return f"it has {count} outputs and names {len(names)} classes"
    for name in names:
        fault = class_name_fault(name) if isinstance(name, str) else "is not a text"
        if fault:
            return f"the name of its class {_shown(name)} {fault}"
    if len(set(names)) < count or twins(names):
        return "two of its classes have the same name"
    return None


def _objects_fault(objects: Any, classes: Any) -> str | None:
    if objects is None:
        return None
    if (
        not isinstance(objects, dict)
        or set(objects) != {"classes", "shrink"}
        or not isinstance(objects["classes"], list)
    ):
        return "its objects are not classes and a shrink"
    low, high = SHRINK_RANGE
    if type(objects["shrink"]) is not int or not low <= objects["shrink"] <= high:
        return f"its objects have the shrink {_shown(objects['shrink'])}, not a whole number from {low} to {high}"
    names = [class_["name"] for class_ in classes or []]
    for name in objects["classes"]:
        if name not in names[1:]:
            return f"its objects are of a class {_shown(name)} that it does not have, or of the background"
    return None


def _weights_fault(weights: Any) -> str | None:
    if not isinstance(weights, dict):
        return "its weights are not named one by one"
    for name, values in weights.items():
        plain = isinstance(values, torch.Tensor) and values.layout == torch.strided and not values.is_quantized
        if not isinstance(name, str) or not plain or values.is_complex():
            return f"its weight {_shown(name)} is not an array of numbers"
    return None


def _shown(value: Any) -> str:
    """Return a value of a file in few words, whatever it is."""
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:60] + " ..."


def build_network(checkpoint: Checkpoint, path: str | Path, insides: bool = False) -> UNet:
    """Make the network that a checkpoint describes, with its weights and calibration, in evaluation mode.

    Parameters
    ----------
    checkpoint, path
        What `load_checkpoint` has read, and from where.
    insides
        Whether to keep the output for the insides of objects, if it has one.

    Raises
    ------
    CheckpointError
        If the weights or the calibration do not fit the architecture that the file itself names, or are not finite.
    """
    if checkpoint["in_channels"] != 3:
        raise CheckpointError(
            f"{path}: takes {checkpoint['in_channels']} channels; pathseg reads RGB images, which have 3"
        )
    architecture = {key: checkpoint[key] for key in ARCHITECTURE_KEYS} | {"insides": bool(checkpoint.get("objects"))}
    # Sizes are compared before anything is allocated: a small file may name a network that fills the memory.
    with torch.device("meta"):
        wanted = {name: tuple(values.shape) for name, values in UNet(**architecture).state_dict().items()}
    given = {name: tuple(values.shape) for name, values in checkpoint["model_dict"].items()}
    for name in [*wanted, *given]:
        if given.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path}: its weights do not fit the architecture that it names: {name[:60]} has the shape "
                f"{given.get(name, 'nothing')}, and {wanted.get(name, 'nothing')} is needed"
            )
    network = UNet(**architecture)
    network.load_state_dict(checkpoint["model_dict"])
    broken = [name for name, values in network.state_dict().items() if not torch.isfinite(values).all()]
    if broken:
        raise CheckpointError(f"{path}: has weights that are not numbers (in {broken[0]}); train it again")
    calibration = calibration_of(checkpoint, str(path))
    if calibration:
        calibrate(network, calibration)
    if not insides:
        network.leave_insides()
    return network.eval()


def class_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of a model's classes."""
    return [class_["name"] for class_ in checkpoint["classes"]]
