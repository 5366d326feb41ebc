"""Pieces of tissue."""

import numpy as np

from pathseg.labels.pieces import number_pieces


def test_pieces_are_numbered_by_size_and_what_is_beside_them_is_of_the_nearest():
    tissue = np.zeros((40, 60), bool)
    tissue[2:6, 2:6] = True
    tissue[10:30, 10:30] = True
    # They touch at a corner alone, and are one.
    tissue[10:14, 40:50] = tissue[14:18, 50:55] = True
    numbers = number_pieces(tissue)
    assert (numbers[3, 3], numbers[20, 20], numbers[11, 45], numbers[16, 52]) == (3, 1, 2, 2)
    assert (numbers[0, 0], numbers[39, 20], numbers[39, 59]) == (3, 1, 2)
    assert set(np.unique(numbers)) == {1, 2, 3}


def test_without_tissue_there_is_no_piece():
    assert not number_pieces(np.zeros((5, 7), bool)).any()
