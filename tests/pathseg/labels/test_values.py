import numpy as np

from conftest import CLASSES
from pathseg.labels.values import IGNORE, class_counts, to_class_indices


def test_values_become_indices():
    labels = np.array([[0, 255], [7, 255]], np.uint8)
    indices = to_class_indices(labels, CLASSES, 7, "m")
    np.testing.assert_array_equal(indices, [[0, 1], [IGNORE, 1]])
    np.testing.assert_array_equal(class_counts(indices, 2), [1, 2])


def test_16_bit_values():
    classes = [{"name": "a", "mask_value": 300}, {"name": "b", "mask_value": 65535}]
    np.testing.assert_array_equal(to_class_indices(np.array([[65535, 300]], np.uint16), classes, None, "m"), [[1, 0]])
