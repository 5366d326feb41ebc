"""How far images are from those of training, and what is said of it."""

import copy

import numpy as np
import pytest
import torch

from conftest import small_unet
from pathseg.errors import CheckpointError
from pathseg.network.checkpoint import load_checkpoint, save_checkpoint
from pathseg.prediction.reference import GROUPS, Reference, left_out_distances, limits_of, reference_of
from pathseg.prediction.traits import SQUARE, DeepSums, Traits
from pathseg.prediction.trust import judge, word_of

CHANNELS = 16


def traits_of(rng, patient, colour=1.0, fine=1.0, deep=0.0):
    """Draw what an image of a patient is like; patients differ by a tenth, their images by a thirtieth."""
    own = np.random.default_rng(patient)

    def drawn(size):
        return own.normal(0, 0.1, size) + rng.normal(0, 0.03, size)

    traits = Traits(4 * SQUARE, 4 * SQUARE, 4, 2)
    density = colour * np.array([0.5, 0.7, 0.4]) * np.exp(drawn(3))
    traits.stained = 1000.0
    traits.density = density * traits.stained
    traits.products = (np.outer(density, density) + 0.02 * np.eye(3)) * traits.stained
    traits.squares["seen"] += SQUARE**2
    for reach, ratio in zip((1, 2, 4), np.exp(drawn(3)) * (fine, 1.0, 1.0), strict=True):
        traits.squares[f"detail{reach}"] += 1000 * reach**2 * ratio * traits.squares["seen"]
    mean = np.linspace(1, 2, CHANNELS) + drawn(CHANNELS) + deep * np.linspace(-1, 1, CHANNELS)
    traits.deep = [DeepSums(100.0, 100 * mean, 100 * (mean**2 + 0.25))]
    traits.predicted, traits.certain, traits.probable = np.array([5.0, 5]), np.array([4.0, 4]), np.array([5.0, 5])
    return traits


def cohort(rng, patients=12, images=3):
    names = [f"P{number}" for number in range(patients) for _ in range(images)]
    return [traits_of(rng, int(name[1:])) for name in names], names


@pytest.fixture
def reference(rng):
    return Reference.fit(*cohort(rng))


NAMES = ["stroma", "epithelium"]


def test_new_patients_are_usual_as_often_as_is_said(rng, reference):
    words = [judge([reference], traits_of(rng, 100 + number), NAMES)["word"] for number in range(200)]
    assert np.mean([word != "usual" for word in words]) <= 0.05


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 2.5}, "Its colours are"),
        ({"fine": 0.03}, "Its sharpness is"),
        ({"deep": 3.0}, "What the network sees"),
    ],
)
def test_what_has_changed_is_named(rng, reference, change, said):
    found = judge([reference], traits_of(rng, 99, **change), NAMES)
    assert found["word"] != "usual"
    assert found["reason"].startswith(said) or f" {said}" in found["reason"]
    assert found["excess"] > 1
    assert found["shift"] in found["shifts"].values()


def test_a_patient_is_measured_without_his_own_images(rng):
    """One who is far from all others is far, though he is among those that were fitted to."""
    traits, names = cohort(rng)
    odd = [traits_of(rng, 50, colour=2.5) for _ in range(3)]
    distances = left_out_distances([*traits, *odd], np.array([*names, *["odd"] * 3]))
    assert distances["colour"][-3:].min() > 3 * np.median(distances["colour"])


def test_shifts_are_in_units_of_those_of_patients(rng, reference):
    shifts = [reference.shifts(traits_of(rng, 100 + number), 0) for number in range(60)]
    medians = [np.median([shift[group] for shift in shifts]) for group in GROUPS]
    # Twelve patients know it no better.
    assert min(medians) > 0.6
    assert max(medians) < 1.7


def test_what_was_smoothed_twice_may_be_a_little_less_sharp(rng, reference):
    """A little less, but not more: the other direction is as strange as before."""
    ratios = {}
    for fine in (np.exp(-0.3), 2.0):
        traits = traits_of(rng, 100, fine=fine)
        once = reference.shifts(traits, 0)
        traits.twice_smoothed = True
        twice = reference.shifts(traits, 0)
        ratios[fine] = twice["sharpness"] / once["sharpness"]
        assert [twice[group] for group in ("colour", "features")] == [once[group] for group in ("colour", "features")]
    less, more = ratios.values()
    assert less < 0.75
    assert 0.85 < more <= 1


