import pytest

from conftest import ROOT
from pathseg.cohort.plans import planned_keys
from pathseg.cohort.settings import doubled_keys, load_schema, load_settings, with_defaults, with_types
from pathseg.errors import ConfigError

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
    turned = [dict(reversed(class_.items())) for class_ in CLASSES]
    other = {"classes": turned, "tiles": {"stride": 32, "size": 64, "mpp": 1.0}}
    assert str(load_settings(one, SCHEMA)) == str(load_settings(other, SCHEMA))


def test_what_the_command_line_gives_in_braces_is_what_it_would_be_in_a_file():
    """As `snakemake --config` reads it: all in braces and brackets is text."""
    given = {
        "training": {"init": "null", "epochs": "12", "learning_rate": "1e-3", "augmentation": {"flips": "false"}},
        "classes": [{"name": "12", "mask_value": "0"}, {"name": "true", "mask_value": "7"}],
        "tiles": {"mpp": "auto"},
        "experiments": {"deep": {"unet": {"depth": "6"}}, "x": "null"},
    }
    file = {"training": {"seed": "2"}, "split": {"val": "0.5"}, "unet": {"wf": 3}}
    assert with_types({**given, **file, "training": given["training"] | file["training"]}, given, SCHEMA) == {
        "training": {"init": None, "epochs": 12, "learning_rate": 0.001, "augmentation": {"flips": False}, "seed": "2"},
        "classes": [{"name": "12", "mask_value": 0}, {"name": "true", "mask_value": 7}],
        "tiles": {"mpp": "auto"},
        "experiments": {"deep": {"unet": {"depth": 6}}, "x": None},
        "split": {"val": "0.5"},
        "unet": {"wf": 3},
    }


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


def test_what_an_unpadded_network_cuts_off_is_added_around_images():
    unet = {"depth": 4, "padding": False}
    experiments = {"plain": None, "shallow": {"unet": {"depth": 1}}, "padded": {"unet": {"padding": True, "depth": 3}}}
    tiles = load_settings(
        SMALLEST | {"tiles": {"mpp": 1.0, "size": 140}, "unet": unet, "experiments": experiments}, SCHEMA
    )["tiles"]
    assert (tiles["pad"], tiles["stride"]) == (44, 52)
    tiles = load_settings(SMALLEST, SCHEMA)["tiles"]
    assert (tiles["pad"], tiles["stride"]) == (0, 128)


TRAINED = {"samples": "samples.tsv", "classes": CLASSES}


def test_what_is_left_out_is_planned_where_no_resolution_is_given():
    settings = load_settings(TRAINED | {"unet": {"depth": 4}, "tiles": {"stride": None}}, SCHEMA)
    assert set(planned_keys(settings)) == {
        *("tiles.mpp", "tiles.size", "tiles.stride", "experiments.default.unet.wf"),
        *(f"experiments.default.training.{key}" for key in ("epochs", "batch_size", "class_weights", "sampling")),
    }
    assert settings["experiments"]["default"]["unet"]["depth"] == 4


def test_the_shrink_of_objects_is_planned_with_the_rest():
    objects = {"class": CLASSES[1]["name"]}

    def shrink(**given):
        return load_settings(TRAINED | {"objects": objects} | given, SCHEMA)["objects"]["shrink"]

    assert shrink() == shrink(tiles={"mpp": 1.0}, objects=objects | {"shrink": "auto"}) == "auto"
    assert shrink(objects=objects | {"shrink": 5}) == 5
    assert shrink(tiles={"mpp": 1.0}) == shrink(model="a.pt", objects=objects | {"shrink": "auto"}) == 3


@pytest.mark.parametrize("tiles", [{"mpp": 1.0}, {"resize": 0.5}])
def test_with_a_resolution_only_what_says_auto_is_planned(tiles):
    assert not list(planned_keys(load_settings(TRAINED | {"tiles": tiles}, SCHEMA)))
    config = TRAINED | {
        "tiles": tiles | {"size": "auto"},
        "experiments": {"a": {"training": {"epochs": "auto"}}, "b": {}},
    }
    assert list(planned_keys(load_settings(config, SCHEMA))) == ["tiles.size", "experiments.a.training.epochs"]


