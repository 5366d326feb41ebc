import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pathseg.cohort.splitting import divide, note_parts, part_shares, read_parts, write_parts

SPLIT = {"val": 0.2, "test": 0.2, "folds": None, "seed": 1}


def cohort(images, fixed=None):
    """Return rows of patients with so many images each."""
    fixed = fixed or {}
    return [
        {"sample": f"{patient} {n}", "patient": patient, "part": fixed.get(patient)}
        for patient, count in images.items()
        for n in range(count)
    ]


def images_of_parts(parts, images):
    totals = {}
    for patient, part in parts.items():
        totals[part] = totals.get(part, 0) + images[patient]
    return totals


IMAGES = st.lists(st.integers(1, 6), min_size=6, max_size=25).map(lambda n: {f"p{i}": k for i, k in enumerate(n)})


@settings(max_examples=60, deadline=None)
@given(
    IMAGES,
    st.sampled_from([(0.2, 0, None), (0.3, 0.2, None), (0.2, 0, 5), (0.2, 0.2, 3)]),
    st.integers(0, 1000),
)
def test_each_part_has_its_share_and_fixed_patients_stay(images, shape, seed):
    split = dict(zip(("val", "test", "folds"), shape, strict=True), seed=seed)
    fixed = {"p0": "test"} if shape[1] else {}
    parts = divide(cohort(images, fixed), split, "none.json")
    shares = part_shares(*shape)
    assert set(parts) == set(images)
    assert set(parts.values()) == set(shares)
    assert fixed.items() <= parts.items()
    # No part is further from its share than one patient can push it.
    total, most = sum(images.values()), max(images.values())
    for part, got in images_of_parts(parts, images).items():
        assert got - shares[part] * total <= most


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.integers(0, 1000), st.data())
def test_whoever_was_placed_stays(tmp_path_factory, images, seed, data):
    """Whatever happens to the table: patients and images more or less, another order, other files."""
    split = SPLIT | {"seed": seed}
    kept = tmp_path_factory.mktemp("kept") / "parts.json"
    before = divide(cohort(images), split, kept)
    write_parts(kept, before, split)
    changed = {name: data.draw(st.integers(1, 9)) for name in images} | {"new 1": 3, "a new one": 1}
    rows = cohort(changed)
    random.Random(seed).shuffle(rows)
    after = divide(rows, split, kept)
    assert before.items() <= after.items()
    assert read_parts(kept, split) == before


def test_one_who_comes_back_comes_back_to_the_same_part(tmp_path):
    images = {f"p{n}": 2 for n in range(12)}
    kept = tmp_path / "parts.json"
    before = divide(cohort(images), SPLIT, kept)
    write_parts(kept, before, SPLIT)
    fewer = divide(cohort(dict.fromkeys(list(images)[3:], 2)), SPLIT, kept)
    assert fewer.items() <= before.items()
    assert divide(cohort(images), SPLIT, kept) == before


def test_other_settings_divide_anew_and_the_table_goes_before_all(tmp_path):
    images = {f"p{n}": 1 for n in range(30)}
    kept = tmp_path / "parts.json"
    before = divide(cohort(images), SPLIT, kept)
    write_parts(kept, before, SPLIT)
    assert divide(cohort(images), SPLIT | {"seed": 2}, kept) != before
    other = next(part for part in ("train", "val") if part != before["p3"])
    after = divide(cohort(images, {"p3": other}), SPLIT, kept)
    assert {name: part for name, part in after.items() if before[name] != part} == {"p3": other}


def test_what_is_noted_is_what_is_new_or_has_moved(tmp_path):
    kept = tmp_path / "cohort" / "parts.json"
    assert note_parts(kept, {"a": "train", "b": "val"}, SPLIT) == []
    assert note_parts(kept, {"a": "train"}, SPLIT) == []
    said = note_parts(kept, {"a": "val", "c": "train"}, SPLIT)
    assert said == ["1 new patient, 1 moved, by the table or by `split`", "a: from train to val"]
    # Who is gone is remembered, while the settings are the same.
    assert read_parts(kept, SPLIT) == {"a": "val", "b": "val", "c": "train"}
    note_parts(kept, {"a": "val"}, SPLIT | {"seed": 2})
    assert read_parts(kept) == {"a": "val"}
    assert [path.name for path in kept.parent.iterdir()] == ["parts.json"]


def test_seed_matters_and_the_order_of_the_table_does_not():
    images = {f"p{n}": 1 + n % 3 for n in range(30)}
    divisions = [divide(cohort(images), SPLIT | {"seed": seed}, "none.json") for seed in range(5)]
    assert all(one != other for one, other in itertools.combinations(divisions, 2))
    assert divide(cohort(images)[::-1], SPLIT, "none.json") == divisions[1]


def test_who_has_many_images_is_placed_first():
    """The small ones then fill what is left: parts have their shares to the image, whatever the seed."""
    images = {"large": 60, "middle": 20} | {f"p{n}": 1 for n in range(20)}
    for seed in range(20):
        parts = divide(cohort(images), SPLIT | {"seed": seed}, "none.json")
        assert images_of_parts(parts, images) == {"train": 60, "val": 20, "test": 20}


def test_a_test_part_that_only_the_table_names():
    parts = divide(cohort({f"p{n}": 1 for n in range(10)}, {"p0": "test"}), SPLIT | {"test": 0}, "none.json")
    assert [name for name, part in parts.items() if part == "test"] == ["p0"]
