import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import CLASSES, ROOT
from pathseg.cohort.plans import AUTO, plan_is_of, planned_keys
from pathseg.cohort.settings import load_schema, load_settings
from pathseg.errors import ConfigError
from pathseg.geometry import field_of_view, unet_output_size
from pathseg.planning.choices import Cohort, choose, rounded, summed_up, weighted_median
from pathseg.planning.measures import ImageMeasures

SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")
SHORTEST = {"samples": "samples.tsv", "classes": CLASSES}


def cohort(width=100.0, gap=10.0, finest=0.5, sides=(480.0, 320.0), images=40, patients=12, trained=1.0, unit="µm"):
    """Return a cohort of images of one size with objects of one width."""
    widths = {"epithelium": width} if width else {}
    shares = {"stroma": 0.6, "epithelium": 0.4}
    return Cohort(unit, patients, images, finest, np.tile(sides, (images, 1)), shares, widths, gap, trained)


def planned(measured, **given):
    """Return a plan of the shortest configuration with something given."""
    return choose(plan_is_of(load_settings(SHORTEST | given, SCHEMA)), measured)


@pytest.mark.parametrize(
    ("what", "measured", "low", "high"),
    [
        ("glands, at 0.62 µm", cohort(108, 7.3, 0.62, (480, 324)), 1.6, 2.1),
        ("nuclei, at 0.25 µm", cohort(7.5, 4, 0.25, (250, 250)), 0.4, 0.55),
        ("nuclei at 1 µm: no finer than the images", cohort(7.5, 4, 1.0, (250, 250)), 1, 1),
        ("nests with narrow gaps: two pixels", cohort(100, 2.0, 0.25), 1, 1),
    ],
)
def test_resolutions_that_are_known_to_be_good(what, measured, low, high):
    assert low <= planned(measured).settings["tiles"]["mpp"] <= high, what


def test_what_a_pixel_sees_is_larger_than_an_object_and_a_tile_is_no_larger_than_images():
    for width in (5, 20, 60, 150, 600):
        plan = planned(cohort(width, None, 0.25, (900, 700))).settings
        tiles, unet = plan["tiles"], plan["experiments"]["default"]["unet"]
        assert field_of_view(unet["depth"]) * tiles["mpp"] > width
        assert tiles["size"] * tiles["mpp"] <= 700


@pytest.mark.parametrize(("objects", "weights"), [(None, "balanced"), ({"class": CLASSES[1]["name"]}, "none")])
def test_classes_are_weighted_unless_objects_are_told_apart(objects, weights):
    training = planned(cohort(), objects=objects).settings["experiments"]["default"]["training"]
    assert training["class_weights"] == weights


@pytest.mark.parametrize(
    ("what", "measured", "mpp", "shrink"),
    [
        ("nuclei", cohort(8, 4, 0.25), 0.5, 3),
        ("glands", cohort(108, 7.3, 0.62), 1.9, 6),
        ("specks", cohort(1, 4, 0.25), 0.5, 2),
        ("lobes", cohort(2000, 100, 0.25), 2.0, 12),
        ("too few to measure", cohort(None), 1.0, 2),
    ],
)
def test_insides_lie_as_far_from_the_rim_as_objects_are_wide(what, measured, mpp, shrink):
    plan = planned(measured, tiles={"mpp": mpp}, objects={"class": CLASSES[1]["name"], "shrink": AUTO})
    assert plan.settings["objects"] == {"shrink": shrink}, what
    assert set(plan.reasons) == {"objects.shrink"}


def test_objects_that_are_told_apart_are_measured_however_rare_they_are():
    nothing = np.empty(0)
    of = [[nothing, np.full(6, value)] for value in (8.0, 50.0)]
    areas, color = np.array([1e6, 300.0]), np.full(3, np.nan)
    image = ImageMeasures("a", "P", "train", 0.25, 1000, 1000, areas, *of, nothing, color, None, 1.0)

    def widths(objects):
        asked = plan_is_of(load_settings(SHORTEST | {"objects": objects}, SCHEMA))
        return summed_up([image], ["stroma", "epithelium"], asked, None).widths

    assert (widths(None), widths({"class": "epithelium"})) == ({}, {"epithelium": 8.0})


def test_classes_whose_objects_are_not_told_apart_change_no_shrink():
    classes = [*CLASSES, {"name": "nucleus", "mask_value": 9}]
    measured = dataclasses.replace(cohort(108), widths={"epithelium": 108.0, "nucleus": 8.0})

    def found(name):
        config = {"classes": classes, "tiles": {"mpp": 1.9}, "objects": {"class": name, "shrink": AUTO}}
        return planned(measured, **config).settings["objects"]["shrink"]

    assert (found("epithelium"), found("nucleus"), found(["epithelium", "nucleus"])) == (6, 2, 2)


def test_what_is_nowhere_is_not_looked_for():
    of = dataclasses.replace(cohort(), shares={"stroma": 0.6, "epithelium": 0.4, "tumour": 0.0})
    assert planned(of).settings["experiments"]["default"]["training"]["sampling"] == "uniform"


