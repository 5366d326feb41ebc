import pytest

from pathseg.errors import ResolutionError
from pathseg.images.resampling import model_downsample
from pathseg.images.slides import Level, Slide


def slide(mpp):
    return Slide("s.svs", [Level(1000, 800, 1.0)], mpp, None, "none")


@pytest.mark.parametrize(
    ("model", "mpp", "expected"),
    [
        ({"mpp": 1.0, "resize": None}, 0.25, 4),
        ({"mpp": 0.25, "resize": None}, 0.5, 0.5),
        ({"mpp": None, "resize": 0.5}, 0.25, 2),
        ({"mpp": None, "resize": 0.5}, None, 2),
        ({"mpp": None, "resize": None}, None, 1),
    ],
)
def test_pixels_of_the_slide_per_pixel_of_the_model(model, mpp, expected):
    assert model_downsample(model, slide(mpp)) == expected


def test_a_slide_without_pixel_size_is_refused_by_name():
    with pytest.raises(ResolutionError, match=r"s\.svs.*`mpp`"):
        model_downsample({"mpp": 1.0, "resize": None}, slide(None))
