import numpy as np

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
