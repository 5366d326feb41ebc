"""Check a configuration against its schema, fill in defaults, and find contradictions.

Only `jsonschema` and `yaml` are imported here, which come with Snakemake: this runs when the workflow is read.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pathseg.cohort.plans import AUTO, PLANNABLE, fill_tiles, leave_to_plan, object_classes
from pathseg.colors import default_color
from pathseg.errors import ConfigError, as_list
from pathseg.geometry import convolutions, unet_output_size
from pathseg.names import FORMATS, twins

Settings = dict[str, Any]

# Highest learning rates, where none is given: from random weights, and from those of a trained model.
LEARNING_RATE, FINE_TUNING_RATE = 0.002, 0.0005

# µm per pixel that histology has, with room to spare: beyond them a cell or a key is a slip.
MPP_RANGE = (0.01, 100)


def pixel_size_fault(text: str) -> str | None:
    """Say why a cell of a table is no µm per pixel; None if it is, or if it is not even a number."""
    low, high = MPP_RANGE
    try:
        return None if low <= float(text) <= high else f"is not between {low} and {high}"
    except ValueError:
        return None


# What the `format` of a text in a schema means.
_FAULTS = FORMATS | {"pixel size": pixel_size_fault}
_CHECKER = jsonschema.FormatChecker(formats=())
for _format, _fault in _FAULTS.items():
    _CHECKER.checks(_format)(lambda text, fault=_fault: not isinstance(text, str) or fault(text) is None)


def load_schema(path: str | Path) -> dict[str, Any]:
    """Read a JSON schema written as YAML."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def doubled_keys(path: str | Path) -> list[str]:
    """Return a line for each key of a YAML file that stands twice in its block: all but the last would be lost."""
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []  # JSON may have tabs, which YAML may not; what is neither Snakemake has refused
    errors, waiting, seen = [], [root], set()
    while waiting:
        node = waiting.pop()
        # An anchor may stand in many places, in itself too.
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                waiting.append(value)
                line = key.start_mark.line + 1
                if str(key.value) in lines:
                    errors.append(f"{path}, line {line}: key {key.value!r} is already in line {lines[str(key.value)]}")
                lines.setdefault(str(key.value), line)
    return sorted(errors)


def schema_errors(instance: Any, schema: dict[str, Any], *under: str) -> list[str]:
    """Return one line for each place where `instance`, which stands under some keys, does not fit `schema`."""
    if no_text := list(_keys_that_are_no_text(instance, *under)):
        return sorted(no_text)
    errors = jsonschema.Draft202012Validator(schema, format_checker=_CHECKER).iter_errors(instance)
    return sorted(
        [_describe(error, under) for error in errors]
        # YAML has numbers that no limit of a schema catches.
        + [f"{'.'.join((*under, *place))}: {number} is not a finite number" for place, number in _infinite(instance)]
    )


def _keys_that_are_no_text(instance: Any, *place: str) -> Iterator[str]:
    """Yield a line for each key that YAML takes for a number, a truth or nothing: 1, yes, null."""
    if isinstance(instance, dict | list):
        parts = instance.items() if isinstance(instance, dict) else enumerate(instance)
        for key, value in parts:
            if isinstance(instance, dict) and not isinstance(key, str):
                yield f"{'.'.join(place) or 'at the top'}: the key {key!r} is no text to YAML; write it in quotes"
            yield from _keys_that_are_no_text(value, *place, str(key))


