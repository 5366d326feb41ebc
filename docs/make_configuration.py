"""Write docs/configuration.md from the JSON schema of the configuration.

Usage: PYTHONPATH=scripts python docs/make_configuration.py
"""

import json
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
SCHEMA = DOCS.parent / "config" / "schemas" / "config.schema.yaml"

# What a key takes that can be left to the plan.
AUTO_PATTERN = r"^auto\Z"

INTRODUCTION = """\
# Configuration

Made from `config/schemas/config.schema.yaml` by `docs/make_configuration.py`; a test holds them together.
A configuration is a YAML file, given with `--configfile`. To train, `samples` and `classes` must be there; to predict
with a given model, `model` and `slides`. Keys that are not listed here are refused.

What may be `auto` can be planned from the images ([plan.md](plan.md)). Where neither `mpp` nor `resize` of `tiles` is
given, all of it that is left out is planned. Where one is given, what is left out has the default of the table, and
only what says `auto` is planned.
"""


def allowed(schema: dict[str, Any]) -> str:
    """Say in words which values a key takes."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = {"array": "list", "object": "block", "boolean": "true or false", "integer": "whole number"}
    if schema.get("pattern") == AUTO_PATTERN:
        words["string"] = "`auto`"
    text = " or ".join(words.get(kind, kind) for kind in kinds)
    limits = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return f"{text}, {', '.join(limits)}" if limits else text


def rows(properties: dict[str, Any], required: list[str]) -> list[str]:
    """Return the table of the keys of a block."""
    lines = ["| key | values | default | what it is |", "|---|---|---|---|"]
    for key, schema in properties.items():
        default = "required" if key in required else ""
        if "default" in schema and schema.get("type") != "object":
            default = f"`{json.dumps(schema['default'])}`"
        lines.append(f"| `{key}` | {allowed(schema)} | {default} | {schema['description']} |")
    return lines


def blocks(path: str, schema: dict[str, Any]) -> list[str]:
    """Return the sections of a block and of the blocks in it."""
    properties = schema["properties"]
    lines = [f"\n## {path or 'Top level'}\n"]
    if path:
        lines.append(schema["description"] + "\n")
    lines += rows(properties, schema.get("required", []))
    for key, part in properties.items():
        inner = part.get("items", part)
        if isinstance(inner, dict) and "properties" in inner:
            lines += blocks(f"{path}.{key}" if path else key, {"description": part["description"]} | inner)
    return lines


def configuration_page() -> str:
    """Return the text of docs/configuration.md."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return INTRODUCTION + "\n".join(blocks("", schema)) + "\n"


if __name__ == "__main__":
    (DOCS / "configuration.md").write_text(configuration_page(), encoding="utf-8")
