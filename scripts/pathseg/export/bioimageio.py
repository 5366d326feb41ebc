"""A package for bioimage.io, version 0.5: a model with what deepImageJ, ilastik, napari and others need to run it.

Source of the format: the specification of bioimage.io (github.com/bioimage-io/spec-bioimage-io), `model` 0.5.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pathseg import __version__
from pathseg.export.graphs import OPSET

FORMAT_VERSION = "0.5.3"
# A date that the ZIP format can hold, so that the same package has the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)
CITED = [
    {"text": "Ronneberger et al.: U-Net. MICCAI 2015", "doi": "10.1007/978-3-319-24574-4_28"},
    {"text": "Janowczyk, Madabhushi: Deep learning for digital pathology", "doi": "10.4103/2153-3539.186902"},
]


def description(name: str, record: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """Return what a package says of its model.

    Parameters
    ----------
    name
        Of the model.
    record
        `classes`, `mpp`, `side`, `border` and `stride`, as `export_model` writes them.
    files
        By name, the content of `model.onnx`, `test_input.npy`, `test_output.npy` and `documentation.md`.
    """
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    size = {"min": record["side"], "step": record["stride"]}
    same = {"tensor_id": "image"}
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        # The format allows letters, digits, spaces, _ - ( ) alone.
        "name": re.sub(r"[^A-Za-z0-9_ ()-]", "-", f"pathseg {name}")[:128],
        "description": "U-Net for digital pathology: from RGB pixels to the probability of each class.",
        "tags": ["histology", "pathology", "semantic-segmentation", "unet", "2d", "rgb"],
        "cite": CITED,
        "documentation": _file("documentation.md", digests),
        "inputs": [
            {
                "id": "image",
                "description": "Red, green and blue from 0 to 255, as they are in the image.",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["red", "green", "blue"]},
                    *({"type": "space", "id": axis, "size": size, **_scale(record["mpp"])} for axis in "yx"),
                ],
                "data": {"type": "float32", "range": [0, 255]},
                "test_tensor": _file("test_input.npy", digests),
            }
        ],
        "outputs": [
            {
                "id": "probability",
                "description": "Probability of each class.",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": identifiers(record["classes"])},
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "halo": record["border"],
                            "size": {**same, "axis_id": axis, "offset": 0},
                            **_scale(record["mpp"]),
                        }
                        for axis in "yx"
                    ),
                ],
                "data": {"type": "float32", "range": [0, 1]},
                "test_tensor": _file("test_output.npy", digests),
            }
        ],
        "weights": {"onnx": {**_file("model.onnx", digests), "opset_version": OPSET}},
        "config": {"pathseg": {"version": __version__, "classes": record["classes"], "mpp": record["mpp"]}},
    }


def _file(name: str, digests: dict[str, str]) -> dict[str, str]:
    return {"source": name, "sha256": digests[name]}


def _scale(mpp: float | None) -> dict[str, Any]:
    return {"unit": "micrometer", "scale": mpp} if mpp else {}


def identifiers(names: list[str]) -> list[str]:
    """Return names as the format wants them: letters, digits and _, no two the same."""
    plain = [re.sub(r"\W", "_", name) for name in names]
    plain = [f"_{name}" if name[:1].isdigit() or not name else name for name in plain]
    return [f"{name}_{index}" if plain.count(name) > 1 else name for index, name in enumerate(plain)]


def write_package(path: Path, content: dict[str, Any], files: dict[str, bytes]) -> None:
    """Write a package: its description and files as one ZIP file, the same bytes for the same content."""
    # JSON is YAML, and needs no library.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in {"bioimageio.yaml": text.encode(), **files}.items():
            package.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_DEFLATED)


def trial_pixels(side: int) -> np.ndarray:
    """Return what a model is tried on, float32 [1, 3, side, side] of 0..255: spots of stain, of no patient."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((9, 5), (4, -7), (15, 11))]
    light = np.array([0.80, 0.62, 0.78])[:, None, None] + 0.18 * np.stack(waves)
    return np.rint(255 * np.clip(light, 0, 1)).astype(np.float32)[None]
