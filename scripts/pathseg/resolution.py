"""At which resolution a model sees a slide."""

from typing import Any

from pathseg.slides import Slide, choose_mpp


def model_downsample(model: dict[str, Any], slide: Slide, given_mpp: float | None) -> float:
    """Return how many of a slide's finest pixels one pixel of the model spans.

    Parameters
    ----------
    model
        Checkpoint with `mpp` (µm per pixel), `resize` (factor on the image size), or, as in the tutorial's files,
        neither: then the slide is taken as it is.
    slide
        The slide.
    given_mpp
        µm per pixel of the slide as a table says, used where the file does not.

    Raises
    ------
    ResolutionError
        If the model has a resolution and the slide has none.
    """
    if model["mpp"]:
        return model["mpp"] / choose_mpp(slide, given_mpp)
    return 1 / (model["resize"] or 1)
