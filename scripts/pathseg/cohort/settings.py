"""Check a configuration against its schema, fill in defaults, and find contradictions.

Only `jsonschema` and `yaml` are imported here, which come with Snakemake: this runs when the workflow is read.
"""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pathseg.colors import default_color
from pathseg.errors import ConfigError, as_list
from pathseg.geometry import unet_output_size

Settings = dict[str, Any]


def load_schema(path: str | Path) -> dict[str, Any]:
    """Read a JSON schema written as YAML."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def schema_errors(instance: Any, schema: dict[str, Any], *under: str) -> list[str]:
    """Return one line for each place where `instance`, which stands under some keys, does not fit `schema`."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(instance)
    return sorted(_describe(error, under) for error in errors)


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
    if error.validator == "pattern":
        return f"{where}{error.instance!r} is not allowed" + (f" ({allowed})" if allowed else "")
    if error.validator == "minItems":
        return f"{where}{len(error.instance)} given, at least {error.validator_value} needed ({allowed})"
    return f"{where}{error.message}" + (f" ({allowed})" if allowed else "")


def with_defaults(instance: Any, schema: dict[str, Any]) -> Any:
    """Return a copy of `instance` in which absent keys have their schema's default, at all depths.

    Keys are in the schema's order, so that two configurations that say the same are equal as text.
    """
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
        The configuration with defaults; `experiments` maps each name to complete `unet` and `training` settings.

    Raises
    ------
    ConfigError
        With one line for each wrong key.
    """
    errors = schema_errors(config, schema)
    if errors:
        raise ConfigError(f"the configuration is wrong:\n  {as_list(errors)}")
    settings = with_defaults(config, schema)
    for index, class_ in enumerate(settings["classes"]):
        class_.setdefault("color", default_color(index))
    errors = _contradictions(settings)
    settings["experiments"], experiment_errors = _resolve_experiments(settings, schema)
    errors += experiment_errors
    if errors:
        raise ConfigError(f"the configuration is wrong:\n  {as_list(errors)}")
    return settings


def _contradictions(settings: Settings) -> list[str]:
    errors = []
    tiles, split = settings["tiles"], settings["split"]
    if (tiles["mpp"] is None) == (tiles["resize"] is None):
        errors.append("tiles: give exactly one of mpp (µm per pixel to train at) and resize (factor on the image size)")
    if settings["prediction"]["mpp"] and settings["prediction"]["resize"]:
        errors.append("prediction: give mpp or resize, not both; they say at which resolution the model was trained")
    if tiles["stride"] > tiles["size"]:
        errors.append(
            f"tiles.stride: {tiles['stride']} is larger than tiles.size {tiles['size']}, so pixels would be lost; "
            "use at most the size"
        )
    if split["folds"] is None and split["val"] + split["test"] >= 1:
        errors.append("split: val and test leave nothing to train on; together they must be less than 1")
    for key in ("name", "mask_value"):
        values = [class_[key] for class_ in settings["classes"]]
        double = sorted({value for value in values if values.count(value) > 1})
        if double:
            errors.append(f"classes: {key} {double[0]!r} is used twice; each class needs its own")
    if settings["ignore_value"] in [class_["mask_value"] for class_ in settings["classes"]]:
        errors.append(f"ignore_value: {settings['ignore_value']} is also the mask_value of a class")
    return errors


def _resolve_experiments(settings: Settings, schema: dict[str, Any]) -> tuple[dict[str, Settings], list[str]]:
    """Lay each experiment's overrides over `unet` and `training`."""
    experiments, errors = {}, []
    for name, overrides in settings["experiments"].items():
        resolved = {}
        for block in ("unet", "training"):
            merged = _merge(settings[block], (overrides or {}).get(block) or {})
            errors += schema_errors(merged, schema["properties"][block], "experiments", name, block)
            resolved[block] = merged
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
    if size > stored:
        errors.append(f"experiments.{name}: training.augmentation.crop {size} is larger than tiles.size {stored}")
    for side in {size, stored}:
        if not unet_output_size(side, unet["depth"], unet["padding"]):
            serving = [depth for depth in range(1, unet["depth"]) if unet_output_size(side, depth, unet["padding"])]
            hint = f"depth {max(serving)} is the largest that serves" if serving else "no depth serves it"
            errors.append(
                f"experiments.{name}: a tile of {side} pixels does not fit unet.depth {unet['depth']} "
                f"(padding {unet['padding']}): its side must stay even at each halving; {hint}"
            )
    if training["edges"] == "distance" and not settings["tiles"]["edge_sigma"]:
        errors.append(
            f"experiments.{name}: training.edges is distance, which needs tiles.edge_sigma (5 pixels is a good start)"
        )
    weights = training["class_weights"]
    if isinstance(weights, str) and weights not in ("balanced", "none"):
        errors.append(f"experiments.{name}: training.class_weights is {weights!r}; use balanced, none or a list")
    if isinstance(weights, list) and len(weights) != len(settings["classes"]):
        errors.append(
            f"experiments.{name}: training.class_weights has {len(weights)} numbers for "
            f"{len(settings['classes'])} classes"
        )
    return errors
