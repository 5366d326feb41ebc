import cv2
import numpy as np
import pytest
from skimage.measure import label

from conftest import CLASSES, write_image
from pathseg.labels.values import IGNORE
from pathseg.planning.measures import FARTHEST, measure_image, measure_objects, outline_fits
from workflow_conftest import write_slide


def discs(shape, centres, radius):
    """Return a mask uint8 [H, W] with discs of 1."""
    mask = np.zeros(shape, np.uint8)
    for centre in centres:
        cv2.circle(mask, centre, radius, 1, -1)
    return mask


def measured(folder, image, mask, **row):
    """Write an image and its mask, and measure them."""
    write_image(folder / "m.png", mask)
    if not (folder / "i.tif").exists():
        write_slide(folder / "i.tif", image, mpp=0.5)
    known = {"sample": "s", "patient": "p", "part": "train", "mpp": None, "instances": None}
    known |= {"image": str(folder / "i.tif"), "mask": str(folder / "m.png")} | row
    return measure_image(known, CLASSES, 7, "ignore", True)


def test_widths_areas_and_gaps_of_discs(tmp_path, rng):
    mask = discs((300, 400), [(100, 100), (160, 100), (320, 200)], 20) * 255
    image = rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    found = measured(tmp_path, image, mask)
    assert (found.mpp, found.width, found.height) == (0.5, 200, 150)
    np.testing.assert_allclose(found.widths[1], 41 / 2, rtol=0.05)
    np.testing.assert_allclose(found.object_areas[1], (mask > 0).sum() / 3 / 4)
    far = np.hypot(160, 100) - 41
    np.testing.assert_allclose(sorted(found.gaps)[:2], 19 / 2)
    assert abs(sorted(found.gaps)[2] - far / 2) < 1
    np.testing.assert_allclose(found.areas, np.array([(mask == 0).sum(), (mask > 0).sum()]) / 4)
    assert not len(found.widths[0])


def test_numbered_objects_that_touch_have_widths_of_their_own():
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 10:50] = 1
    numbers = np.where(mask, np.arange(90) // 30 + 1, 0)
    (apart, *_), (together, *_) = (measure_objects(mask, each, 2, True) for each in (numbers, label(mask)))
    assert len(together.widths[1]) == 1
    assert len(together.gaps) == 0
    np.testing.assert_allclose(apart.areas[1], [400, 400])
    assert (apart.gaps == 0).all()
    assert apart.widths[1].max() <= 20


def test_what_is_ignored_is_no_object():
    mask = discs((80, 80), [(40, 40)], 20)
    mask[:, 40:] = IGNORE
    found, cut, seen = measure_objects(mask, label(mask == 1), 2, True)
    assert seen == (mask == 1).sum()
    assert cut == 0
    assert len(found.widths[1]) == 1


@pytest.mark.parametrize("radius", [12, 350])
def test_large_objects_of_large_images_are_measured_whole(tmp_path, radius):
    shape = (2150, 2200)
    centres = [(450, 450), (1650, 450), (450, 1650), (1700, 1800)]
    found = measured(tmp_path, np.full((*shape, 3), 200, np.uint8), discs(shape, centres, radius) * 255)
    assert len(found.widths[1]) >= 2
    np.testing.assert_allclose(found.widths[1], radius, rtol=0.1)


@pytest.mark.parametrize("moved", [(0, 0), (12, -9)])
def test_a_mask_that_was_moved_fits_where_it_was(rng, moved):
    truth = discs((400, 500), rng.integers(40, 360, (8, 2)).tolist(), 25)
    image = np.where(truth[..., None] > 0, (150, 90, 160), (230, 190, 220)) + rng.normal(0, 15, (400, 500, 3))
    image = image.clip(0, 255).astype(np.uint8)
    mask = np.roll(truth, moved[::-1], axis=(0, 1))
    fits = outline_fits(image, mask)
    y, x = np.unravel_index(fits.argmax(), fits.shape)
    assert abs(FARTHEST - x - moved[0]) <= 2
    assert abs(FARTHEST - y - moved[1]) <= 2


def test_nothing_to_fit():
    assert outline_fits(np.zeros((100, 100, 3), np.uint8), np.ones((100, 100), np.uint8)) is None
    assert outline_fits(np.zeros((300, 300, 3), np.uint8), discs((300, 300), [(150, 150)], 40)) is None