def test_a_training_has_enough_steps_and_many_tiles_do_not_overlap():
    few = planned(cohort(images=10)).settings
    training = few["experiments"]["default"]["training"]
    assert training["batch_size"] >= 2
    many = planned(cohort(images=5000)).settings
    assert many["tiles"]["stride"] == many["tiles"]["size"] > few["tiles"]["stride"]
    assert training["epochs"] > many["experiments"]["default"]["training"]["epochs"] >= 10


@st.composite
def configurations(draw):
    """Draw configurations in which some of what can be planned is given, the resolution perhaps."""
    config = {}
    tiles = {"mpp": st.sampled_from([AUTO, 0.3, 2]), "size": st.sampled_from([AUTO, 64, 140, 200, 256])}
    tiles |= {"stride": st.sampled_from([AUTO, 30, 52])}
    unet = {"depth": st.sampled_from([AUTO, 3, 4]), "wf": st.sampled_from([AUTO, 2]), "padding": st.booleans()}
    training = {"epochs": st.sampled_from([AUTO, 3]), "batch_size": st.sampled_from([AUTO, 5])}
    training |= {"sampling": st.sampled_from([AUTO, "classes"])}
    training |= {"class_weights": st.sampled_from([AUTO, "none", [1, 3]])}
    for name, keys in (("tiles", tiles), ("unet", unet), ("training", training)):
        config[name] = draw(st.fixed_dictionaries({}, optional=keys))
    objects = st.fixed_dictionaries({"class": st.just("epithelium")}, optional={"shrink": st.sampled_from([AUTO, 4])})
    config["objects"] = draw(st.none() | objects)
    if draw(st.booleans()):
        config["tiles"].pop("mpp", None)
        config["tiles"]["resize"] = 0.5
    other = {"unet": draw(st.fixed_dictionaries({}, optional=unet))}
    config["experiments"] = {"one": None, "other": other}
    return config


@given(
    configurations(),
    st.floats(1, 3000),
    st.none() | st.floats(0, 100),
    st.floats(0.1, 4),
    st.tuples(st.floats(20, 30_000), st.floats(20, 30_000)),
    st.integers(1, 300),
)
def test_whatever_is_given_the_plan_is_a_good_configuration_or_says_what_contradicts(
    config, width, gap, finest, sides, images
):
    try:
        asked = load_settings(SHORTEST | config, SCHEMA)
        plan = choose(plan_is_of(asked), cohort(width, gap, finest, sides, images)).settings
    except ConfigError:
        return
    given = {"tiles": asked["tiles"] | plan["tiles"], "experiments": {}}
    for name, experiment in plan["experiments"].items():
        before = asked["experiments"][name]
        given["experiments"][name] = {block: before[block] | values for block, values in experiment.items()}
        for block, values in experiment.items():
            assert all(before[block][key] in (value, AUTO) for key, value in values.items())
    assert all(asked["tiles"][key] in (value, AUTO, None) for key, value in plan["tiles"].items())
    if asked["objects"]:
        assert asked["objects"]["shrink"] in (plan["objects"]["shrink"], AUTO)
        given["objects"] = asked["objects"] | plan["objects"]
    again = load_settings(SHORTEST | given, SCHEMA)
    assert not list(planned_keys(again))
    assert again["tiles"] == given["tiles"]
    least = min(
        unet_output_size(given["tiles"]["size"], each["unet"]["depth"], each["unet"]["padding"])
        for each in given["experiments"].values()
    )
    assert given["tiles"]["stride"] <= least


def test_a_rare_class_is_looked_for():
    def drawn(share):
        measured = dataclasses.replace(cohort(), shares={"stroma": 1 - share, "epithelium": share})
        return planned(measured).settings["experiments"]["default"]["training"]["sampling"]

    assert (drawn(0.4), drawn(0.02)) == ("uniform", "classes")


def test_each_planned_value_has_a_reason_and_no_given_one():
    settings = load_settings(SHORTEST | {"unet": {"depth": 4}, "objects": {"class": "epithelium"}}, SCHEMA)
    assert set(choose(plan_is_of(settings), cohort()).reasons) == set(planned_keys(settings))
    assert "experiments.default.unet.depth" not in set(planned_keys(settings))


def test_a_factor_on_the_size_is_planned_around_in_pixels():
    plan = planned(cohort(100, 20, 1.0, (800, 600), unit="px"), tiles={"resize": 0.5, "size": AUTO}).settings
    assert plan["tiles"]["mpp"] is None
    assert plan["tiles"]["size"] <= 300


def test_tiles_of_a_given_side_limit_the_depth():
    assert (
        planned(cohort(), tiles={"size": 140}, unet={"padding": True}).settings["experiments"]["default"]["unet"][
            "depth"
        ]
        == 3
    )


def test_networks_that_no_tile_serves_are_refused():
    with pytest.raises(ConfigError, match="no size of tiles serves"):
        planned(cohort(), tiles={"stride": 4096}, unet={"depth": 8, "padding": False})


def test_medians_and_digits():
    assert weighted_median(np.array([3.0, 1, 2]), np.array([10.0, 1, 1])) == 3
    assert [rounded(value) for value in (0.1234, 1.2345, 12.345)] == [0.12, 1.2, 12]
