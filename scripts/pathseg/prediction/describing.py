"""What the images were like that a model was trained on, for its file."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import choose_tissue
from pathseg.network.checkpoint import Checkpoint
from pathseg.prediction.delivery import view_of_model
from pathseg.prediction.inference import Predictor, predict_tiles
from pathseg.prediction.reference import Reference
from pathseg.prediction.traits import Traits

# Of a larger image, parts of so many pixels a side are drawn, and so many pixels in all.
PART, MOST_PIXELS = 512, 2**24


def describe_training(
    rows: Iterable[dict[str, Any]], predictor: Predictor, model: Checkpoint, settings: dict[str, Any]
) -> Reference | None:
    """Return what training images are like to a network; None if they are of one patient.

    Parameters
    ----------
    rows
        Of the sample table: `image`, `mpp` and `patient`.
    predictor, model
        The network, and its checkpoint.
    settings
        `prediction` of the configuration.
    """
    traits, patients = [], []
    for number, row in enumerate(rows):
        view = view_of_model(model, open_slide(row["image"], row["mpp"]))
        found = traits_of(view, predictor, settings, np.random.default_rng(number))
        if found.squares["seen"].any():
            traits.append(found)
            patients.append(row["patient"])
    return Reference.fit(traits, patients) if len(set(patients)) > 1 else None


def traits_of(view: ResampledSlide, predictor: Predictor, settings: dict[str, Any], rng: np.random.Generator) -> Traits:
    """Return what an image is like: all its tissue, or of a large one parts that are drawn from it."""
    tissue = choose_tissue(view.slide, None, settings["tissue"], settings["tissue_holes_um2"])
    tile = settings["tile"]
    if view.width * view.height > MOST_PIXELS:
        tissue, tile = drawn_parts(tissue, view, rng), PART
    found = predictor.watch(view)
    try:
        for _ in predict_tiles(view, predictor, tile, tissue):
            pass
    finally:
        predictor.traits = None
    return found


def drawn_parts(tissue: np.ndarray | None, view: ResampledSlide, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of so many parts of the tissue as may be looked at: bool [h, w] that covers the view."""
    shape = -(-view.height // PART), -(-view.width // PART)
    if tissue is None:
        tissue = np.ones(shape, bool)
    rows, columns = (
        np.minimum((np.arange(length) + 0.5) / length * count, count - 1).astype(int)
        for length, count in zip(tissue.shape, shape, strict=True)
    )
    # How much of each part is tissue; parts are taken in any order until there is enough.
    share = np.zeros(shape)
    np.add.at(share, np.ix_(rows, columns), tissue)
    share *= view.width * view.height / tissue.size
    order = rng.permutation(share.size)
    kept = np.zeros(share.size, bool)
    kept[order] = np.cumsum(share.ravel()[order]) <= MOST_PIXELS
    return tissue & kept.reshape(shape)[np.ix_(rows, columns)]
