"""From what was measured of the training patients' images to settings, each with its reason. Pure arithmetic.

What is given is kept, and the rest is planned around it.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pathseg.cohort.plans import AUTO, PLANNABLE, fill_tiles
from pathseg.errors import ConfigError, counted
from pathseg.geometry import field_of_view, tile_starts, unet_output_size
from pathseg.planning.measures import ImageMeasures

Settings = dict[str, Any]

# The resolution is FINENESS * sqrt(width), all in µm. What is large is known by its shape, which wants a fixed number
# of pixels across it, and by its cells, which want a fixed resolution whatever they are part of. The root is midway.
FINENESS = 0.18
# Pixels that a gap between neighbours has at least, in half of the cases.
GAP_PIXELS = 2
# The network sees so many times the width of a typical object.
SURROUNDINGS = 2
DEPTHS = (4, 5, 6)
LEAST_SIDE, MOST_SIDE = 64, 256
# Insides lie SHRINK * sqrt(width) from the rim of objects, all in pixels: glands need a wider rim than nuclei, of which
# it would leave nothing.
SHRINK, SHRINKS = 0.75, (2, 12)
# Above so many tiles they do not overlap.
MANY_TILES = 20_000
# A wider network is for so many patients.
MANY_PATIENTS = 40
# Pixels of a batch, its tiles, and bytes that a training step may take. Many steps of few tiles learn more in a time
# than few steps of many.
BATCH_PIXELS, BATCHES, STEP_BYTES = 2**16, (4, 16), 4 * 2**30
# Steps of a training; but each tile is seen at least and at most so often.
STEPS, EPOCHS = 4000, (10, 400)
# A class with a smaller share of the known area is looked for when batches are put together.
RARE = 0.05
# Objects of a class count if they have so much of the known area, or are told apart, and there are so many.
LEAST_SHARE, LEAST_OBJECTS = 0.002, 5


@dataclass(frozen=True)
class Cohort:
    """What training patients have in common.

    Attributes
    ----------
    unit : str
        Of all lengths: "µm", or "px" of the files.
    patients, images : int
        How many there are.
    finest : float
        Pixel size of the coarsest images, but for a tenth of them: below that, detail is made up.
    sides : numpy.ndarray
        Width and height of each image [n, 2].
    shares : dict
        Of each class of the known area.
    widths : dict
        Of each class with objects the median width of an object, each weighted by its area.
    gap : float or None
        Median gap between an object and the next, of those that do not touch: what touches is parted otherwise.
    trained : float
        Share of the tiles that a model is trained on: of a cross-validation not all.
    """

    unit: str
    patients: int
    images: int
    finest: float
    sides: np.ndarray
    shares: dict[str, float]
    widths: dict[str, float]
    gap: float | None
    trained: float


def summed_up(images: Sequence[ImageMeasures], names: list[str], asked: Settings, folds: int | None) -> Cohort:
    """Sum up what was measured of the training patients' images; `asked` is what `plan_is_of` returns."""
    told_apart = asked["objects"]["classes"] if asked["objects"] else []
    areas = np.sum([image.areas for image in images], axis=0)
    shares = areas / max(areas.sum(), np.finfo(float).tiny)
    widths = {}
    for index in range(1, len(names)):
        of_class, weights = (
            np.concatenate([getattr(image, key)[index] for image in images]) for key in ("widths", "object_areas")
        )
        if len(of_class) >= LEAST_OBJECTS and (shares[index] >= LEAST_SHARE or names[index] in told_apart):
            widths[names[index]] = weighted_median(of_class, weights)
    gaps = np.concatenate([image.gaps for image in images])
    gaps = gaps[gaps > 0]
    return Cohort(
        "px" if asked["tiles"]["resize"] else "µm",
        len({image.patient for image in images}),
        len(images),
        float(np.quantile([image.mpp for image in images], 0.9, method="lower")),
        np.array([(image.width, image.height) for image in images]),
        dict(zip(names, shares.tolist(), strict=True)),
        widths,
        float(np.median(gaps)) if len(gaps) >= LEAST_OBJECTS else None,
        1 - 1 / folds if folds else 1.0,
    )


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the value below which lies half of the weight."""
    order = np.argsort(values)
    heavier = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heavier, heavier[-1] / 2)])


@dataclass(frozen=True)
class Plan:
    """Settings that were planned, and why.

    Attributes
    ----------
    settings : dict
        `tiles`, `objects` (None for none), and `experiments` with `unet` and `training` of each: their keys that can be
        planned, all with values.
    reasons : dict
        Of each planned key, such as `tiles.mpp` or `experiments.default.unet.depth`.
    """

    settings: Settings
    reasons: dict[str, str]


def choose(asked: Settings, cohort: Cohort, tried: tuple[float, str] | None = None) -> Plan:
    """Plan what is `auto`.

    Parameters
    ----------
    asked
        What `pathseg.cohort.plans.plan_is_of` returns.
    cohort
        What was measured.
    tried
        The resolution that trials have found, and why; None without trials.

    Raises
    ------
    ConfigError
        If nothing fits what is given.
    """
    settings = copy.deepcopy(asked)
    tiles, objects, experiments = settings["tiles"], settings["objects"], settings["experiments"]
    reasons: dict[str, str] = {}

    def plan(values: Settings, place: str, key: str, found: Callable[[], tuple[Any, str]]) -> None:
        if values[key] == AUTO:
            values[key], reasons[f"{place}.{key}"] = found()

    plan(tiles, "tiles", "mpp", lambda: tried or resolution(cohort))
    mpp = tiles["mpp"] or cohort.finest / tiles["resize"]
    if objects:
        plan(objects, "objects", "shrink", lambda: shrink(cohort, mpp, objects["classes"]))
    for name, experiment in experiments.items():
        unet, place = experiment["unet"], f"experiments.{name}.unet"
        sides = [side for side in (tiles["size"], _crop(experiment)) if side not in (AUTO, 0)]
        plan(unet, place, "depth", partial(depth, cohort, mpp, sides, unet["padding"]))
        plan(unet, place, "wf", lambda: width(cohort))
    plan(tiles, "tiles", "size", lambda: tile_size(cohort, mpp, tiles["stride"], experiments))
    plan(tiles, "tiles", "stride", lambda: stride(cohort, mpp, tiles, experiments))
    if errors := fill_tiles(tiles, experiments):
        raise ConfigError(errors[0])
    count = round(cohort.trained * tile_count(cohort, mpp, tiles))
    for name, experiment in experiments.items():
        training, place = experiment["training"], f"experiments.{name}.training"
        side = _crop(experiment) or tiles["size"]
        plan(training, place, "batch_size", partial(batch_size, side, experiment["unet"]["wf"], count))
        if not training["minutes"]:
            plan(training, place, "epochs", partial(epochs, count, training["batch_size"]))
        plan(training, place, "class_weights", partial(class_weights, cohort, bool(objects)))
        plan(training, place, "sampling", lambda: sampling(cohort))
    return Plan(_planned_alone(settings), reasons)


def _crop(experiment: Settings) -> int:
    """Return the side of the part of a tile that an experiment trains on; 0 for the whole tile."""
    return experiment["training"]["augmentation"]["crop"] or 0


def _planned_alone(settings: Settings) -> Settings:
    """Return what jobs are to read: keys that can be planned, and the border that follows from them."""

    def of_block(block: str, values: Settings) -> Settings:
        return {key: values[key] for key in PLANNABLE[block]}

    experiments = {
        name: {block: of_block(block, values) for block, values in experiment.items()}
        for name, experiment in settings["experiments"].items()
    }
    return {
        "tiles": of_block("tiles", settings["tiles"]) | {"pad": settings["tiles"]["pad"]},
        "objects": settings["objects"] and of_block("objects", settings["objects"]),
        "experiments": experiments,
    }


def resolution(cohort: Cohort) -> tuple[float, str]:
    """Return the resolution to train at, and why."""
    if not cohort.widths:
        value = max(cohort.finest, 1.0)
        return rounded(value), f"there are no objects to measure; the images have {cohort.finest:.3g} µm"
    name, size = min(cohort.widths.items(), key=lambda item: item[1])
    wanted, limit = FINENESS * math.sqrt(size), ""
    if cohort.gap and wanted * GAP_PIXELS > cohort.gap:
        wanted, limit = cohort.gap / GAP_PIXELS, f", limited by gaps of {cohort.gap:.1f} µm between neighbours"
    if wanted < cohort.finest:
        wanted, limit = cohort.finest, ", limited by the pixels of the images"
    value = cohort.finest if limit.endswith("images") else max(rounded(wanted), cohort.finest)
    smallest = "the smallest objects, " if len(cohort.widths) > 1 else "objects, "
    return value, (
        f"{smallest}{name}, are {size:.3g} µm wide: {size / value:.0f} pixels{limit}; the images have "
        f"{cohort.finest:.3g} µm"
    )


def rounded(value: float) -> float:
    """Return a number with two digits."""
    return float(f"{value:.2g}")


def shrink(cohort: Cohort, mpp: float, names: list[str]) -> tuple[int, str]:
    """Return how far insides lie from the rim of objects of these classes, in pixels, and why."""
    across = [(cohort.widths[name] / mpp, name) for name in names if name in cohort.widths]
    if not across:
        return SHRINKS[0], "there are too few objects to measure"
    size, name = min(across)
    least, most = SHRINKS
    value = min(max(round(SHRINK * math.sqrt(size)), least), most)
    return value, f"{'the smallest ' if len(across) > 1 else ''}objects, {name}, are {size:.0f} pixels wide"


def depth(cohort: Cohort, mpp: float, given: list[int], padding: bool) -> tuple[int, str]:
    """Return the levels of the network, and why; `given` are sides of tiles that it must take."""
    size = max(cohort.widths.values(), default=0.0)
    value = next((d for d in DEPTHS if field_of_view(d) * mpp >= SURROUNDINGS * size), DEPTHS[-1])
    # One level serves tiles of any side.
    fits = max(d for d in range(1, value + 1) if all(unet_output_size(side, d, padding) for side in given))
    seen = f"a pixel sees {field_of_view(fits) * mpp:.3g} {cohort.unit}"
    reason = f"{seen}, {field_of_view(fits) * mpp / size:.1f} times the width of an object" if size else seen
    return fits, reason + ("" if fits == value else "; tiles of the given side allow no more")


def width(cohort: Cohort) -> tuple[int, str]:
    """Return the exponent of the network's width, and why."""
    return (5 if cohort.patients >= MANY_PATIENTS else 4), f"for {counted(cohort.patients, 'training patient')}"


