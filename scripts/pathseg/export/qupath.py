"""A pixel classifier that QuPath runs with its own OpenCV, without an extension.

The fields are those of QuPath's classes `OpenCVPixelClassifier`, `PixelClassifierMetadata`, `ImageOps` and
`OpenCVDnn`, read in its source (0.6 to 0.8). Not yet seen in QuPath itself.
"""

from typing import Any

from pathseg.colors import packed, rgb_of
from pathseg.network.unet import UNet


def why_no_classifier(networks: list[UNet], mpp: float | None) -> str | None:
    """Say why QuPath cannot run networks as pathseg does, or return None.

    Parameters
    ----------
    networks
        What is to be run.
    mpp
        µm per pixel that they see, or None.
    """
    if mpp is None:
        return (
            "the model does not say its µm per pixel, which QuPath asks for; set tiles.mpp and train, or prediction.mpp"
        )
    if not all(network.padding for network in networks):
        return "a network without padding does not start its tiles where QuPath does; train with unet.padding: true"
    return None


def pixel_classifier(
    names: list[str], colors: list[str], mpp: float, tile: int, border: int, model: str, ignore_background: bool = False
) -> dict[str, Any]:
    """Return the content of a pixel classifier's JSON file.

    Parameters
    ----------
    names, colors
        Of the classes; colours as #rrggbb.
    mpp
        µm per pixel that the model sees.
    tile, border
        Side of a tile that is kept, and what is read around it, in pixels: multiples of the network's stride.
    model
        URI of the ONNX file, which takes `tile + 2 * border` pixels a side.
    ignore_background
        Give the first class the name that QuPath makes no objects of.
    """
    names = ["Ignore*", *names[1:]] if ignore_background else names
    side = tile + 2 * border
    length = {"value": mpp, "unit": "µm"}
    network = {
        "type": "op.ml.opencv-dnn",
        # Java's own default of the scale is 0, which would blacken the image.
        "model": {
            "dnn_model": "OpenCVDnn",
            "name": "pathseg",
            "modelType": "DEFAULT",
            "pathModel": model,
            "backend": 0,
            "target": 0,
            "crop": False,
            "swapRB": False,
            "scale": 1.0,
        },
        "inputWidth": side,
        "inputHeight": side,
        "outputNames": [],
        "padding": {"x1": border, "x2": border, "y1": border, "y2": border},
    }
    to_bytes = [{"type": "op.core.multiply", "values": [255.0]}, {"type": "op.core.convert", "pixelType": "UINT8"}]
    return {
        "pixel_classifier_type": "OpenCVPixelClassifier",
        "metadata": {
            "inputPadding": border,
            "inputResolution": {
                "pixelWidth": length,
                "pixelHeight": length,
                "zSpacing": {"value": 1.0, "unit": "z-slice"},
                "timeUnit": "SECONDS",
                "timepoints": [],
            },
            "inputWidth": side,
            "inputHeight": side,
            "inputNumChannels": 3,
            "outputType": "PROBABILITY",
            "outputPixelType": "UINT8",
            "outputChannels": [
                {"name": name, "color": packed(color)} for name, color in zip(names, colors, strict=True)
            ],
            "classificationLabels": {
                str(index): {"name": name, "color": list(rgb_of(color))}
                for index, (name, color) in enumerate(zip(names, colors, strict=True))
            },
        },
        "op": {
            "type": "data.op.channels",
            "colorTransforms": [{"channelName": name} for name in ("Red", "Green", "Blue")],
            "op": {"type": "op.core.sequential", "ops": [network, *to_bytes]},
        },
    }
