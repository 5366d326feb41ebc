"""The planned configuration as YAML that a person reads: each value with its reason."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from pathseg.cohort.plans import AUTO, PLANNABLE

Settings = dict[str, Any]

INTRODUCTION = """\
# A whole configuration, made by `snakemake plan`. What is planned follows from the images of training patients, what is
# given from your configuration. Given with --configfile, it plans nothing and trains the same.
"""


def planned_page(whole: Settings, given: Settings, reasons: dict[str, str]) -> str:
    """Return a configuration as YAML.

    Parameters
    ----------
    whole
        The complete configuration, nothing left to the plan.
    given
        What the user wrote.
    reasons
        Of what was planned, by key.
    """
    shown = whole | {"experiments": _experiments(whole, given)}
    return INTRODUCTION + "\n".join(_lines(shown, given, _common(reasons, whole))) + "\n"


def _experiments(whole: Settings, given: Settings) -> Settings:
    """Return what each experiment changes: what the user wrote, and planned values that are not common to all."""
    changes = {}
    for name in whole["experiments"]:
        change = copy.deepcopy((given.get("experiments") or {}).get(name)) or {}
        for block, keys in PLANNABLE.items():
            for key in keys if block in whole["experiments"][name] else ():
                value = whole["experiments"][name][block][key]
                if value != whole[block][key] or key in change.get(block, {}):
                    change.setdefault(block, {})[key] = value
        changes[name] = change
    return changes


def _common(reasons: dict[str, str], whole: Settings) -> dict[str, str]:
    """Return reasons with those of what is common to the experiments, too: of the first that has one."""
    common = dict(reasons)
    for name in whole["experiments"]:
        place = f"experiments.{name}."
        for key, reason in reasons.items():
            if key.startswith(place):
                common.setdefault(key.removeprefix(place), reason)
    return common


def _lines(values: Settings, given: Any, reasons: dict[str, str], place: str = "", indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{place}{key}"
        own = given.get(key) if isinstance(given, dict) else None
        if isinstance(value, dict) and value:
            yield f"{indent}{_text(key)}:"
            yield from _lines(value, own, reasons, f"{path}.", indent + "  ")
            continue
        why = "as many as fit into the minutes" if value == AUTO and key == "epochs" else "default"
        why = "given" if own not in (None, AUTO) else why
        if path in reasons and own in (None, AUTO):
            why = f"planned: {reasons[path]}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{_text(key)}:  # {why}"
            yield from (f"{indent}  - {_text(item)}" for item in value)
        else:
            yield f"{indent}{_text(key)}: {_text(value)}  # {why}"


def _text(value: Any) -> str:
    """Return a value as JSON, which YAML reads; a plain word as it is."""
    plain = isinstance(value, str) and value.isascii() and value.replace("_", "").isalpha()
    # What YAML takes for something else is in quotes.
    if plain and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"):
        return value
    text = json.dumps(value, ensure_ascii=False)
    # JSON's 5e-05 is text to YAML, which wants a point.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text
