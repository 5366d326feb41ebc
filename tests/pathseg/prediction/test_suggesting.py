import itertools

import numpy as np
import pytest
import shapely
import torch

from conftest import small_unet
from pathseg.images.views import ArrayView
from pathseg.prediction.doubt import Doubt, DoubtMap, map_doubt
from pathseg.prediction.suggesting import STEPS, candidates_of, choose

NOTHING = shapely.Polygon()


def map_of(sums, tissue=None, side=50.0, downsample=100.0):
    """Return a map whose values are means over the tissue of a square, which is full of it."""
    full = np.ones_like(sums) if tissue is None else tissue
    return DoubtMap(sums * full * side**2, full * side**2, side, downsample)


@pytest.fixture
def random_map(rng):
    return map_of(rng.random((40, 60)) ** 8)


def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-30))).sum(axis=0)


def probabilities(network, image):
    with torch.inference_mode():
        logits = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255)
    return logits.softmax(1)[0].double().numpy()


def test_the_measure_is_that_of_whole_images(tissue_field):
    """Whatever tiles it is computed by, and by squares that do not divide the image."""
    image, _ = tissue_field
    networks = [small_unet(seed) for seed in (1, 2, 3)]
    each = [probabilities(network, image) for network in networks]
    expected = entropy(np.mean(each, axis=0))
    predictor = Doubt(networks, torch.device("cpu"), torch.float32)
    tissue = np.zeros((2, 2), bool)
    tissue[0] = True
    found = map_doubt(ArrayView(image), 0.5, 4.0, predictor, 10, 64, tissue)
    assert found.sums.shape == (19, 25)
    border = predictor.border
    for row, column in [(3, 4), (6, 9), (8, 20)]:
        assert row * 10 >= border
        square = np.s_[row * 10 : row * 10 + 10, column * 10 : column * 10 + 10]
        looked_at = np.arange(row * 10, row * 10 + 10) < 96
        np.testing.assert_allclose(found.sums[row, column], expected[square][looked_at].sum() / 4, rtol=1e-3)
        assert found.tissue[row, column] == looked_at.sum() * 10 / 4
    assert found.sums[10:].sum() == found.tissue[10:].sum() == 0
    assert (found.side, found.downsample) == (5.0, 40.0)


def test_one_network_is_asked_in_eight_ways(tissue_field):
    image, _ = tissue_field
    one, eight = (Doubt([small_unet()], torch.device("cpu"), torch.float32, tta) for tta in (False, True))
    part = image[:128, :128]
    ways = [
        np.rot90(probabilities(small_unet(), np.rot90(part[:, ::flip], turns)), -turns, (1, 2))[..., ::flip]
        for turns in range(4)
        for flip in (1, -1)
    ]
    expected = entropy(np.mean(ways, axis=0))
    view = ArrayView(part)
    inner = np.s_[32:96, 32:96]
    assert eight.border <= 32
    for predictor, wanted in ((eight, expected), (one, entropy(probabilities(small_unet(), part)))):
        found = map_doubt(view, 1.0, 1.0, predictor, 32, 128, None).sums
        np.testing.assert_allclose(found[1:3, 1:3].sum(), wanted[inner].sum(), rtol=1e-3)


def test_a_map_comes_back(random_map, tmp_path):
    random_map.save(tmp_path / "m.npz")
    back = DoubtMap.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(back.sums, random_map.sums)
    assert (back.side, back.downsample) == (50.0, 100.0)


def test_the_first_is_the_best_of_all_and_the_others_keep_away(random_map):
    chosen = candidates_of("S", "P", random_map, NOTHING, 20)
    assert len(chosen) == 20
    sums = random_map.sums
    means = [
        sums[row : row + STEPS, column : column + STEPS].mean() / 50**2
        for row, column in itertools.product(range(40 - STEPS + 1), range(60 - STEPS + 1))
    ]
    assert chosen[0].score == pytest.approx(max(means))
    assert [c.score for c in chosen] == sorted((c.score for c in chosen), reverse=True)
    for one, other in itertools.combinations(chosen, 2):
        x, y = (abs(one.box.bounds[k] - other.box.bounds[k]) for k in (0, 1))
        assert max(x, y) >= 600
    assert {c.box.area for c in chosen} == {400.0**2}


def test_what_is_annotated_is_not_suggested_again(random_map):
    rows, columns = np.mgrid[:40, :60]
    hill = map_of(np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / 200))
    best = candidates_of("S", "P", hill, NOTHING, 1)[0]
    for candidate in candidates_of("S", "P", hill, best.box, 4):
        assert candidate.box.distance(best.box) == pytest.approx(300)  # the first place beyond half a side
    assert candidates_of("S", "P", random_map, shapely.box(0, 0, 6000, 4000), 3) == []


def test_only_tissue_is_suggested(random_map):
    tissue = np.zeros((40, 60))
    tissue[:, :30] = 1
    tissue[:, 29] = 0
    for candidate in candidates_of("S", "P", map_of(random_map.sums, tissue), NOTHING, 50):
        assert candidate.tissue >= 0.5
        assert candidate.box.bounds[2] <= 3100
    # Half of a square that is glass counts as agreement.
    even = candidates_of("S", "P", map_of(np.ones((4, 4)), np.repeat([[1, 1, 0, 0]], 4, axis=0)), NOTHING, 1)[0]
    assert (even.score, even.tissue) == (0.5, 0.5)


def test_a_slide_that_is_smaller_or_without_a_doubt_has_none():
    assert candidates_of("S", "P", map_of(np.ones((3, 9))), NOTHING, 1) == []
    assert candidates_of("S", "P", map_of(np.zeros((9, 9))), NOTHING, 1) == []


def test_no_slide_or_patient_gets_all(rng):
    found = {"a": ("P", 100), "b": ("P", 10), "c": ("Q", 1), "d": ("R", 0.1)}
    candidates = [
        candidate
        for slide, (patient, factor) in found.items()
        for candidate in candidates_of(slide, patient, map_of(rng.random((60, 60)) * factor), NOTHING, 9)
    ]
    chosen = choose(candidates, 9)
    counts = {slide: sum(c.slide == slide for c in chosen) for slide in found}
    assert counts == {"a": 4, "b": 1, "c": 4, "d": 0}
    assert [c.score for c in chosen] == sorted((c.score for c in chosen), reverse=True)
    alone = [c for c in candidates if c.slide == "a"]
    assert len(choose(alone, 9)) == 9
    # One other candidate alone: the rest comes from where there is more.
    few = [*alone, next(c for c in candidates if c.slide == "d")]
    assert sorted(c.slide for c in choose(few, 9)) == ["a"] * 8 + ["d"]