def tile_size(cohort: Cohort, mpp: float, stride: Any, experiments: dict[str, Settings]) -> tuple[int, str]:
    """Return the side of a tile, and why: what a pixel sees, as far as the images are so large."""
    unets = [experiment["unet"] for experiment in experiments.values()]

    def given(side: int) -> int:
        return min(unet_output_size(side, unet["depth"], unet["padding"]) for unet in unets)

    needed = max(*map(_crop, experiments.values()), stride if isinstance(stride, int) else 0)
    possible = [side for side in range(16, 4097, 2) if given(side) and side >= needed]
    possible = [side for side in possible if not isinstance(stride, int) or given(side) >= stride]
    if not possible:
        raise ConfigError("no size of tiles serves the networks of all experiments; give unet.depth, or tiles.stride")
    field = max(field_of_view(unet["depth"]) for unet in unets)
    short = float(np.median(cohort.sides.min(axis=1))) / mpp
    wanted = min(max(field, LEAST_SIDE), MOST_SIDE)
    # A side that is a little larger than the images is filled up with what is ignored.
    enough = [side for side in possible if given(side) >= min(wanted, short)]
    inside = [side for side in possible if side <= short and given(side) >= min(LEAST_SIDE, wanted)]
    value = min(enough, default=max(possible))
    if value > short and inside:
        value = max(inside)
    return value, (
        f"shows {value * mpp:.3g} {cohort.unit}; a pixel sees {field} pixels, and half of the images have a shorter "
        f"side of at least {short:.0f}"
    )


