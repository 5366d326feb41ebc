import numpy as np

from pathseg.images.views import ArrayView
from pathseg.labels.label_maps import LabelImage
from pathseg.labels.values import IGNORE
from pathseg.prediction.comparing import known_part


def test_only_where_something_is_known_is_predicted_and_beside_it():
    labels = np.full((300, 400), IGNORE, np.uint8)
    labels[130, 70] = 1
    known = known_part(LabelImage(labels), ArrayView(np.zeros((300, 400, 3), np.uint8)), 64)
    assert np.argwhere(known).tolist() == [[y, x] for y in (1, 2, 3) for x in (0, 1, 2)]
    assert known.shape == (5, 7)