def test_minutes_go_before_a_number_of_epochs_that_nobody_gave():
    def trained(**experiments):
        common = {"tiles": {"mpp": 1.0}, "training": {"minutes": 3}}
        found = load_settings(TRAINED | common | {"experiments": {"x": {"training": experiments}}}, SCHEMA)
        assert not list(planned_keys(found))
        return tuple(found["experiments"]["x"]["training"][key] for key in ("epochs", "minutes"))

    assert trained() == trained(epochs="auto") == ("auto", 3)
    assert trained(minutes=5) == ("auto", 5)
    assert trained(epochs=7) == (7, None)
    shortest = TRAINED | {"training": {"minutes": 3}}
    assert "experiments.default.training.epochs" not in set(planned_keys(load_settings(shortest, SCHEMA)))
    predicting = load_settings(shortest | {"model": "a.pt", "slides": "b.tif"}, SCHEMA)
    assert predicting["experiments"]["default"]["training"]["minutes"] == 3


def test_with_a_given_model_nothing_is_planned():
    config = TRAINED | {"model": "a.pt", "tiles": {"size": "auto"}, "experiments": {"a": {"unet": {"wf": "auto"}}}}
    assert not list(planned_keys(load_settings(config, SCHEMA)))


def keys_of(schema, path=()):
    """Yield the path of each key of a schema, and what it says of it; those of the entries of lists too."""
    for key, sub in schema.get("properties", {}).items():
        yield (*path, key), sub
        yield from keys_of(sub, (*path, key))
    if "items" in schema:
        yield from keys_of(schema["items"], (*path, "[]"))


def kinds_of(schema):
    """Return which types a value may have."""
    return {schema["type"]} if isinstance(schema.get("type"), str) else set(schema.get("type", []))


def test_every_key_is_described():
    described = [path for path, schema in keys_of(SCHEMA) if "description" in schema]
    assert described == [path for path, _ in keys_of(SCHEMA)]
    # Those of the entries of `classes` too.
    assert ("classes", "[]", "mask_value") in described
    assert len(described) > 80


def test_whole_numbers_are_integers():
    """JSON's 2.0 is an integer to a schema, and none to PyTorch; in experiments and lists too."""
    classes = [{"name": "a", "mask_value": 0.0}, {"name": "b", "mask_value": 1.0}]
    config = {"classes": classes, "ignore_value": 9.0, "tiles": {"mpp": 1.0, "size": 64.0, "stride": 8.0}}
    config |= {"split": {"folds": 2.0}, "training": {"epochs": 3.0}, "experiments": {"x": {"unet": {"depth": 2.0}}}}
    settings = load_settings(config, SCHEMA)
    found = [settings["classes"][1]["mask_value"], settings["ignore_value"], settings["tiles"]["size"]]
    found += [settings["split"]["folds"], settings["experiments"]["x"]["unet"]["depth"]]
    found += [settings["experiments"]["x"]["training"]["epochs"]]
    assert found == [1, 9, 64, 2, 2, 3]
    assert all(type(value) is int for value in found)
    assert type(load_settings(SMALLEST | {"tiles": {"mpp": 1}}, SCHEMA)["tiles"]["mpp"]) is int


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_every_number_is_finite(number):
    """Each number of the schema, but for those in lists."""
    paths = [path for path, schema in keys_of(SCHEMA) if kinds_of(schema) & {"number", "integer"} and "[]" not in path]
    assert len(paths) > 40
    for *blocks, key in paths:
        config = {key: number}
        for block in reversed(blocks):
            config = {block: config}
        config = SMALLEST | ({**config, "tiles": SMALLEST["tiles"] | config["tiles"]} if "tiles" in config else config)
        with pytest.raises(ConfigError, match=r"\.".join([*blocks, key])):
            load_settings(config, SCHEMA)


def test_every_number_has_limits():
    """A number that only memory, or the width of a float, limits would end in a job."""
    numbers = 0
    for path, schema in keys_of(SCHEMA):
        for value in (schema, schema.get("items", {})):
            if kinds_of(value) & {"integer", "number"}:
                assert {"minimum", "exclusiveMinimum"} & set(value), path
                assert {"maximum", "exclusiveMaximum"} & set(value), path
                numbers += 1
    assert numbers > 40


def test_a_key_that_stands_twice_is_found(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &x {b: 1}\nc: *x\nd:\n  - {e: 1, e: 2}\na: 3\n")
    assert doubled_keys(path) == [
        f"{path}, line 4: key 'e' is already in line 4",
        f"{path}, line 5: key 'a' is already in line 1",
    ]
    path.write_text('{"a": 1, "b": {"a": 2}}')
    assert doubled_keys(path) == []
    path.write_text("")
    assert doubled_keys(path) == []