def tile_count(cohort: Cohort, mpp: float, tiles: Settings) -> int:
    """Return how many tiles the images give, if all of them is known."""
    size, around = tiles["size"], 2 * tiles["pad"]
    total = 0
    for sides in cohort.sides / mpp:
        across, down = (len(tile_starts(max(round(side) + around, size), size, tiles["stride"])) for side in sides)
        total += across * down
    return total


def stride(cohort: Cohort, mpp: float, tiles: Settings, experiments: dict[str, Settings]) -> tuple[int, str]:
    """Return the step between tiles, and why."""
    half = tiles | {"stride": None}
    fill_tiles(half, experiments)
    count = tile_count(cohort, mpp, half)
    if count <= MANY_TILES:
        return half["stride"], f"half of the side, or what the networks give of a tile: about {count} tiles"
    unets = [experiment["unet"] for experiment in experiments.values()]
    whole = half | {"stride": min(unet_output_size(tiles["size"], unet["depth"], unet["padding"]) for unet in unets)}
    count = tile_count(cohort, mpp, whole)
    return whole["stride"], f"tiles need not overlap where there are about {count}"


def batch_size(side: int, wf: int, count: int) -> tuple[int, str]:
    """Return the tiles of a step, and why."""
    # On the first level some sixteen maps are kept, on all levels together twice as many, of four bytes.
    tile_bytes = side**2 * 2**wf * 32 * 4
    least, most = BATCHES
    value = min(max(2 ** round(math.log2(BATCH_PIXELS / side**2)), least), most)
    value = max(1, min(value, STEP_BYTES // tile_bytes, max(2, -(-count // 4))))
    return (
        value,
        f"a step sees {value * side**2 / 1e6:.2g} megapixels and takes about {value * tile_bytes / 2**30:.2g} GiB",
    )


def epochs(count: int, batch: int) -> tuple[int, str]:
    """Return how often all tiles are seen, and why."""
    steps = max(1, math.ceil(count / batch))
    least, most = EPOCHS
    value = min(max(math.ceil(STEPS / steps), least), most)
    return value, f"{steps * value} steps: {steps} an epoch, of about {count} tiles"


def class_weights(cohort: Cohort, told_apart: bool) -> tuple[str, str]:
    """Return how classes are weighted, and why."""
    if told_apart:
        return "none", "objects are told apart, which was better without weights"
    shares = ", ".join(f"{name} {100 * share:.3g} %" for name, share in cohort.shares.items())
    return "balanced", f"shares of the known area: {shares}"


def sampling(cohort: Cohort) -> tuple[str, str]:
    """Return how tiles are drawn, and why."""
    # What is nowhere cannot be looked for.
    there = {name: share for name, share in cohort.shares.items() if share} or cohort.shares
    name, share = min(there.items(), key=lambda item: item[1])
    reason = f"the rarest class, {name}, has {100 * share:.2g} % of the known area"
    return ("classes" if share < RARE else "uniform"), reason
