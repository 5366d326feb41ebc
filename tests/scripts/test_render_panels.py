import numpy as np
from render_panels import chosen_tiles, draw_rows, joined_images

from pathseg.labels.values import IGNORE
from pathseg.tiles.database import DatabaseWriter, TileDatabase


def test_best_median_and_worst_are_of_different_images():
    scores = np.array([0.9, 0.89, 0.5, 0.7, np.nan, 0.2, 0.1, 0.6])
    samples = ["a", "a", "b", "b", "c", "c", "c", "d"]
    chosen = chosen_tiles(scores, samples, 2)
    assert [kind for kind, _ in chosen] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    best, worst = ([index for kind, index in chosen if kind == wanted] for wanted in ("best", "worst"))
    assert best == [0, 3]
    assert worst == [2, 6]
    assert len({index for _, index in chosen}) == 6


def test_few_tiles_are_shown_once():
    assert chosen_tiles(np.array([0.3, 0.8]), ["a", "a"], 3) == [("best", 1), ("best", 0)]


def test_images_are_put_together_from_their_tiles(tmp_path, rng):
    image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    mask = rng.integers(0, 2, (48, 64), dtype=np.uint8)
    mask[40:] = IGNORE
    corners = [(x, y) for y in (0, 16) for x in (0, 16, 32)]
    attributes = {"classes": ["a", "b"], "tile_size": 32}
    source = dict.fromkeys(("sample", "image", "mask", "image_sha256", "mask_sha256"), "s")
    with DatabaseWriter(tmp_path / "x.h5", 32, 2, complib="none", complevel=1, attributes=attributes) as writer:
        tiles = [np.array([a[y : y + 32, x : x + 32] for x, y in corners]) for a in (image, mask)]
        writer.append(source | {"patient": "p"}, tiles, np.array(corners) * 2.0, 2.0)
        writer.close()
    with TileDatabase(tmp_path / "x.h5") as database:
        ((name, joined, joined_mask),) = joined_images(database)
    assert name == "s"
    np.testing.assert_array_equal(joined, image[:40])
    np.testing.assert_array_equal(joined_mask, mask[:40])


def test_a_row_shows_raw_output_argmax_truth_and_original(rng):
    """In the order of their titles."""
    image = rng.integers(0, 255, (8, 6, 3), dtype=np.uint8)
    predicted, truth = np.zeros((8, 6), np.uint8), np.ones((8, 6), np.uint8)
    probabilities = np.stack([np.full((8, 6), 200, np.uint8), np.full((8, 6), 55, np.uint8)])
    figure = draw_rows([("best: s", probabilities, predicted, truth, image)], ["a", "b"], ["#999999", "#0072B2"], 11)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["best: s\nraw output (1 - a)", "argmax", "ground truth", "original"]
    raw, shown, true, original = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_array_equal(raw, 55)
    np.testing.assert_array_equal(shown[0, 0], (0x99, 0x99, 0x99))
    np.testing.assert_array_equal(true[0, 0], (0x00, 0x72, 0xB2))
    np.testing.assert_array_equal(original, image)
