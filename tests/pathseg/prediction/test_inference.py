"""Without seams: whatever the tile, the result is that of the whole image."""

import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import small_unet, undecided_unet
from pathseg.images.views import ArrayView, Coverage, mirrored
from pathseg.network.unet import smallest_input
from pathseg.prediction.inference import Predictor, _Tile, predict_bands

CPU = torch.device("cpu")


def sharp_unet(image, **architecture):
    """Return a random network whose probabilities differ much from pixel to pixel, so that a wrong place shows."""
    # Not any seed: the last layers of some see nothing of the image.
    network = undecided_unet(image, **{"seed": 5} | architecture)
    with torch.inference_mode():
        for values in network.last.parameters():
            values.mul_(100)
    return network


def whole(network, image):
    """Return the network's probabilities [C, H, W] of an image, mirrored far beyond its edges."""
    height, width = image.shape[:2]
    if network.padding:
        border = -(-max(8 * 2**network.depth * 2, 64) // network.stride) * network.stride
        rows = mirrored(-border, -(-height // network.stride) * network.stride + 2 * border, height)
        columns = mirrored(-border, -(-width // network.stride) * network.stride + 2 * border, width)
        top = border
    else:
        sizes = [smallest_input(network, side) for side in (height, width)]
        border = (sizes[0] - network.output_size(sizes[0])) // 2
        rows, columns = mirrored(-border, sizes[0], height), mirrored(-border, sizes[1], width)
        top = 0
    pixels = torch.from_numpy(image[np.ix_(rows, columns)]).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        output = F.softmax(network(pixels)[0], dim=0)
    return output[:, top : top + height, top : top + width].numpy()


def tiled(network, image, tile):
    """Return the probabilities [C, H, W] that the predictor gives tile by tile, before they are rounded."""
    predictor = Predictor([network], CPU, torch.float32)
    view = ArrayView(image)
    step = -(-tile // predictor.stride) * predictor.stride
    result = np.zeros((network.n_classes, *image.shape[:2]), np.float32)
    for y in range(0, view.height, step):
        for x in range(0, view.width, step):
            part = _Tile(x, y, min(step, view.width - x), min(step, view.height - y))
            predicted = predictor.predict(predictor.read(view, part), part.height, part.width)
            result[:, y : y + part.height, x : x + part.width] = predicted.numpy()
    return result


@settings(max_examples=30, deadline=None)
@given(
    depth=st.integers(2, 6),
    up_mode=st.sampled_from(["upconv", "upsample"]),
    batch_norm=st.booleans(),
    padding=st.sampled_from([True, True, False]),
    size=st.tuples(*[st.sampled_from([1, 2, 17, 31, 64, 97, 101])] * 2),
    tile=st.integers(1, 90),
    seed=st.integers(0, 9),
)
def test_tiles_equal_the_whole_image(depth, up_mode, batch_norm, padding, size, tile, seed):
    depth = depth if padding else min(depth, 4)
    network = small_unet(seed, depth=depth, wf=1, up_mode=up_mode, batch_norm=batch_norm, padding=padding)
    image = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert np.abs(tiled(network, image, max(tile, network.stride * 2)) - whole(network, image)).max() < 1e-4


@pytest.mark.parametrize("up_mode", ["upconv", "upsample"])
def test_a_constant_image_repeats_with_the_stride(up_mode):
    network = small_unet(depth=4, up_mode=up_mode)
    result = tiled(network, np.full((90, 75, 3), 140, np.uint8), 24)
    period = network.stride if up_mode == "upconv" else 1
    np.testing.assert_allclose(result[:, period:], result[:, :-period], atol=1e-5)
    np.testing.assert_allclose(result[:, :, period:], result[:, :, :-period], atol=1e-5)


def join(bands):
    bands = list(bands)
    assert [band.y for band in bands] == list(np.cumsum([0] + [len(band.classes) for band in bands])[:-1])
    return np.concatenate([b.classes for b in bands]), np.concatenate([b.probabilities for b in bands], axis=1)


def test_the_class_is_that_of_the_highest_delivered_probability(tissue_field):
    """So that classes.tif follows from probability.tif, to the pixel, also where 8 bits make two classes equal."""
    predictor = Predictor([small_unet(n_classes=7)], CPU, torch.float32)
    classes, probabilities = join(predict_bands(ArrayView(tissue_field[0]), predictor, None, None))
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=0))


def test_uncertainty_is_how_little_the_first_class_leads_the_second(tissue_field, rng):
    """On glass there is none."""
    predictor = Predictor([small_unet(n_classes=7)], CPU, torch.float32)
    tissue = rng.random((6, 7)) > 0.5
    bands = list(predict_bands(ArrayView(tissue_field[0]), predictor, None, tissue))
    _, probabilities = join(bands)
    ascending = np.sort(probabilities.astype(int), axis=0)
    found = np.concatenate([band.uncertainty() for band in bands])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, 255 - (ascending[-1] - ascending[-2]))
    seen = np.concatenate([band.tissue for band in bands])
    assert (found[seen] > 0).all()
    assert not found[~seen].any()


class UnevenView(ArrayView):
    """A view whose first rectangles take the longest to read, and that knows which threads read."""

    def __init__(self, image):
        super().__init__(image)
        self.threads, self.patience = set(), 0.2

    def read(self, *rectangle):
        self.threads.add(threading.current_thread().name)
        self.patience /= 2
        time.sleep(self.patience)
        return super().read(*rectangle)


def test_tiles_are_read_by_several_threads_and_come_in_order(tissue_field, monkeypatch):
    predictor = Predictor([sharp_unet(tissue_field[0])], CPU, torch.float32)
    _, one = join(predict_bands(ArrayView(tissue_field[0]), predictor, 32, None))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    view = UnevenView(tissue_field[0])
    _, several = join(predict_bands(view, predictor, 32, None))
    np.testing.assert_array_equal(several, one)
    assert len(view.threads) == 3
    assert predictor.seconds["reading"] > 0.1


def test_what_is_wanted_is_as_if_everything_were(tissue_field):
    predictor = Predictor([small_unet()], CPU, torch.float32)
    tissue, wanted = np.zeros((2, 12, 16), bool)
    tissue[2:9, 1:12] = True
    wanted[4:6, 3:5] = wanted[8:, 11:] = True
    _, everything = join(predict_bands(ArrayView(tissue_field[0]), predictor, 32, tissue))
    _, some = join(predict_bands(ArrayView(tissue_field[0]), predictor, 32, tissue, wanted))
    inside = wanted.repeat(16, 0).repeat(16, 1)
    np.testing.assert_array_equal(some[:, inside], everything[:, inside])
    assert (some[0] == 255).sum() > (everything[0] == 255).sum()


def test_bands_join_to_the_slide(tissue_field):
    image, network = tissue_field[0], small_unet(n_classes=3)
    predictor = Predictor([network], CPU, torch.float32)
    expected = whole(network, image)
    for tile in [16, 1000, 40, None]:
        classes, probabilities = join(predict_bands(ArrayView(image), predictor, tile, None))
        assert np.abs(probabilities / 255 - expected).max() < 0.51 / 255 + 1e-4
        assert (classes == expected.argmax(0)).mean() > 0.999


@pytest.mark.parametrize("cell", [16, 1])
def test_only_tissue_is_looked_at_and_it_gets_the_same_result(tissue_field, cell):
    """Also where tissue begins between the places at which tiles may start."""
    image, network = tissue_field[0], sharp_unet(tissue_field[0])
    predictor = Predictor([network], CPU, torch.float32)
    everywhere, expected = join(predict_bands(ArrayView(image), predictor, 32, None))
    tissue = np.zeros((12, 16), bool)
    tissue[3:6, 2:9] = tissue[10, 15] = True
    looked_at = tissue.repeat(16, 0).repeat(16, 1)
    if cell == 1:
        tissue = looked_at = np.roll(looked_at, (-3, -5), (0, 1))
    classes, probabilities = join(predict_bands(ArrayView(image), predictor, 32, tissue))
    np.testing.assert_array_equal(classes[looked_at], everywhere[looked_at])
    assert np.abs(probabilities[:, looked_at].astype(int) - expected[:, looked_at]).max() <= 1
    assert not classes[~looked_at].any()
    assert (probabilities[0][~looked_at] == 255).all()


@pytest.mark.parametrize("padding", [True, False])
def test_models_are_averaged(tissue_field, padding):
    """Also one that cuts its border off and a deeper one that does not."""
    image, networks = (
        tissue_field[0],
        [sharp_unet(tissue_field[0], depth=2, padding=padding), sharp_unet(tissue_field[0])],
    )
    predictor = Predictor(networks, CPU, torch.float32)
    _, probabilities = join(predict_bands(ArrayView(image), predictor, 64, None))
    expected = (whole(networks[0], image) + whole(networks[1], image)) / 2
    assert np.abs(probabilities / 255 - expected).max() < 0.51 / 255 + 1e-4


def test_coverage_finds_the_extent_of_tissue():
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    covers = Coverage(mask, 40, 40)
    assert covers.extent(0, 0, 40, 40) == (10, 20, 20, 30)
    assert covers.extent(0, 0, 40, 20) is None
    assert covers.extent(12, 0, 20, 25) == (12, 20, 20, 25)
    assert covers.rows(5, 10).sum() == 5 * 10
    assert covers.part(15, 10, 9, 12).sum() == 5 * 2


@pytest.mark.parametrize(
    ("wf", "dtype"), [(2, torch.bfloat16), (4, torch.bfloat16), (4, torch.float32), (6, torch.bfloat16)]
)
def test_the_border_costs_little_at_the_size_that_memory_allows(wf, dtype):
    predictor = Predictor([small_unet(depth=5, wf=wf)], CPU, dtype)
    height, width = predictor.kept_size(20_000, None)
    computed = (height + 2 * predictor.border) * (width + 2 * predictor.border)
    assert computed * 2**wf * dtype.itemsize * 5 < 1.1 * 2**29
    assert computed / (height * width) < 1.4 if wf < 6 else 1.6


def test_a_tile_that_is_too_small_is_enlarged_and_said(caplog):
    predictor = Predictor([small_unet(depth=5)], CPU, torch.float32)
    with caplog.at_level("INFO"):
        assert predictor.kept_size(4000, 40) == (96, 96)
    assert "takes 96 instead of 40" in caplog.text
    assert predictor.kept_size(4000, 512) == (512, 512)


def test_bands_of_wide_slides_are_lower():
    predictor = Predictor([small_unet(depth=5)], CPU, torch.bfloat16)
    assert predictor.kept_size(4000, None)[0] == 1024
    assert predictor.kept_size(65_536, None)[0] == 768


@pytest.mark.parametrize("n_classes", [20, 100, 200])
@pytest.mark.parametrize("width", [3000, 20_000, 100_000])
@pytest.mark.parametrize("tile", [None, 2048])
def test_many_classes_make_smaller_tiles_and_lower_bands(n_classes, width, tile):
    predictor = Predictor([small_unet(depth=5, n_classes=n_classes)], CPU, torch.float32)
    height, columns = predictor.kept_size(width, tile)
    assert height * width * n_classes < 1.4 * 2**29
    assert tile or height * columns * n_classes * 16 < 2**30


def test_turned_and_mirrored_tiles_are_averaged(tissue_field):
    """The result does not depend on tiles; each of the eight ways alone is a turned network on a turned image."""
    image, network = tissue_field[0][:64, :64], sharp_unet(tissue_field[0])
    predictor = Predictor([network], CPU, torch.float32, tta=True)
    whole_result, _ = join(predict_bands(ArrayView(image), predictor, 64, None))
    _, in_tiles = join(predict_bands(ArrayView(image), predictor, 16, None))
    expected = np.zeros((2, 64, 64), np.float32)
    for turns in range(4):
        for mirrored_too in (False, True):
            seen = np.rot90(image, turns)[:, :: -1 if mirrored_too else 1]
            output = whole(network, np.ascontiguousarray(seen))
            expected += np.rot90(output[:, :, :: -1 if mirrored_too else 1], -turns, (1, 2)) / 8
    assert expected[1].std() > 0.05
    assert np.abs(in_tiles / 255 - expected).max() < 0.51 / 255 + 1e-4
    assert (whole_result == expected.argmax(0)).mean() > 0.999


@pytest.mark.parametrize(("tile", "tta"), [(32, False), (48, True)])
def test_insides_are_those_of_the_whole_image_and_only_if_the_network_keeps_them(rng, tile, tta):
    image = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    network = small_unet(insides=True)
    with torch.inference_mode():
        network.last.weight.mul_(600)
        network.last.bias -= network(torch.from_numpy(image[:88, :104]).permute(2, 0, 1)[None] / 255).mean((0, 2, 3))
    bands = [
        [*predict_bands(ArrayView(image), Predictor([network], CPU, torch.float32, tta), size, None)]
        for size in (tile, None)
    ]
    one, whole = (np.concatenate([band.insides for band in each]) for each in bands)
    assert one.shape == (90, 110)
    assert one.std() > 10
    assert np.abs(one.astype(int) - whole).max() <= 1
    assert bands[0][0].probabilities.shape[0] == 2
    classes = np.concatenate([band.classes for band in bands[0]])
    network.leave_insides()
    alone = [*predict_bands(ArrayView(image), Predictor([network], CPU, torch.float32, tta), tile, None)]
    assert network.last.out_channels == 2
    assert alone[0].insides is None
    np.testing.assert_array_equal(np.concatenate([band.classes for band in alone]), classes)
