import numpy as np
import pytest

from pathseg_demo.synthesis import draw_field, draw_patient


def test_the_same_seed_draws_the_same(tissue_field):
    rng = np.random.default_rng(3)
    image, epithelium = draw_field(draw_patient(rng), 192, 256, rng)
    np.testing.assert_array_equal(image, tissue_field[0])
    np.testing.assert_array_equal(epithelium, tissue_field[1])


def test_patients_differ_in_stain():
    patients = [draw_patient(np.random.default_rng(seed)) for seed in (1, 2)]
    assert not np.allclose(patients[0].stains, patients[1].stains)
    assert patients[0].strengths != patients[1].strengths


def test_both_classes_are_there(tissue_field):
    assert 0.1 < tissue_field[1].mean() < 0.7


def test_a_class_can_be_rare(tissue_field):
    """Only how much epithelium there is changes, not whose tissue it is."""
    common, rare = (draw_patient(np.random.default_rng(4), share) for share in (None, 0.06))
    assert rare.epithelium == pytest.approx(common.epithelium * 0.06 / 0.425)
    assert (rare.nest, rare.strengths) == (common.nest, common.strengths)
    _, epithelium = draw_field(rare, 192, 256, np.random.default_rng(4))
    assert 0.01 < epithelium.mean() < 0.1
