"""Scores of objects are those of a published implementation: panoptica (Kofler et al. 2023, arXiv 2312.02608)."""

import json

import numpy as np
import pytest

from environments import environment
from pathseg.scores.objects import count_objects, object_scores

MAPS = 200
RUN = """
import json, sys
import numpy as np
from panoptica import InputType, Metric, NaiveThresholdMatching, Panoptica_Evaluator
evaluator = Panoptica_Evaluator(
    expected_input=InputType.UNMATCHED_INSTANCE,
    # More than half, as in the paper; it takes the threshold itself for a match.
    instance_matcher=NaiveThresholdMatching(matching_threshold=0.5 + 1e-9),
    instance_metrics=[Metric.IOU],
)
rows = []
with np.load(sys.argv[1]) as maps:
    for true, predicted in zip(maps["true"], maps["predicted"]):
        (result,) = evaluator.evaluate(predicted, true).values()
        rows.append([float(result.tp), float(result.pq), float(result.sq), float(result.rq)])
with open(sys.argv[2], "w") as file:
    json.dump(rows, file)
"""


def ellipses(rng, count):
    """Return a map of numbered ellipses that cover each other in part, uint8 [120, 120], with gaps in the numbers."""
    numbers = np.zeros((120, 120), np.uint8)
    y, x = np.mgrid[0:120, 0:120]
    for number in rng.choice(np.arange(1, 250), count, replace=False):
        (row, column), (a, b) = rng.uniform(0, 120, 2), rng.uniform(4, 22, 2)
        numbers[((y - row) / a) ** 2 + ((x - column) / b) ** 2 < 1] = number
    return numbers


def shaken(rng, numbers):
    """Return the same objects moved a little, without some of them, with new numbers and two more."""
    moved = np.roll(numbers, rng.integers(-4, 5, 2), (0, 1))
    moved[np.isin(moved, rng.choice(250, 60))] = 0
    return np.where(moved > 0, 250 - moved, ellipses(rng, 2)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_panoptic_quality_is_that_of_panoptica(tmp_path, rng):
    true = [ellipses(rng, int(rng.integers(1, 25))) for _ in range(MAPS)]
    predicted = [shaken(rng, numbers) for numbers in true]
    np.savez(tmp_path / "maps.npz", true=np.array(true), predicted=np.array(predicted))
    environment("panoptica==2.1.7")("-c", RUN, tmp_path / "maps.npz", tmp_path / "scores.json")
    wanted = np.array(json.loads((tmp_path / "scores.json").read_text()))
    counts = np.array([count_objects(*pair) for pair in zip(true, predicted, strict=True)])
    scores = object_scores(counts)
    assert 0.1 < np.median(scores["pq"]) < 0.9
    matched = wanted[:, 0] > 0
    assert matched.sum() > 150
    np.testing.assert_allclose(scores["pq"], np.nan_to_num(wanted[:, 1]), atol=1e-9)
    np.testing.assert_allclose(scores["rq"], np.nan_to_num(wanted[:, 3]), atol=1e-9)
    np.testing.assert_allclose(scores["sq"][matched], wanted[matched, 2], atol=1e-9)
