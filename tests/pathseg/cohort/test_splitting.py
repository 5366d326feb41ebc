import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pathseg.cohort.splitting import part_shares, split_patients


def cohort(images_of_patients, rng, fixed=()):
    patients = [f"p{n}" for n, count in enumerate(images_of_patients) for _ in range(count)]
    samples = pd.DataFrame({"sample": range(len(patients)), "patient": patients})
    samples["part"] = samples["patient"].map(dict(fixed)).astype(object)
    samples["part"] = samples["part"].where(samples["part"].notna(), None)
    return samples, rng.integers(0, 1000, (len(patients), 2))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=5, max_size=25),
    st.sampled_from([(0.2, 0, None), (0.3, 0.2, None), (0.2, 0, 5), (0.2, 0.2, 3)]),
    st.integers(0, 1000),
)
def test_no_patient_is_in_two_parts(images, shape, seed):
    samples, pixels = cohort(images, np.random.default_rng(seed), [("p0", "test" if shape[1] else None)])
    shares = part_shares(*shape)
    parts = split_patients(samples, pixels, shares, seed)
    assert (parts.groupby(samples["patient"]).nunique() == 1).all()
    assert set(parts) == set(shares)
    if shape[1]:
        assert set(parts[samples["patient"] == "p0"]) == {"test"}
    pd.testing.assert_series_equal(parts, split_patients(samples, pixels, shares, seed))


def test_parts_are_balanced_in_classes():
    rng = np.random.default_rng(1)
    samples, _ = cohort([2] * 40, rng)
    share = np.repeat(rng.uniform(0, 1, 40), 2)
    pixels = np.column_stack([1000 * share, 1000 * (1 - share)]).astype(int)
    parts = split_patients(samples, pixels, part_shares(0.2, 0.2, None), 1)
    totals = pd.DataFrame(pixels).groupby(parts.to_numpy()).sum()
    fractions = totals[0] / totals.sum(axis=1)
    assert fractions.max() - fractions.min() < 0.02


def test_seed_matters():
    samples, pixels = cohort([1] * 30, np.random.default_rng(1))
    shares = part_shares(0.3, 0, None)
    assert any(
        not split_patients(samples, pixels, shares, 0).equals(split_patients(samples, pixels, shares, s))
        for s in (1, 2)
    )
