import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pathseg.errors import ResolutionError
from pathseg.images import resampling
from pathseg.images.resampling import QUICK, Axis, ResampledSlide, model_downsample, resample_labels
from pathseg.images.slides import Level, Slide, open_slide

# As scanners and tables give them: 0.252 and 0.2475 µm to 0.5, levels of floor(side / 4), and whole numbers.
FACTORS = [1.02, 1.5, 1.984, 2, 2.02, 2.7, 3, 3.968, 4, 4.03, 5.3, 8]


def slide_of(pixels, levels=1):
    """A slide in memory, whose coarser levels are means of blocks."""
    images = [pixels]
    for _ in range(levels - 1 if min(pixels.shape[:2]) > 1 else 0):
        h, w = (side // 2 * 2 for side in images[-1].shape[:2])
        images.append(images[-1][:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)).round().astype(np.uint8))
    shapes = [Level(i.shape[1], i.shape[0], pixels.shape[1] / i.shape[1]) for i in images]
    return Slide("memory", shapes, None, lambda level, x, y, w, h: images[level][y : y + h, x : x + w], "array")


def area_weights(source, result):
    """Return the share of each source pixel in each output pixel, by the definition: [result, source]."""
    starts, stops = np.arange(result) * source / result, np.arange(1, result + 1) * source / result
    pixels = np.arange(source)
    overlap = np.minimum(stops[:, None], pixels + 1) - np.maximum(starts[:, None], pixels)
    return np.clip(overlap, 0, None) * result / source


def area_mean(pixels, width, height):
    rows, columns = area_weights(pixels.shape[0], height), area_weights(pixels.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, pixels.astype(float), columns, optimize=True)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([1, 2, 0.5, 0.77, 0.96, 1.37, 1.984, 3.3, 4, 40]),
    st.integers(0, 99),
)
def test_a_rectangle_does_not_depend_on_what_is_read_around_it(height, width, downsample, seed):
    rng = np.random.default_rng(seed)
    slide = slide_of(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), 2)
    view = ResampledSlide(slide, downsample)
    whole = view.read(0, 0, view.width, view.height)
    assert whole.shape == (view.height, view.width, 3)
    x, y = rng.integers(0, view.width), rng.integers(0, view.height)
    w, h = rng.integers(1, view.width - x + 1), rng.integers(1, view.height - y + 1)
    np.testing.assert_array_equal(view.read(x, y, w, h), whole[y : y + h, x : x + w])
    padded = np.pad(whole, ((60, 60), (60, 60), (0, 0)), "reflect")
    np.testing.assert_array_equal(view.read(-60, -60, view.width + 120, view.height + 120), padded)
    np.testing.assert_array_equal(view.read(-60, -60, 10, 20), padded[:20, :10])


@pytest.mark.parametrize("downsample", [0.6, 1, 1.984, 2, 3.968])
def test_large_rectangles_are_read_in_pieces_of_the_same_pixels(monkeypatch, rng, downsample):
    view = ResampledSlide(slide_of(rng.integers(0, 255, (300, 407, 3), dtype=np.uint8)), downsample)
    whole = view.read(0, 0, view.width, view.height)
    monkeypatch.setattr(resampling, "READ_PIXELS", 4000)
    monkeypatch.setattr(resampling, "WEIGHED_PIXELS", 700)
    np.testing.assert_array_equal(view.read(0, 0, view.width, view.height), whole)


@pytest.mark.parametrize("factor", FACTORS)
def test_going_down_averages_areas(rng, factor):
    pixels = rng.normal(128, 20, (480, 480, 3)).round().astype(np.uint8)
    view = ResampledSlide(slide_of(pixels), factor)
    read, expected = view.read(0, 0, view.width, view.height), area_mean(pixels, view.width, view.height)
    assert np.abs(read - expected).max() <= 0.75
    assert abs((read - expected).mean()) < 0.15
    # The grain of white noise that is left, whose size scanners differ in by a hair.
    grain = np.sqrt(read.std() ** 2 - 1 / 12)
    assert grain == pytest.approx(expected.std(), rel=0.02)
    assert grain == pytest.approx(np.sqrt(((area_weights(480, view.width) ** 2).sum(1).mean()) ** 2) * 20, rel=0.02)


def test_the_short_cut_for_halves_gives_the_same_pixels(monkeypatch, rng):
    pixels = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    short = ResampledSlide(slide_of(pixels), 2).read(0, 0, 40, 32)
    down = Axis(64, 32).weights(0, 32, (0, 64), QUICK.rows, QUICK.row_bits)
    across = Axis(80, 40).weights(0, 40, (0, 80), QUICK.columns, QUICK.column_bits)
    sums = resampling._weighed(pixels, down, across, QUICK)
    long = resampling._rounded(sums, QUICK).reshape(40, 32, 3).swapaxes(0, 1)
    np.testing.assert_array_equal(short, long)
    monkeypatch.setattr(resampling, "_weighed", None)  # inside a slide, too, where it was never taken
    ResampledSlide(slide_of(pixels), 2).read(7, 9, 20, 10)


