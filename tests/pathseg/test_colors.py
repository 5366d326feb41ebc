import itertools

from pathseg.colors import PALETTE, colors_of, default_color


def test_any_number_of_classes_has_colours_and_the_first_is_the_backgrounds_alone():
    colors = [default_color(index) for index in range(20)]
    assert colors[: len(PALETTE)] == list(PALETTE)
    assert PALETTE[0] not in colors[1:]
    assert all(one != other for one, other in itertools.pairwise(colors))


def test_a_models_classes_get_their_colours_by_name():
    configured = [{"name": "gland", "color": "#112233"}, {"name": "other", "color": "#445566"}]
    assert colors_of(["stroma", "nerve", "gland"], configured) == [PALETTE[0], PALETTE[1], "#112233"]
