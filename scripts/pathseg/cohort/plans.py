"""Settings that are left to the plan: which there are, when they are left out, and what jobs read instead.

Only the standard library is used: this runs when the workflow is read, and in every job.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pathseg.geometry import unet_output_size

Settings = dict[str, Any]

# Written for a value that is to be planned.
AUTO = "auto"

# Keys that can be planned, by their block.
PLANNABLE = {
    "tiles": ("mpp", "size", "stride"),
    "objects": ("shrink",),
    "unet": ("depth", "wf"),
    "training": ("epochs", "batch_size", "class_weights", "sampling"),
}
# What else of these blocks a plan hangs on.
PLANNED_AROUND = {"tiles": ("resize", "pad"), "unet": ("padding", "up_mode"), "training": ("augmentation",)}


def object_classes(objects: Settings | None) -> list[str]:
    """Return the classes whose objects are told apart."""
    names = objects["class"] if objects else []
    return [names] if isinstance(names, str) else list(names)


def leave_to_plan(config: Settings) -> Settings:
    """Return a configuration in which what is left out for the plan is `auto`, and nothing else is changed.

    The resolution decides: where neither `tiles.mpp` nor `tiles.resize` is given, all of `PLANNABLE` that is left out
    is planned. Where one is given, what is left out has its default.
    """
    tiles = config.get("tiles", {})
    if tiles.get("resize") is not None or tiles.get("mpp") not in (None, AUTO):
        return config
    filled = dict(config)
    for block, keys in PLANNABLE.items():
        if block == "objects" and not config.get("objects"):
            continue
        left_out = dict.fromkeys(keys, AUTO)
        filled[block] = left_out | {key: value for key, value in config.get(block, {}).items() if value is not None}
    return filled


def fill_tiles(tiles: Settings, experiments: dict[str, Settings]) -> list[str]:
    """Fill in the stride and the mirrored border that the networks need, and say what of a given stride is wrong.

    Nothing is filled in while anything that it follows from is left to the plan.
    """
    if AUTO in (tiles["size"], tiles["stride"], *(experiment["unet"]["depth"] for experiment in experiments.values())):
        return []
    given = {}
    for name, experiment in experiments.items():
        unet = experiment["unet"]
        given[name] = unet_output_size(tiles["size"], unet["depth"], unet["padding"])
    least = min(given, key=lambda name: given[name])
    if tiles["pad"] is None:
        tiles["pad"] = (tiles["size"] - given[least]) // 2
    if tiles["stride"] is None:
        tiles["stride"] = max(1, min(tiles["size"] // 2, given[least]))
    if tiles["size"] >= tiles["stride"] > given[least]:
        error = (
            f"tiles.stride: {tiles['stride']} is larger than the {given[least]} pixels that the network of "
            f"experiments.{least} gives of a tile of {tiles['size']}, so that pixels between them would be lost; use "
            "at most that"
        )
        return [error]
    return []


def planned_keys(settings: Settings) -> Iterator[str]:
    """Yield the keys that are left to the plan, as `tiles.mpp` or `experiments.NAME.unet.depth`."""
    blocks = {block: settings[block] for block in ("tiles", "objects") if settings[block]}
    for name, experiment in settings["experiments"].items():
        blocks |= {f"experiments.{name}.{block}": values for block, values in experiment.items()}
    for place, values in blocks.items():
        for key in PLANNABLE[place.rpartition(".")[2]]:
            # How many epochs fit into a time is known where they are trained.
            if values[key] == AUTO and not (key == "epochs" and values["minutes"]):
                yield f"{place}.{key}"


def plan_is_of(settings: Settings) -> Settings:
    """Return what of the settings a plan hangs on, so that no other setting plans anew."""

    def of_block(block: str, values: Settings) -> Settings:
        hangs_on = {key: values[key] for key in (*PLANNABLE[block], *PLANNED_AROUND[block])}
        return hangs_on | ({"minutes": values["minutes"] is not None} if block == "training" else {})

    objects = settings["objects"]
    experiments = {
        name: {block: of_block(block, values) for block, values in experiment.items()}
        for name, experiment in settings["experiments"].items()
    }
    return {
        "tiles": of_block("tiles", settings["tiles"]),
        "objects": objects and {"classes": object_classes(objects), "shrink": objects["shrink"]},
        "experiments": experiments,
    }


def with_plan(settings: Settings, plan: str | None, *place: str) -> Settings:
    """Return settings of a block with what the plan says of them.

    Parameters
    ----------
    settings
        As the configuration has them, perhaps with values that are `auto`; what is not there stays so.
    plan
        File of the rule plan_settings; None or nothing where all is given.
    place
        Where the block is: `tiles`, `objects`, or `experiments`, its name and `unet` or `training`.
    """
    if not plan or not settings:
        return settings
    planned = read_plan(plan)["settings"]
    for key in place:
        planned = planned[key]
    return settings | planned


def whole_plan(settings: Settings, plan: str | None) -> Settings:
    """Return the whole configuration with what the plan says of it.

    What is common to the experiments is that of the first one that leaves it to the plan.
    """
    if not plan:
        return settings
    tiles = with_plan(settings["tiles"], plan, "tiles")
    objects = with_plan(settings["objects"], plan, "objects")
    experiments = {
        name: {block: with_plan(values, plan, "experiments", name, block) for block, values in experiment.items()}
        for name, experiment in settings["experiments"].items()
    }
    whole = settings | {"tiles": tiles, "objects": objects, "experiments": experiments}
    for block in ("unet", "training"):
        left = [key for key in PLANNABLE[block] if settings[block][key] == AUTO]
        whole[block] = settings[block] | {key: experiments[_first(settings, block, key)][block][key] for key in left}
    return whole


def _first(settings: Settings, block: str, key: str) -> str:
    """Return the name of the first experiment that leaves a key to the plan, or of the first one."""
    left = [name for name, experiment in settings["experiments"].items() if experiment[block][key] == AUTO]
    return [*left, *settings["experiments"]][0]


def read_plan(path: str) -> Settings:
    """Return what the rule plan_settings has written: `settings`, `reasons` and `measured`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
