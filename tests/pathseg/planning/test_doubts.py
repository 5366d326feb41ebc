import numpy as np
import pytest

from pathseg.planning.doubts import doubts
from pathseg.planning.measures import FARTHEST, ImageMeasures

NAMES = ["stroma", "epithelium"]


def image(part, patient, *, areas=(50.0, 50.0), mpp=0.5, color=(0.3, 0.5, 0.4), peak=(0, 0), side=550):
    """Return what may be measured of an image; `peak` is where its mask would fit best, (x, y) in pixels."""
    fits = np.zeros((2 * FARTHEST + 1, 2 * FARTHEST + 1))
    fits[FARTHEST + peak[1], FARTHEST + peak[0]] = 0.1
    nothing = [np.empty(0)] * 2
    empty = np.empty(0)
    return ImageMeasures(
        f"{patient}x",
        patient,
        part,
        mpp,
        side,
        side,
        np.array(areas),
        nothing,
        nothing,
        empty,
        np.array(color),
        fits,
        0.5,
    )


def good():
    """Return a cohort with nothing to say about, of six patients to train on, three to validate and three to test."""
    parts = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rng = np.random.default_rng(1)
    return [image(part, f"P{n}", color=(0.3, 0.5, 0.4) + rng.normal(0, 0.02, 3)) for n, part in enumerate(parts)]


def said(images):
    return list(doubts(images, ["train", "val", "test"], NAMES))


def test_a_good_cohort_is_not_doubted():
    assert said(good()) == []


def test_what_shows_nothing_is_not_said():
    assert said([*good(), image("test", "P12", peak=(-8, 6), side=450)]) == []
    two = [image("val", "P6", areas=(60.0, 60.0)), image("val", "P7", areas=(40.0, 40.0))]
    kept = [one for one in good() if one.part != "val"]
    assert said([*kept, *two]) == ["val has 2 patients: what is learned or scored there says little about the next one"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all_: all_[:-1], "test has 2 patients"),
        (
            lambda all_: [*all_[:-3], *(image("test", f"P{n}", areas=(9.0, 0.0)) for n in range(3))],
            "test has no pixel of",
        ),
        (lambda all_: [*all_, image("val", "P6", areas=(900.0, 90.0))], "val: P6 alone has 84 %"),
        (lambda all_: [*all_, image("train", "P0", mpp=0.25)], "from 0.25 to 0.5 µm"),
        (lambda all_: [*all_[:-1], image("test", "P11", color=(0.8, 0.9, 0.3))], "test: the colours of P11"),
        (
            lambda all_: [*all_[:-1], image("test", "P11", color=(np.nan,) * 3)],
            "no stained tissue in the images of P11",
        ),
        (lambda all_: [*all_[:-1], image("test", "P11", peak=(-8, 6))], "P11 by +4, -3 µm"),
    ],
    ids=["few patients", "a class is missing", "one for all", "pixel sizes", "colours", "grey", "shifted masks"],
)
def test_what_is_doubtful_is_said(change, words):
    sentences = said(change(good()))
    assert len(sentences) == 1
    assert words in sentences[0]
