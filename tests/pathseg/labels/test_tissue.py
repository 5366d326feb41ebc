import json

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
import skimage.io
import tifffile
from PIL import Image
from shapely.geometry import mapping
from skimage import img_as_ubyte

from conftest import write_image
from pathseg.errors import ImageError
from pathseg.images.blocks import Level
from pathseg.images.masks import read_labels
from pathseg.images.slides import Slide, open_slide
from pathseg.images.views import Coverage
from pathseg.labels.tissue import choose_tissue, find_tissue, read_tissue, tissue_share, tissue_source
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


def test_tissue_of_a_grey_scan_is_what_is_dark(tmp_path):
    """It has no colours, and all of it was taken for glass."""
    grey = np.full((1500, 2000), 240, np.uint8)
    grey += np.random.default_rng(0).integers(0, 4, grey.shape, dtype=np.uint8)
    tissue, lumen = np.s_[200:900, 300:1200], np.s_[400:500, 600:700]
    grey[tissue] -= 60
    grey[lumen] += 60
    for name, image in (("tissue.tif", grey), ("glass.tif", grey[1000:])):
        tifffile.imwrite(tmp_path / name, image, tile=(256, 256), photometric="minisblack")
    mask = find_tissue(open_slide(tmp_path / "tissue.tif"))
    assert mask[tissue].all()
    assert mask.mean() < 1.1 * 700 * 900 / grey.size
    assert find_tissue(open_slide(tmp_path / "glass.tif")).mean() < 0.01


def test_synthetic_slide(tmp_path):
    rng = np.random.default_rng(2)
    outline = draw_tissue_outline(1024, 1024, rng)
    image, _ = draw_field(draw_patient(rng), 1024, 1024, rng, outline)
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    mask = find_tissue(open_slide(tmp_path / "s.tif"))
    assert mask.shape == (1024, 1024)
    assert mask[outline].mean() > 0.999
    assert mask[~outline].mean() < 0.1


# Side of a pixel in µm, of the pictures below.
MPP = 2.0


