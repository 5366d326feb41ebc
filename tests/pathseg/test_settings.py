import pytest

from conftest import ROOT
from pathseg.errors import ConfigError
from pathseg.settings import load_schema, load_settings, with_defaults

SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")
CLASSES = [{"name": "a", "mask_value": 0}, {"name": "b", "mask_value": 1}]
SMALLEST = {"classes": CLASSES, "tiles": {"mpp": 1.0}}


def test_smallest_configuration_is_completed():
    settings = load_settings(SMALLEST, SCHEMA)
    assert settings["tiles"]["size"] == 256
    assert settings["classes"][1]["color"] == "#0072B2"
    assert settings["experiments"]["default"]["unet"] == settings["unet"]
    assert settings["experiments"]["default"]["training"]["augmentation"]["flips"] is True


def test_order_of_keys_does_not_matter():
    one = {"tiles": {"mpp": 1.0, "size": 64, "stride": 32}, "classes": CLASSES}
    other = {"classes": CLASSES, "tiles": {"stride": 32, "size": 64, "mpp": 1.0}}
    assert str(load_settings(one, SCHEMA)) == str(load_settings(other, SCHEMA))


def test_defaults_do_not_share_memory():
    first, second = with_defaults({}, SCHEMA), with_defaults({}, SCHEMA)
    first["unet"]["depth"] = 99
    assert second["unet"]["depth"] == 5


def test_experiments_are_laid_over_the_common_settings():
    config = SMALLEST | {
        "training": {"epochs": 3},
        "experiments": {"deep": {"unet": {"depth": 6}, "training": {"augmentation": {"stain": 0}}}, "plain": None},
    }
    deep, plain = (load_settings(config, SCHEMA)["experiments"][name] for name in ("deep", "plain"))
    assert (deep["unet"]["depth"], plain["unet"]["depth"]) == (6, 5)
    assert deep["training"]["epochs"] == plain["training"]["epochs"] == 3
    assert (deep["training"]["augmentation"]["stain"], deep["training"]["augmentation"]["color"]) == (0, 0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 3}, ["unknown key 'epochs'"]),
        ({"training": {"epoch": 3}}, ["training", "unknown key 'epoch'", "epochs"]),
        ({"training": {"epochs": "many"}}, ["training.epochs", "'many'"]),
        ({"tiles": {"mpp": 1.0, "stride": -5}}, ["tiles.stride", "-5"]),
        ({"tiles": {"mpp": 1.0, "size": 64, "stride": 65}}, ["tiles.stride", "pixels would be lost"]),
        ({"tiles": {"mpp": 1.0, "resize": 0.5}}, ["tiles", "exactly one"]),
        ({"tiles": {}}, ["tiles", "exactly one"]),
        ({"tiles": {"mpp": 1.0, "size": 200, "stride": 100}}, ["depth 4 is the largest that serves"]),
        ({"classes": CLASSES[:1]}, ["classes"]),
        ({"classes": [*CLASSES, {"name": "c", "mask_value": 1}]}, ["classes", "mask_value 1 is used twice"]),
        ({"ignore_value": 1}, ["ignore_value", "mask_value of a class"]),
        ({"split": {"val": 0.6, "test": 0.5}}, ["split", "leave nothing"]),
        ({"experiments": {"x": {"unet": {"dept": 3}}}}, ["experiments.x.unet", "unknown key 'dept'"]),
        ({"experiments": {"x": {"optimizer": {}}}}, ["experiments.x", "unknown key 'optimizer'"]),
        ({"experiments": {"bad name": {}}}, ["experiments", "bad name"]),
        ({"training": {"class_weights": [1, 2, 3]}}, ["class_weights", "3 numbers for 2 classes"]),
        ({"training": {"class_weights": "heavy"}}, ["class_weights", "'heavy'"]),
        ({"training": {"augmentation": {"crop": 512}}}, ["crop 512 is larger than tiles.size 256"]),
        ({"prediction": {"mpp": 1.0, "resize": 0.5}}, ["prediction", "not both"]),
    ],
)
def test_mistakes_are_named(change, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(SMALLEST | change, SCHEMA)
    for word in words:
        assert word in str(caught.value)


def test_every_key_is_described():
    def walk(schema, path):
        for key, sub in schema.get("properties", {}).items():
            assert "description" in sub, f"{path}.{key}"
            walk(sub, f"{path}.{key}")

    walk(SCHEMA, "")
