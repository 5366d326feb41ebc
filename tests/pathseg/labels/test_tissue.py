import json

import numpy as np
import pytest
import shapely
import tifffile
from shapely.geometry import mapping

from conftest import write_image
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import find_tissue, read_tissue, tissue_share
from pathseg_demo.synthesis import draw_field, draw_patient, draw_tissue_outline

GLASS = (242, 242, 243)


def slide_with(tmp_path, paint):
    image = np.full((1500, 2000, 3), GLASS, np.uint8)
    image += np.random.default_rng(0).integers(0, 4, image.shape, dtype=np.uint8)
    paint(image)
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    return open_slide(tmp_path / "s.tif")


def at(mask, x, y):
    return mask[int(y * mask.shape[0] / 1500), int(x * mask.shape[1] / 2000)]


def test_pale_and_small_fragments_are_kept_beside_strong_tissue(tmp_path):
    def paint(image):
        image[200:900, 300:1200] = (170, 70, 150)
        image[1200:1300, 1500:1700] = (235, 222, 236)  # a pale fragment
        image[1000:1030, 100:130] = (190, 120, 180)  # a small one

    mask = find_tissue(slide_with(tmp_path, paint))
    assert at(mask, 700, 500)
    assert at(mask, 1600, 1250)
    assert at(mask, 115, 1015)
    assert not at(mask, 1800, 200)
    assert 0.2 < mask.mean() < 0.35


def test_glass_and_full_tissue(tmp_path):
    assert find_tissue(slide_with(tmp_path, lambda image: None)).mean() < 0.01

    def paint(image):
        image[:] = (180, 90, 160)

    assert find_tissue(slide_with(tmp_path, paint)).all()


def test_synthetic_slide(tmp_path):
    rng = np.random.default_rng(2)
    outline = draw_tissue_outline(1024, 1024, rng)
    image, _ = draw_field(draw_patient(rng), 1024, 1024, rng, outline)
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    mask = find_tissue(open_slide(tmp_path / "s.tif"))
    assert mask.shape == (1024, 1024)
    assert mask[outline].mean() > 0.999
    assert mask[~outline].mean() < 0.1


@pytest.mark.parametrize(("color", "share"), [((180, 90, 160), 1), ((240, 240, 241), 0)])
def test_share_of_tissue(color, share):
    assert tissue_share(np.full((64, 64, 3), color, np.uint8)) == share


def test_a_users_own_mask(tmp_path):
    slide = slide_with(tmp_path, lambda image: None)
    mask = np.zeros((15, 20), np.uint8)
    mask[3:5, 4:8] = 7
    write_image(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(read_tissue(tmp_path / "m.png", slide), mask > 0)
    feature = {"geometry": mapping(shapely.box(400, 300, 800, 500)), "properties": {}}
    (tmp_path / "m.geojson").write_text(json.dumps([feature]))
    tissue = read_tissue(tmp_path / "m.geojson", slide)
    assert tissue.shape == (1500, 2000)
    assert tissue.sum() == 400 * 200
    assert tissue[300:500, 400:800].all()
