import io

import cv2
import numpy as np
import pytest
from visualize_network import draw_grid

from pathseg.figures import class_legend
from pathseg.images.overlay import borders_of, draw_overlay

# What matplotlib would take for mathematics, and could not read.
NAMES = ["$_x^$", r"$\frac$", "a$b$c"]
COLORS = ["#999999", "#0072B2", "#D55E00"]


def picture_of(figure, kind="jpg"):
    """Return what is saved, read back."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi="figure")
    return cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)


def test_names_are_no_mathematics():
    image = np.full((40, 50, 3), 200, np.uint8)
    classes = np.zeros((40, 50), np.uint8)
    classes[10:20, 10:30], classes[25:30] = 1, 2
    assert picture_of(draw_overlay(image, classes, NAMES, COLORS, "$_x^$", 0.5)).size
    assert picture_of(draw_grid(np.ones((3, 4, 4)), "$_x^$", "viridis"), "png").size
    figure = draw_overlay(image, classes, NAMES, COLORS, "$x$", None)
    class_legend(figure, NAMES, COLORS)
    # As it is written, and not an italic x.
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["$x$"]
    assert not any(text.get_parse_math() for text in figure.findobj(lambda part: hasattr(part, "get_parse_math")))


def test_borders_are_inside_of_classes_and_not_along_the_rim_of_the_picture():
    classes = np.zeros((6, 9), np.uint8)
    classes[:, 3:6], classes[:, 6:] = 1, 2
    wanted = np.zeros((6, 9), bool)
    wanted[:, [3, 5, 6]] = True
    np.testing.assert_array_equal(borders_of(classes, 3), wanted)
    assert not borders_of(np.ones((6, 9), np.uint8), 3).any()


@pytest.mark.parametrize("shape", [(9000, 12), (12, 9000), (1, 1)])
def test_strips_become_pictures_that_a_jpeg_can_be(shape):
    figure = draw_overlay(
        np.full((*shape, 3), 200, np.uint8), np.ones(shape, np.uint8), ["a", "b"], COLORS[:2], "s", 1.0
    )
    height, width = picture_of(figure).shape[:2]
    assert max(height, width) < 20_000


@pytest.mark.parametrize(
    ("width", "mpp", "text", "um"),
    [
        (500, 1.0, "100 µm", 100),
        (1000, 0.5, "100 µm", 100),
        (1000, 5.0, "1 mm", 1000),
        (2048, 8.0, "2 mm", 2000),
        (300, 0.25, "10 µm", 10),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(width, mpp, text, um):
    """A round length of at most a fifth of the picture."""
    figure = draw_overlay(
        np.full((200, width, 3), 200, np.uint8), np.zeros((200, width), np.uint8), ["a", "b"], COLORS[:2], "s", mpp
    )
    (bar,), (label,) = figure.axes[0].patches, figure.axes[0].texts
    assert label.get_text() == text
    assert bar.get_width() == pytest.approx(um / mpp)
    assert bar.get_width() <= width / 5 * (1 + 1e-9)