def test_limits_know_how_few_patients_there_are():
    many, few = (limits_of(np.exp(np.resize([-0.3, 0.3], n)), np.arange(n)) for n in (40, 4))
    assert many[0] == few[0] == pytest.approx(1)
    assert many[0] < many[1] < many[2]
    assert few[1] > 2 * many[1]


def test_each_patient_counts_the_same(rng):
    """However many images there are of one."""
    traits, names = cohort(rng, 6, 1)
    once, often = Reference.fit(traits, names), Reference.fit([*traits, *[traits[0]] * 9], [*names, *[names[0]] * 9])
    for group in GROUPS:
        np.testing.assert_allclose(once.gauges[group].centre, often.gauges[group].centre, atol=1e-6)


def test_few_patients_are_a_thin_reference(rng):
    said = judge([Reference.fit(*cohort(rng, 3))], traits_of(rng, 99), NAMES)
    assert said["reason"].endswith("The reference is thin: 3 training patients.")


def test_without_a_reference_there_is_no_word(rng):
    said = judge([None], traits_of(rng, 1), NAMES)
    assert said["word"] is None
    assert "does not say what its training images were like" in said["reason"]
    assert said["expected_dice"]["epithelium"] == pytest.approx(0.8)


def test_of_nothing_nothing_is_said(reference):
    said = judge([reference], Traits(100, 100, 4, 2), NAMES)
    assert said["word"] is None
    assert said["reason"] == "No tissue was looked at."
    assert said["expected_dice"] == {"stroma": None, "epithelium": None}


def test_several_models_agree_on_a_word(rng):
    first, second = Reference.fit(*cohort(rng)), Reference.fit(*cohort(rng))
    traits = traits_of(rng, 99)
    traits.deep *= 2
    both, one, other = (judge(of, traits, NAMES)["shifts"] for of in ([first, second], [first], [second]))
    for group in GROUPS:
        assert both[group] == pytest.approx((one[group] + other[group]) / 2, abs=0.002)


def test_what_is_blurred_or_inked_is_said_by_its_share():
    limits = [dict.fromkeys(GROUPS, 2.0), dict.fromkeys(GROUPS, 4.0)]
    shifts = dict.fromkeys(GROUPS, 1.0)
    assert word_of(shifts, limits, {"blurred": 0.1, "inked": 0.05})[0] == "usual"
    assert word_of(shifts, limits, {"blurred": 0.3, "inked": 0.0}) == ("unusual", "30 % of it is blurred.")
    assert word_of(shifts, limits, {"blurred": 0.0, "inked": 0.6})[0] == "do not trust"
    assert word_of(shifts | {"colour": 5.0}, limits, {})[0] == "do not trust"


def saved(path, reference, **changes):
    network = small_unet()
    save_checkpoint(path, network.architecture | {"model_dict": network.state_dict(), "reference": reference} | changes)
    return load_checkpoint(path)


def test_a_model_file_keeps_it(tmp_path, rng, reference):
    found = reference_of(saved(tmp_path / "m.pt", reference.stored()), "m.pt")
    traits = traits_of(rng, 99, deep=1.0)
    for group, shift in reference.shifts(traits, 0).items():
        assert found.shifts(traits, 0)[group] == pytest.approx(shift, rel=1e-3)
    assert found.by_patient["colour"].shape == (12, 6)
    assert "P0" not in str(reference.stored())


def test_older_files_say_nothing(tmp_path):
    assert reference_of(saved(tmp_path / "m.pt", None), "m.pt") is None


@pytest.mark.parametrize(
    "fault",
    [
        lambda stored: stored["axes"].update(centre=torch.zeros(3)),
        lambda stored: stored["gauges"]["colour"].update(precision=torch.full((6, 6), np.nan)),
        lambda stored: stored["gauges"].pop("features"),
        lambda stored: stored.update(limits={"colour": [1.0, 2.0, 3.0]}),
        lambda stored: stored["limits"].update(colour=[0.0, 1.0, 2.0]),
        lambda stored: stored["limits"].update(colour="abc"),
        lambda stored: stored.update(patients="many"),
        lambda stored: stored.update(axes=None),
        lambda stored: stored.update(blurred_below=None),
    ],
)
def test_a_damaged_one_is_refused(tmp_path, reference, fault):
    stored = copy.deepcopy(reference.stored())
    fault(stored)
    with pytest.raises(CheckpointError, match=r"m.pt: what it says of its training images \(`reference`\)"):
        reference_of(saved(tmp_path / "m.pt", stored), "m.pt")
