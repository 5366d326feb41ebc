"""What an image is like does not hang on how it is cut, and is what can be seen."""

import cv2
import numpy as np
import pytest
import torch

from conftest import small_unet
from pathseg.images.stains import OD_FROM_HED
from pathseg.images.views import ArrayView
from pathseg.prediction.inference import Predictor, predict_bands, predict_tiles
from pathseg.prediction.traits import SQUARE, Traits, is_ink

CPU = torch.device("cpu")


def traits_of(image, tile=None, tissue=None, networks=None, tta=False):
    predictor = Predictor(networks or [small_unet()], CPU, torch.float32, tta)
    view = ArrayView(image)
    traits = predictor.watch(view)
    for _ in predict_bands(view, predictor, tile, tissue):
        pass
    return traits


def numbers_of(traits):
    deep = [value for sums in traits.deep for value in (sums.mean, sums.spread)]
    return [
        *(traits.squares[key] for key in sorted(traits.squares)),
        *(traits.stained, traits.density, traits.products, traits.predicted, traits.certain, traits.probable),
        *(traits.contradiction, *deep),
    ]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(
    "networks",
    [
        [small_unet()],
        [small_unet(depth=1)],
        [small_unet(depth=4), small_unet(1, depth=2, up_mode="upsample")],
        [small_unet(padding=False)],
    ],
    ids=["one", "flat", "two", "unpadded"],
)
def test_the_cut_changes_nothing(tissue_field, networks, every, monkeypatch):
    monkeypatch.setattr("pathseg.prediction.traits.MANY_PIXELS", 0 if every > 1 else 2**30)
    image = tissue_field[0][:170, :213]
    tissue = np.zeros((17, 21), bool)
    tissue[2:9, 3:15] = tissue[12:, 18:] = True
    whole = traits_of(image, None, tissue, networks)
    assert whole.every == min(every, max(network.stride for network in networks))
    for tile in (32, 50):
        cut = traits_of(image, tile, tissue, networks)
        for one, other in zip(numbers_of(whole), numbers_of(cut), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_deepest_layer_is_that_of_the_network(tissue_field):
    """By hand, on an image whose edges nobody looks at."""
    image = tissue_field[0]
    network = small_unet(batch_norm=False)
    tissue = np.zeros((192, 256), bool)
    tissue[64:128, 64:192] = True
    (found,) = traits_of(image, 32, tissue, [network]).deep
    kept = {}
    network.down_path[-1].register_forward_hook(lambda layer, inputs, output: kept.update(deep=output[0]))
    with torch.inference_mode():
        network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    wanted = kept["deep"][:, 16:32, 16:48].flatten(1).numpy()
    np.testing.assert_allclose(found.mean, wanted.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.spread, wanted.std(axis=1), rtol=1e-3, atol=1e-5)
    assert found.weight == 16 * 32


def test_tiles_are_noted_as_bands_are(tissue_field):
    predictor = Predictor([small_unet()], CPU, torch.float32)
    view = ArrayView(tissue_field[0])
    traits = predictor.watch(view)
    for _ in predict_tiles(view, predictor, 64, None):
        pass
    for one, other in zip(numbers_of(traits), numbers_of(traits_of(tissue_field[0])), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_colours_are_amounts_of_stain(rng):
    amounts = np.abs(rng.normal([0.5, 0.3, 0.02], [0.1, 0.05, 0.005], (128, 128, 3)))
    image = (255 * np.exp(-amounts @ OD_FROM_HED) + 0.5).astype(np.uint8)
    colour = traits_of(image).colour
    np.testing.assert_allclose(colour[:3], [0.5, 0.3, 0.02], atol=0.01)
    np.testing.assert_allclose(np.exp(colour[3:5]), [0.1, 0.05], rtol=0.1)


def test_glass_has_no_part_in_the_colours(tissue_field):
    image = tissue_field[0].copy()
    before = traits_of(image).colour
    wide = np.full((384, 256, 3), 245, np.uint8)
    wide[:192] = image
    np.testing.assert_allclose(traits_of(wide).colour, before, atol=0.02)


def test_blur_takes_detail_away_and_stain_does_not(tissue_field):
    image = tissue_field[0]
    sharp, blurred = (traits_of(each).detail.sum() for each in (image, cv2.GaussianBlur(image, (0, 0), 1.5)))
    pale = (255 * (image / 255) ** 0.6).astype(np.uint8)
    assert blurred < sharp - 0.8
    assert traits_of(pale).detail.sum() == pytest.approx(sharp, abs=0.15)


def test_what_is_blurred_in_part_is_blurred_by_its_share(tissue_field):
    image = np.tile(tissue_field[0], (2, 2, 1))[: 4 * SQUARE, : 4 * SQUARE].copy()
    limit = traits_of(image).detail.sum() - 0.5
    assert traits_of(image).blurred(limit) == 0
    image[:, : 2 * SQUARE] = cv2.GaussianBlur(image, (0, 0), 3)[:, : 2 * SQUARE]
    assert traits_of(image).blurred(limit) == pytest.approx(0.5, abs=0.07)


def density_of(colour):
    return -np.log(np.maximum(np.array(colour, float), 1) / 255)[None, None]


@pytest.mark.parametrize("colour", [(30, 90, 60), (40, 60, 160), (70, 150, 200), (20, 20, 20), (30, 30, 40)])
def test_ink_is_blue_green_or_black(colour):
    assert is_ink(density_of(colour))


@pytest.mark.parametrize("amount", [0.2, 0.8, 1.5])
@pytest.mark.parametrize("stains", [(1, 0, 0), (0.5, 0.5, 0), (0, 1, 0), (0.3, 0, 0.7)])
def test_stained_tissue_and_glass_are_no_ink(amount, stains):
    assert not is_ink((amount * np.array(stains) @ OD_FROM_HED)[None, None])
    assert not is_ink(density_of((244, 245, 243)))


def test_ink_is_counted_by_its_share(tissue_field):
    image = np.tile(tissue_field[0], (2, 1, 1))[: 4 * SQUARE].copy()
    assert traits_of(image).ink == 0
    image[:SQUARE] = (30, 60, 150)
    assert traits_of(image).ink == pytest.approx(0.25)


def test_dice_is_expected_of_probabilities_by_hand():
    traits = Traits(2, 2, 1, 2)
    shares = torch.tensor([[[0.9, 0.4], [0.2, 0.5]], [[0.1, 0.6], [0.8, 0.5]]])
    traits._add_shares(shares.numpy(), np.array([[True, True], [True, False]]))
    # Two of three pixels get class 1, which is to be expected of 1.4 of them, and of 1.5 in all.
    assert traits.expected_dice[1] == pytest.approx(2 * 1.4 / (2 + 1.5))


def test_one_prediction_cannot_contradict_itself_and_several_do(tissue_field):
    image = tissue_field[0]
    assert not traits_of(image).several
    both = traits_of(image, networks=[small_unet(), small_unet(3)])
    assert both.several
    assert both.contradiction > 0
    assert traits_of(image, networks=[small_unet(), small_unet()]).contradiction == pytest.approx(0, abs=1e-3)
    assert traits_of(image, tta=True).contradiction > 0
