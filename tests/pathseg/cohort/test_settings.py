from conftest import ROOT
from pathseg.cohort.settings import load_schema, load_settings, with_defaults

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


def test_every_key_is_described():
    def walk(schema, path):
        for key, sub in schema.get("properties", {}).items():
            assert "description" in sub, f"{path}.{key}"
            walk(sub, f"{path}.{key}")

    walk(SCHEMA, "")
