"""Draw what the model makes of the validation tiles and images.

Outputs
-------
sheet : PNG
    The best, median and worst tiles by Dice: raw output, argmax, ground truth and original side by side.
pictures : folder of PNG
    The same for each validation image, put together from its tiles.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pathseg.colors import colors_of
from pathseg.figures import class_legend, class_picture, save_figure, show
from pathseg.files import atomic_path
from pathseg.images.views import ArrayView
from pathseg.labels.values import IGNORE
from pathseg.logs import progress, start_log
from pathseg.network.checkpoint import build_network, class_names, load_checkpoint
from pathseg.network.devices import choose_devices
from pathseg.network.precision import prediction_type
from pathseg.prediction.inference import Predictor, predict_bands
from pathseg.scores.pixels import confusion_matrix, mean_dice
from pathseg.tiles.database import TileDatabase

# Larger images are drawn from their top left corner, so that a picture stays a picture.
LARGEST_SIDE = 4096
GLASS = 245


def predict(predictor: Predictor, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class indices uint8 [H, W] and probabilities uint8 [C, H, W] of uint8 [H, W, 3]."""
    bands = list(predict_bands(ArrayView(image), predictor, None, None))
    return np.concatenate([band.classes for band in bands]), np.concatenate([b.probabilities for b in bands], axis=1)


def read_tile(database: TileDatabase, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a tile's image uint8 [H, W, 3] and mask uint8 [H, W]."""
    image, mask = (database.read(name, np.array([index]))[0] for name in ("img", "mask"))
    return image, mask


def raw_output(probabilities: np.ndarray) -> np.ndarray:
    """Return the picture of a raw output [C, H, W]: the share that is not class 0, the background."""
    return 255 - probabilities[0]


def draw_rows(
    rows: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    names: list[str],
    colors: list[str],
    width: float,
) -> Figure:
    """Draw rows of raw output, argmax, ground truth and original.

    Parameters
    ----------
    rows
        Title, probabilities [C, H, W], class indices [H, W], true ones, and image [H, W, 3], for each row.
    names, colors
        Of the classes.
    width
        Width of the figure in inches.
    """
    height, side = rows[0][4].shape[:2]
    figure = Figure(figsize=(width, len(rows) * (width / 4 * height / side + 0.3) + 0.7))
    for row, axes in zip(rows, figure.subplots(len(rows), 4, squeeze=False), strict=True):
        title, probabilities, predicted, truth, image = row
        show(
            axes[0], raw_output(probabilities), f"{title}\nraw output (1 - {names[0]})", cmap="magma", vmin=0, vmax=255
        )
        show(axes[1], class_picture(predicted, colors), "argmax")
        show(axes[2], class_picture(truth, colors), "ground truth")
        show(axes[3], image, "original")
    class_legend(figure, names, colors)
    return figure


def chosen_tiles(scores: np.ndarray, samples: list[str], per_group: int) -> list[tuple[str, int]]:
    """Choose the best, median and worst tiles, each once, and of different images as far as there are enough.

    Parameters
    ----------
    scores
        Dice of each tile [n]; NaN where it has none.
    samples
        Whose image each tile is from.
    per_group
        Tiles of each kind.

    Returns
    -------
    list of (str, int)
        What the tile is, and its index, from the best to the worst.
    """
    order = np.argsort(-scores, kind="stable")[: np.isfinite(scores).sum()]
    by_distance = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    groups: dict[str, list[int]] = {"best": [], "median": [], "worst": []}
    for kind, candidates in (("best", range(len(order))), ("worst", range(len(order))[::-1]), ("median", by_distance)):
        taken = set().union(*groups.values())
        free = [int(rank) for rank in candidates if int(rank) not in taken]
        firsts = set({samples[order[rank]]: rank for rank in reversed(free)}.values())
        groups[kind] = sorted(sorted(free, key=lambda rank, firsts=firsts: rank not in firsts)[:per_group])
    return [(kind, int(order[rank])) for kind, ranks in groups.items() for rank in ranks]


def joined_images(database: TileDatabase) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Put the tiles of each image together again, at the training resolution.

    Yields
    ------
    name : str
        Sample.
    image : numpy.ndarray
        uint8 [H, W, 3]; what no tile covers is the grey of glass.
    mask : numpy.ndarray
        uint8 [H, W], `IGNORE` where nothing is known.
    """
    samples, size = np.array(database.samples), database.attributes["tile_size"]
    for name in dict.fromkeys(database.samples):
        indices = np.flatnonzero(samples == name)
        places = np.rint(database.corners[indices] / database.downsamples[indices, None]).astype(int)
        places -= places.min(axis=0)
        indices, places = indices[(places < LARGEST_SIDE).all(axis=1)], places[(places < LARGEST_SIDE).all(axis=1)]
        width, height = places.max(axis=0) + size
        image = np.full((height, width, 3), GLASS, np.uint8)
        mask = np.full((height, width), IGNORE, np.uint8)
        for index, (x, y) in zip(indices, places, strict=True):
            image[y : y + size, x : x + size], mask[y : y + size, x : x + size] = read_tile(database, index)
        rows, columns = np.flatnonzero((mask != IGNORE).any(axis=1)), np.flatnonzero((mask != IGNORE).any(axis=0))
        inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        yield name, image[inside], mask[inside]


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    checkpoint = load_checkpoint(snakemake.input.model)
    network = build_network(checkpoint, snakemake.input.model)
    predictor = Predictor([network], device, prediction_type("auto", network, device, checkpoint.get("precision")))
    names = class_names(checkpoint)
    colors = colors_of(names, params.classes)
    with TileDatabase(snakemake.input.database) as database:
        scores = np.full(len(database), np.nan)
        for index in progress(range(len(database)), "scoring tiles", unit="tile"):
            image, mask = read_tile(database, index)
            scores[index] = mean_dice(confusion_matrix(mask, predict(predictor, image)[0], len(names)))
        rows = []
        for kind, index in chosen_tiles(scores, database.samples, params.per_group):
            image, mask = read_tile(database, index)
            predicted, probabilities = predict(predictor, image)
            title = f"{kind}: {database.samples[index]}, Dice {scores[index]:.2f}"
            rows.append((title, probabilities, predicted, mask, image))
        save_figure(draw_rows(rows, names, colors, 11), output.sheet)
        with atomic_path(output.pictures) as folder:
            folder.mkdir()
            for name, image, mask in progress(joined_images(database), "drawing images", unit="image"):
                predicted, probabilities = predict(predictor, image)
                dice = mean_dice(confusion_matrix(mask, predicted, len(names)))
                row = (f"{name}, Dice {dice:.2f}", probabilities, predicted, mask, image)
                save_figure(draw_rows([row], names, colors, 16), Path(folder) / f"{name}.png")
    log.info("%s: %d of %d tiles", output.sheet, len(rows), len(scores))
