import yaml

from conftest import CLASSES, ROOT
from pathseg.cohort.settings import load_schema, load_settings
from pathseg.planning.page import planned_page

SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")


def test_the_page_is_the_configuration_and_says_why():
    given = {
        "samples": "a b.tsv",
        "classes": [class_ | {"name": name} for class_, name in zip(CLASSES, ["yes", "Größe: 組"], strict=True)],
        "tiles": {"mpp": 1.5},
        "training": {"epochs": "auto", "learning_rate": 5e-05},
        "experiments": {"off": {"unet": {"depth": 4}}, "b": {"training": {"augmentation": {"stain": 0}}}},
    }
    asked = load_settings(given, SCHEMA)
    whole = load_settings(given | {"training": {"epochs": 9, "learning_rate": 5e-05}}, SCHEMA)
    whole["experiments"]["off"]["training"]["epochs"] = 7
    page = planned_page(whole, given, {"experiments.b.training.epochs": "enough: steps"})
    assert load_settings(yaml.safe_load(page), SCHEMA) == whole
    assert "  epochs: 9  # planned: enough: steps\n" in page
    assert "  mpp: 1.5  # given\n" in page
    assert "  size: 256  # default\n" in page
    assert asked["experiments"]["b"]["training"]["epochs"] == "auto"
