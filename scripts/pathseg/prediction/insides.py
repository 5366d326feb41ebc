"""From which probabilities on a pixel is inside of an object, and surely so: fitted on whole images.

As a model's probabilities of classes, these are fitted on its validation patients, see `pathseg.network.calibration`.
"""

import itertools
from typing import Any

import numpy as np

from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import open_instances, open_labels
from pathseg.labels.separation import SURE, numbered, only_sure, reach_of
from pathseg.labels.values import IGNORE
from pathseg.logs import progress
from pathseg.network.checkpoint import Checkpoint
from pathseg.prediction.comparing import is_small, predict_beside
from pathseg.prediction.delivery import view_of_model
from pathseg.prediction.inference import Predictor
from pathseg.scores.objects import count_found, true_objects

# Probabilities that are tried as those from which on a pixel is inside of an object, and surely so; with fewer objects
# to choose by, the others are taken. Values of F1 that differ by no more are taken for the same.
INSIDES, SURES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85), (0.9, 0.95, 0.97)
FEWEST_OBJECTS, SAME_F1 = 50, 0.005
OTHERWISE = (0.5, SURE)


def count_images(
    rows: list[dict[str, Any]],
    predictor: Predictor,
    model: Checkpoint,
    settings: dict[str, Any],
    labels: dict[str, Any],
) -> dict[tuple[float, float], np.ndarray]:
    """Tell objects apart with each of `INSIDES` and `SURES`, at the model's resolution, and compare with the true ones.

    Parameters
    ----------
    rows
        Of the split table.
    predictor, model
        The network, which has an output for insides, and its checkpoint.
    settings
        `prediction` of the configuration.
    labels
        How masks are read: `classes`, `ignore_value` and `outside` of `open_labels`.

    Returns
    -------
    dict of numpy.ndarray
        For each pair what `count_found` returns, over all images and classes whose objects are told apart.
    """
    names = [class_["name"] for class_ in labels["classes"]]
    counts = {pair: np.zeros(3) for pair in itertools.product(INSIDES, SURES)}
    for row in progress(rows, "counting objects", unit="image"):
        view = view_of_model(model, open_slide(row["image"], row["mpp"]))
        truth_map = open_labels(row["mask"], view, **labels)
        # All of an image must be in memory.
        if not is_small(view):
            continue
        beside = predict_beside(truth_map, view, view, predictor, settings)
        strips = [(truth, band.classes, band.insides) for truth, band in beside]
        truth, classes, insides = (np.concatenate(parts) for parts in zip(*strips, strict=True))
        numbers = open_instances(row["instances"], view).indices if row["instances"] else None
        for index in map(names.index, model["objects"]["classes"]):
            true, mask = true_objects(truth == index, numbers), (classes == index) & (truth != IGNORE)
            for inside in INSIDES:
                maybe = numbered(mask, insides >= 255 * inside, reach_of(model["objects"]["shrink"]))
                for sure in SURES:
                    counts[inside, sure] += count_found(true, only_sure(maybe, mask & (insides >= 255 * sure)))
    return counts


def choose_probabilities(counts: dict[tuple[float, float], np.ndarray]) -> tuple[float, float]:
    """Choose from which probabilities on a pixel is inside, and surely so, from what `count_images` returns.

    Where gaps are thin, networks are not sure enough of them, and at 0.5 the insides of nuclei run together; those of
    large glands fall apart there. Of the pairs with about the highest F1, the one that counts best is taken.
    """
    true = next(iter(counts.values()))[0]
    if true < FEWEST_OBJECTS:
        return OTHERWISE
    f1 = {pair: 2 * found / (true + predicted) for pair, (_, predicted, found) in counts.items()}
    good = [pair for pair, score in f1.items() if score >= max(f1.values()) - SAME_F1]
    return min(good, key=lambda pair: abs(counts[pair][1] / true - 1))