@pytest.mark.parametrize("factor", [0.5, 0.77, 0.96, *FACTORS])
def test_a_step_edge_stays_where_it_is(factor):
    """In images each edge; in labels, whose pixels are whole, edges at all places on average."""
    errors = []
    for edge in range(200, 280):
        pixels = np.full((24, 480, 3), 190, np.uint8)
        pixels[:, :edge] = 60
        for turned in (False, True):
            picture = pixels.swapaxes(0, 1) if turned else pixels
            view = ResampledSlide(slide_of(picture), factor)
            expected = edge * (view.height if turned else view.width) / 480
            read = (190 - view.read(0, 0, view.width, view.height)[..., 0].astype(float)) / 130
            found = read.sum(axis=0 if turned else 1)
            assert np.abs(found - expected).max() < 0.02
            labels = resample_labels((picture[..., 0] == 60).astype(np.uint8), view.width, view.height)
            errors.append(labels.sum(axis=0 if turned else 1).mean() - expected)
    assert abs(np.mean(errors)) < 0.02
    assert np.abs(errors).max() <= 0.5


def test_a_ramp_stays_where_it_is():
    """Pixel centres keep their place on the slide at any factor, up and down."""
    ramp = np.repeat(np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 60, axis=0), 3, axis=2)
    for factor in (0.5, 0.95, 1.5, 2, 2.7):
        view = ResampledSlide(slide_of(ramp), factor)
        read = view.read(0, 0, view.width, view.height)[5, 4:-4, 0]
        centres = (np.arange(4, view.width - 4) + 0.5) * 240 / view.width - 0.5
        assert np.abs(read - centres).max() <= 0.6
        assert abs((read - centres).mean()) <= 0.5


def test_a_view_may_be_wider_than_32_766_pixels(tmp_path):
    """As a 40x slide of 72,000 pixels is at half its resolution."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (256, 72_000, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "wide.tif", image, tile=(256, 256), photometric="rgb")
    view = ResampledSlide(open_slide(tmp_path / "wide.tif"), 0.5 / 0.252)
    read = view.read(0, 100, view.width, 16)
    assert read.shape == (16, 36_288, 3)
    expected = area_mean(image[:, :2500], 1260, 129)
    assert np.abs(read[:, :1000] - expected[100:116, :1000]).max() < 0.75


def test_the_coarsest_level_that_is_fine_enough_is_read():
    slide = slide_of(np.zeros((256, 256, 3), np.uint8), 4)
    assert [slide.level_for(d) for d in (0.5, 1, 1.9, 2, 4.1, 8, 99)] == [0, 0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_labels_that_repeat_are_found_again(rng, factor):
    small = rng.integers(0, 5, (9, 7), dtype=np.uint8)
    large = small.repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(resample_labels(large, 7, 9), small)
    np.testing.assert_array_equal(resample_labels(small, 7 * factor, 9 * factor), large)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.floats(0.4, 6), st.integers(2, 300), st.integers(0, 99))
def test_labels_are_those_that_cover_most(height, width, factor, most, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, most, (-(-height // 3), -(-width // 3))).repeat(3, 0).repeat(3, 1)[:height, :width]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    found = resample_labels(labels, *size)
    rows, columns = area_weights(height, size[1]), area_weights(width, size[0])
    shares = {value: rows @ (labels == value) @ columns.T for value in np.unique(labels)}
    own = np.zeros(found.shape)
    for value, share in shares.items():
        own[found == value] = share[found == value]
    assert (own >= np.max(list(shares.values()), axis=0) - 0.02).all()


def test_large_numbers_and_a_value_to_leave_out(rng):
    labels = rng.integers(1, 4, (20, 30)).repeat(4, 0).repeat(4, 1) * 10_000_000
    labels[:, :60] = 0
    small = resample_labels(labels, 60, 40, without=0)
    np.testing.assert_array_equal(small, labels[::2, ::2])
    thin = np.zeros((6, 6), int)
    thin[1, 1] = 7
    assert resample_labels(thin, 2, 2)[0, 0] == 0
    np.testing.assert_array_equal(resample_labels(thin, 2, 2, without=0), [[7, 0], [0, 0]])


def test_what_is_read_between_levels_is_smoothed_twice():
    pixels = np.zeros((512, 512, 3), np.uint8)
    for levels, downsample, between in ((1, 2.8, False), (3, 2, False), (3, 2.8, True), (3, 4, False), (3, 1.5, False)):
        assert ResampledSlide(slide_of(pixels, levels), downsample).between_levels == between


def slide_with(mpp):
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
    assert model_downsample(model, slide_with(mpp)) == expected


def test_a_slide_without_pixel_size_is_refused_by_name():
    with pytest.raises(ResolutionError, match=r"s\.svs.*`mpp`"):
        model_downsample({"mpp": 1.0, "resize": None}, slide_with(None))
