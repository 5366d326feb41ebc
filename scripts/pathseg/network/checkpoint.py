"""Model files: the tutorial's dictionary with what prediction must know beside it.

Files are loaded with `weights_only=True`: nothing in them is executed.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from pathseg.errors import CheckpointError
from pathseg.files import atomic_path
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
        `tile_size` (None).

    Raises
    ------
    CheckpointError
        If it is not such a file, is damaged, or holds anything but numbers and names.
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
    return {"mpp": None, "resize": None, "classes": None, "tile_size": None} | checkpoint


def build_network(checkpoint: Checkpoint, path: str | Path) -> UNet:
    """Make the network that a checkpoint describes, with its weights, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the weights do not fit the architecture that the file itself names, or are not finite.
    """
    if checkpoint["in_channels"] != 3:
        raise CheckpointError(
            f"{path}: takes {checkpoint['in_channels']} channels; pathseg reads RGB images, which have 3"
        )
    try:
        network = UNet(**{key: checkpoint[key] for key in ARCHITECTURE_KEYS})
        network.load_state_dict(checkpoint["model_dict"])
    except (RuntimeError, TypeError, ValueError) as error:
        # PyTorch lists all that does not fit, after a title; the first says enough.
        first = " ".join(str(error).splitlines()[:2][-1].split())
        raise CheckpointError(f"{path}: its weights do not fit the architecture that it names: {first}") from error
    broken = [name for name, values in network.state_dict().items() if not torch.isfinite(values).all()]
    if broken:
        raise CheckpointError(f"{path}: has weights that are not numbers (in {broken[0]}); train it again")
    return network.eval()


def class_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of a model's classes."""
    return [class_["name"] for class_ in checkpoint["classes"]]