def slide_of(path, image, levels=2):
    """Write an image as a slide, with a coarser level if it is to be searched, and open it."""
    options = {"tile": (256, 256), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            pixels = np.ascontiguousarray(image[:: 2**level, :: 2**level])
            tiff.write(pixels, resolution=(1e4 / MPP / 2**level,) * 2, subfiletype=int(level > 0), **options)
    return open_slide(path)


def covered(mask, where):
    """Return the share of bool [H, W] that a smaller mask covers."""
    seen = Coverage(mask, where.shape[1], where.shape[0]).rows(0, where.shape[0])
    return seen[where].mean()


@pytest.fixture(scope="module")
def tissue_with_holes():
    """Synthetic tissue with a gland's lumen, fat, and a tear; and where each is, as bool [1536, 1536]."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:1536, 0:1536]
    outline = np.hypot(x - 768, y - 768) < 640
    image, _ = draw_field(draw_patient(rng), 1536, 1536, rng, outline)
    lumen = np.hypot((x - 500) / 1.4, y - 520) < 90
    tear = (np.abs(y - 1000 - 60 * np.sin(x / 70)) < 14) & (np.abs(x - 700) < 420)
    # Cells of fat with thin walls between them.
    fat = np.hypot(x - 1000, y - 560) < 190
    walls = (np.minimum(x % 40, y % 40) < 2) & fat
    for empty in (lumen, tear, fat & ~walls):
        image[empty] = rng.integers(240, 244, (int(empty.sum()), 3))
    return image, outline, {"lumen": lumen, "tear": tear, "fat": fat}


@pytest.mark.parametrize("kind", ["lumen", "tear", "fat"])
def test_what_lies_inside_tissue_is_never_taken_away(tissue_with_holes, tmp_path, kind):
    image, outline, places = tissue_with_holes
    mask = find_tissue(slide_of(tmp_path / "s.tif", image), 4e6)
    assert covered(mask, places[kind]) == 1
    assert covered(mask, outline) > 0.999
    assert covered(mask, ~outline) < 0.1


def test_larger_holes_stay_glass(tissue_with_holes, tmp_path):
    image, _, places = tissue_with_holes
    lumen = places["lumen"]
    area = np.pi * 90 * 126 * MPP**2
    slide = slide_of(tmp_path / "s.tif", image)
    assert covered(find_tissue(slide, 1.1 * area), lumen) == 1
    assert covered(find_tissue(slide, 0.5 * area), lumen) < 0.5
    assert covered(find_tissue(slide, 0), lumen) < 0.5


def test_the_search_uses_the_pixel_size_of_the_table(tmp_path, caplog):
    """Without it a hole has no area, and is filled."""
    image = np.full((1500, 2000, 3), (180, 90, 160), np.uint8)
    image[:200] = image[600:900, 800:1200] = GLASS
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    coarse, fine, unknown = (open_slide(tmp_path / "s.tif", mpp) for mpp in (4.0, 1.0, None))
    assert find_tissue(coarse, 1e6).shape == (1500, 2000)
    assert find_tissue(fine, 1e6).shape == (375, 500)
    hole = np.zeros((1500, 2000), bool)
    hole[650:850, 850:1150] = True
    assert covered(find_tissue(coarse, 1e6), hole) == 0
    with caplog.at_level("INFO"):
        assert covered(find_tissue(unknown, 1e6), hole) == 1
    assert "pixel size is not known, so that holes of any size count as tissue" in caplog.text


def test_plain_images_are_looked_at_whole(tmp_path):
    image = np.full((300, 400, 3), GLASS, np.uint8)
    plain, pyramid = slide_of(tmp_path / "a.tif", image, 1), slide_of(tmp_path / "b.tif", image, 2)
    assert choose_tissue(plain, None, "auto", 0) is None
    assert tissue_source(plain, None, "auto") == "whole image"
    assert not choose_tissue(pyramid, None, "auto", 0).any()
    assert tissue_source(pyramid, None, "auto") == "auto"
    assert tissue_source(plain, None, "none") == tissue_source(pyramid, None, "none") == "none"
    large = Slide("s", [Level(20_000, 6_000, 1.0)], None, None, "none")
    assert tissue_source(large, None, "auto") == "auto"


def test_no_gland_is_lost_on_real_tissue(real_data):
    """If these fields were searched, glands whose lumen is cut by the border would lose it."""
    table = pd.read_csv(real_data / "glas" / "samples.tsv", sep="\t")
    lost = {"searched": 0, "chosen": 0}
    for row in table.itertuples():
        slide = open_slide(real_data / "glas" / row.image, 0.62)
        gland = read_labels(real_data / "glas" / row.mask) > 0
        chosen = choose_tissue(slide, None, "auto", 4e6)
        everywhere = np.ones((1, 1), bool)
        for kind, mask in (("searched", find_tissue(slide, 4e6)), ("chosen", chosen)):
            seen = Coverage(everywhere if mask is None else mask, slide.width, slide.height).rows(0, slide.height)
            lost[kind] += int((gland & ~seen).sum())
    assert len(table) == 59
    assert lost["searched"] > 0
    assert lost["chosen"] == 0


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


def quality_mask(folder, name, labels):
    """Write labels as the programs do: 8 bits, and what is int8 to NumPy becomes 16 bits in Pillow."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if labels.dtype == np.int8:
        Image.fromarray(labels.astype(np.uint16)).save(folder / name)
    elif name.endswith("_mask_use.png"):
        skimage.io.imsave(folder / name, img_as_ubyte(labels > 0), check_contrast=False)
    else:
        cv2.imwrite(str(folder / name), labels)
    return folder / name


@pytest.mark.parametrize(
    ("name", "labels", "tissue"),
    [
        ("mask_qc/s.tif_mask.png", np.array([[0, 1, 2, 3], [4, 5, 6, 7], [7, 7, 1, 1]], np.uint8), (1,)),
        ("tis_det_mask/s.tif_MASK.png", np.array([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]], np.int8), (0,)),
        ("histoqc/s.tif_mask_use.png", np.array([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]], np.uint8), (1,)),
        ("mine/s_mask.png", np.array([[0, 1, 2, 3], [4, 5, 6, 7], [7, 7, 1, 1]], np.uint8), range(1, 8)),
    ],
    ids=["artefacts of GrandQC", "tissue of GrandQC", "HistoQC", "one's own"],
)
def test_masks_of_artefacts_are_taken_as_they_are(tmp_path, monkeypatch, name, labels, tissue):
    slide = slide_with(tmp_path, lambda image: None)
    path = quality_mask(tmp_path, name, labels)
    np.testing.assert_array_equal(read_tissue(path, slide), np.isin(labels, tissue))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_tissue(name, slide), np.isin(labels, tissue))


@pytest.mark.parametrize(
    ("name", "value"), [("mask_qc/s_mask.png", 8), ("tis_det_mask/s_MASK.png", 7), ("s_mask_use.png", 1)]
)
def test_a_value_that_the_program_does_not_write_is_refused(tmp_path, name, value):
    slide = slide_with(tmp_path, lambda image: None)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / name), np.full((15, 20), value, np.uint8))
    with pytest.raises(ImageError, match=f"which has the values .* but it has pixels of value {value}; give the file"):
        read_tissue(tmp_path / name, slide)