def _infinite(instance: Any, *place: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield where in a configuration there are infinite numbers, or such that are none."""
    if isinstance(instance, dict | list):
        parts = instance.items() if isinstance(instance, dict) else enumerate(instance)
        for key, value in parts:
            yield from _infinite(value, *place, str(key))
    elif isinstance(instance, float) and not math.isfinite(instance):
        yield place, instance


def _describe(error: jsonschema.ValidationError, under: tuple[str, ...]) -> str:
    key = ".".join(str(part) for part in (*under, *error.absolute_path))
    where = f"{key}: " if key else ""
    if error.validator == "additionalProperties":
        known = ", ".join(sorted(error.schema.get("properties", {})))
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        return f"{where}unknown key {', '.join(map(repr, unknown))}; known keys are {known}"
    if error.validator == "required":
        return f"{where}{error.message}"
    allowed = error.schema.get("description")
    if error.validator == "format":
        return f"{where}{shortened(error.instance)} {_FAULTS[error.validator_value](error.instance)}"
    number = {"number", "integer"} & set(error.schema.get("type", ()))
    if error.validator == "pattern" and not (number and _is_number(error.instance)):
        return f"{where}{shortened(error.instance)} is not allowed" + (f" ({allowed})" if allowed else "")
    if error.validator == "minItems":
        return f"{where}{len(error.instance)} given, at least {error.validator_value} needed ({allowed})"
    if error.validator in ("type", "pattern") and _is_number(error.instance):
        return (
            f"{where}{error.instance!r} is text to YAML, and a number is needed: write 0.001 or 1.0e-3, without quotes"
        )
    return f"{where}{error.message}" + (f" ({allowed})" if allowed else "")


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False


def shortened(text: str) -> str:
    """Return a text of the user's in quotes, its beginning if it is very long; what cannot be seen is written out."""
    return repr(text) if len(text) <= 200 else f"{text[:60]!r} ... ({len(text)} characters)"


def with_types(config: Settings, given: Mapping[str, Any], schema: dict[str, Any]) -> Settings:
    """Return a configuration in which numbers and truths from the command line are such, and no text.

    Snakemake hands them over as text if they stand in braces: ``--config training='{epochs: 12}'``.

    Parameters
    ----------
    config
        The whole configuration.
    given
        What of it the command line gave.
    schema
        `config/schemas/config.schema.yaml`.
    """
    blocks = {block: schema["properties"][block] for block in ("unet", "training")}
    experiment = {"type": ["object", "null"], "properties": blocks}
    properties = schema["properties"] | {"experiments": {"additionalProperties": experiment}}
    typed: Settings = _with_types(config, given, {"properties": properties})
    return typed


def _with_types(value: Any, given: Any, schema: dict[str, Any]) -> Any:
    if isinstance(value, dict) and isinstance(given, Mapping):
        parts, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        return value | {k: _with_types(value[k], given[k], parts.get(k, others)) for k in given if k in value}
    if isinstance(value, list) and value == given:
        return [_with_types(item, item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and value == given:
        meant = _meant(value)
        types = {"type": schema.get("type", "string")}
        return meant if jsonschema.Draft202012Validator(types).is_valid(meant) else value
    return value


def _meant(text: str) -> Any:
    """Return the number, the truth or the nothing that a text stands for; else the text."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def with_defaults(instance: Any, schema: dict[str, Any]) -> Any:
    """Return a copy of `instance` in which absent keys have their schema's default, at all depths.

    Keys are in the schema's order and whole numbers are integers (JSON's 2.0 is one), so that two configurations that
    say the same are equal as text.
    """
    if isinstance(instance, float) and "integer" in schema.get("type", ()):
        return int(instance)
    if isinstance(instance, list):
        return [with_defaults(item, schema.get("items", {})) for item in instance]
    if not isinstance(instance, dict) or "properties" not in schema:
        return copy.deepcopy(instance)
    filled = {}
    for key, subschema in schema["properties"].items():
        if key in instance:
            filled[key] = with_defaults(instance[key], subschema)
        elif "default" in subschema:
            filled[key] = with_defaults(subschema["default"], subschema)
    return filled


def load_settings(config: dict[str, Any], schema: dict[str, Any]) -> Settings:
    """Check a configuration and return it complete.

    Parameters
    ----------
    config
        What Snakemake has read from the config files and the command line.
    schema
        `config/schemas/config.schema.yaml`.

    Returns
    -------
    dict
        The configuration with defaults; `experiments` maps each name to complete `unet` and `training` settings. What
        is left to the plan is `auto`, see `pathseg.cohort.plans`.

    Raises
    ------
    ConfigError
        With one line for each wrong key.
    """
    errors = schema_errors(config, schema)
    if errors:
        raise ConfigError(f"the configuration is wrong:\n  {as_list(errors)}")
    trains = config.get("samples") and not config.get("model")
    settings = with_defaults(leave_to_plan(config) if trains else config, schema)
    _take_budget(settings["training"], config.get("training", {}))
    if not trains:
        _plan_nothing(settings, schema)
    for index, class_ in enumerate(settings["classes"]):
        class_.setdefault("color", default_color(index))
    errors = _contradictions(settings)
    settings["experiments"], experiment_errors = _resolve_experiments(settings, schema)
    errors += experiment_errors or fill_tiles(settings["tiles"], settings["experiments"])
    if errors:
        raise ConfigError(f"the configuration is wrong:\n  {as_list(errors)}")
    return settings


def _take_budget(training: Settings, given: Settings) -> None:
    """Let what is given, minutes or epochs, go before the other one, which is a default or another block's."""
    if given.get("minutes"):
        training["epochs"] = given.get("epochs", AUTO)
    elif given.get("epochs", AUTO) != AUTO:
        training["minutes"] = None


def _plan_nothing(settings: Settings, schema: dict[str, Any]) -> None:
    """Give what is left to a plan its default: a given model was trained, and nothing is planned."""
    blocks = [(block, settings[block] or {}) for block in PLANNABLE]
    blocks += [(block, values) for each in settings["experiments"].values() for block, values in (each or {}).items()]
    for block, values in blocks:
        for key in PLANNABLE[block]:
            if values.get(key) == AUTO and not (key == "epochs" and values.get("minutes")):
                values[key] = schema["properties"][block]["properties"][key]["default"]


def _contradictions(settings: Settings) -> list[str]:
    errors = []
    tiles, split = settings["tiles"], settings["split"]
    # A given model says itself what its classes are, and at which resolution it works.
    if settings["samples"] and not settings["model"] and not settings["classes"]:
        errors.append("classes: are needed to train; list them, the background first")
    if settings["samples"] and not settings["model"] and tiles["mpp"] and tiles["resize"]:
        errors.append(
            "tiles: give one of mpp (µm per pixel to train at, or auto) and resize (factor on the image size)"
        )
    if settings["prediction"]["mpp"] and settings["prediction"]["resize"]:
        errors.append("prediction: give mpp or resize, not both; they say at which resolution the model was trained")
    if AUTO not in (tiles["stride"], tiles["size"]) and (tiles["stride"] or 0) > tiles["size"]:
        errors.append(
            f"tiles.stride: {tiles['stride']} is larger than tiles.size {tiles['size']}, so pixels would be lost; "
            "use at most the size"
        )
    if split["folds"] is None and split["val"] + split["test"] >= 1:
        errors.append("split: val and test leave nothing to train on; together they must be less than 1")
    names, values = ([class_[key] for class_ in settings["classes"]] for key in ("name", "mask_value"))
    for key, used in (("name", names), ("mask_value", values)):
        double = sorted({value for value in used if used.count(value) > 1})
        if double:
            errors.append(f"classes: {key} {double[0]!r} is used twice; each class needs its own")
    errors += twin_errors("classes", names)
    errors += [
        f"objects.class: {name!r} is {'the background' if name in names else 'no class'}; use any of "
        f"{', '.join(names[1:])}"
        for name in object_classes(settings["objects"])
        if names and name not in names[1:]
    ]
    errors += _measured_contradictions(settings["measurements"] or {}, names)
    errors += twin_errors("experiments", settings["experiments"])
    if settings["ignore_value"] in [class_["mask_value"] for class_ in settings["classes"]]:
        errors.append(f"ignore_value: {settings['ignore_value']} is also the mask_value of a class")
    return errors


def _measured_contradictions(measurements: Settings, names: list[str]) -> list[str]:
    """Return what is wrong with what is to be measured; a given model may have classes that are not known here."""
    margins = measurements.get("margins")
    errors = [
        f"measurements.ratios: {name!r} is no class; use any of {', '.join(names)}"
        for pair in measurements.get("ratios", [])
        for name in pair
        if names and name not in names
    ]
    errors += [
        f"measurements.ratios: [{', '.join(pair)}] divides a class by itself"
        for pair in measurements.get("ratios", [])
        if pair[0] == pair[1]
    ]
    if margins and names and margins["class"] not in names[1:]:
        what = "the background" if margins["class"] in names else "no class"
        errors.append(f"measurements.margins.class: {margins['class']!r} is {what}; use any of {', '.join(names[1:])}")
    if margins and margins["widths_um"] != sorted(set(margins["widths_um"])):
        errors.append(
            f"measurements.margins.widths_um: {margins['widths_um']} does not ascend; each is how far from the "
            "border a band ends"
        )
    return errors


def twin_errors(what: str, names: Iterable[str]) -> list[str]:
    """Return a line for each two names that differ only in case or in how Unicode writes them."""
    return [
        f"{what}: {one!r} and {other!r} differ only in case, or in how their letters are encoded, which some disks do "
        "not tell apart; rename one"
        for one, other in twins(list(names))
    ]


def _resolve_experiments(settings: Settings, schema: dict[str, Any]) -> tuple[dict[str, Settings], list[str]]:
    """Lay each experiment's overrides over `unet` and `training`."""
    experiments, errors = {}, []
    for name, overrides in settings["experiments"].items():
        resolved = {}
        for block in ("unet", "training"):
            change = (overrides or {}).get(block) or {}
            merged = _merge(settings[block], change)
            if block == "training":
                _take_budget(merged, change)
            errors += schema_errors(merged, schema["properties"][block], "experiments", name, block)
            resolved[block] = with_defaults(merged, schema["properties"][block])
        training = resolved["training"]
        if not errors and training["learning_rate"] is None:
            training["learning_rate"] = FINE_TUNING_RATE if training["init"] else LEARNING_RATE
        if not errors:
            errors += _experiment_contradictions(name, resolved, settings)
        experiments[name] = resolved
    return experiments, errors


def _merge(base: Settings, override: Settings) -> Settings:
    merged = copy.deepcopy(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _experiment_contradictions(name: str, experiment: Settings, settings: Settings) -> list[str]:
    errors = []
    unet, training = experiment["unet"], experiment["training"]
    stored = settings["tiles"]["size"]
    size = training["augmentation"]["crop"] or stored
    sides = {side for side in (size, stored) if side != AUTO and unet["depth"] != AUTO}
    if stored != AUTO and size > stored:
        errors.append(f"experiments.{name}: training.augmentation.crop {size} is larger than tiles.size {stored}")
    for side in sides:
        if not unet_output_size(side, unet["depth"], unet["padding"]):
            serving = [depth for depth in range(1, unet["depth"]) if unet_output_size(side, depth, unet["padding"])]
            hint = f"depth {max(serving)} is the largest that serves" if serving else "no depth serves it"
            errors.append(
                f"experiments.{name}: a tile of {side} pixels does not fit unet.depth {unet['depth']} "
                f"(padding {unet['padding']}): its side must stay even at each halving; {hint}"
            )
    if training["minutes"] and training["epochs"] != AUTO:
        errors.append(f"experiments.{name}: training.minutes and training.epochs are both given; leave one of them out")
    if training["edges"] == "distance" and not settings["tiles"]["edge_sigma"]:
        errors.append(
            f"experiments.{name}: training.edges is distance, which needs tiles.edge_sigma (5 pixels is a good start)"
        )
    if training["freeze"] != "none" and not training["init"]:
        errors.append(
            f"experiments.{name}: training.freeze is {training['freeze']}, but nothing was learned yet; name the "
            "trained model to start from in training.init"
        )
    layer = settings["network_pictures"]["layer"]
    layers = [] if unet["depth"] == AUTO else convolutions(unet["depth"], unet["batch_norm"], unet["up_mode"])
    if layers and layer not in layers:
        errors.append(
            f"network_pictures.layer: {shortened(layer)} is no convolution of the network of experiments.{name}, which "
            f"has {', '.join(layers)}"
        )
    return errors + _weight_contradictions(name, training["class_weights"], len(settings["classes"]))


def _weight_contradictions(name: str, weights: str | list[float], n_classes: int) -> list[str]:
    errors = []
    if isinstance(weights, str) and weights not in (AUTO, "balanced", "none"):
        errors.append(f"experiments.{name}: training.class_weights is {weights!r}; use auto, balanced, none or a list")
    if isinstance(weights, list) and len(weights) != n_classes:
        errors.append(f"experiments.{name}: training.class_weights has {len(weights)} numbers for {n_classes} classes")
    elif isinstance(weights, list) and not any(weights):
        errors.append(f"experiments.{name}: training.class_weights are all 0, so that nothing would be learned")
    return errors
