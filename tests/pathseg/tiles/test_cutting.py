import json
import shutil

import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import mapping
from skimage.measure import label
from train_unet import define_training

from conftest import CLASSES, ROOT, write_image
from pathseg.cohort.settings import load_schema, load_settings
from pathseg.errors import ImageError, ResolutionError
from pathseg.geometry import unet_output_size
from pathseg.images.slides import open_slide
from pathseg.labels.edges import gap_map
from pathseg.labels.insides import insides
from pathseg.labels.label_maps import check_instances
from pathseg.labels.values import IGNORE
from pathseg.scores.objects import connected
from pathseg.tiles import cutting as cutting_module
from pathseg.tiles.cutting import LabelSettings, TileSettings, build, cut, cut_all, in_order, open_source
from pathseg.tiles.database import TileDatabase

PLAIN = {"size": 32, "stride": 16, "mpp": None, "resize": 1.0, "pad": 0, "min_tissue": 0.0, "edge_sigma": None}


def write_sample(folder, image, mask):
    """Write an image and its mask, and return their row of the split table."""
    paths = {"image": folder / "i.png", "mask": folder / "m.png"}
    for key, pixels in (("image", image), ("mask", mask)):
        write_image(paths[key], pixels)
    return {"sample": "s", "patient": "p", "instances": None, "mpp": None} | {
        key: str(path) for key, path in paths.items()
    }


@pytest.fixture
def sample(tmp_path, rng):
    """An image of 70 x 50 random pixels with its mask, on the disk and as arrays."""
    image = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
    mask = (rng.random((50, 70)) > 0.5).astype(np.uint8) * 255
    return write_sample(tmp_path, image, mask), image, mask


def tiles_of(row, outside="ignore", **changes):
    """Return the source of an image and its images, masks and corners."""
    cutting = TileSettings(**PLAIN | changes)
    source = open_source(row, cutting, LabelSettings(CLASSES, None, outside))
    arrays, corners = cut(source, source.corners, cutting)
    return source, *arrays, corners


@pytest.mark.parametrize(("size", "stride"), [(32, 16), (32, 32), (16, 5), (64, 64)])
def test_every_pixel_is_in_a_tile_at_its_place(sample, size, stride):
    row, image, mask = sample
    source, images, masks, corners = tiles_of(row, size=size, stride=stride)
    rebuilt, rebuilt_mask = np.zeros((80, 80, 3), np.uint8), np.full((80, 80), 9, np.uint8)
    for tile, tile_mask, (x, y) in zip(images, masks, corners.astype(int), strict=True):
        rebuilt[y : y + size, x : x + size] = tile
        rebuilt_mask[y : y + size, x : x + size] = tile_mask
    np.testing.assert_array_equal(rebuilt[:50, :70], image)
    np.testing.assert_array_equal(rebuilt_mask[:50, :70], mask // 255)
    np.testing.assert_array_equal(source.pixels, [(mask == 0).sum(), (mask == 255).sum()])


def test_a_small_image_is_mirrored_and_the_rest_ignored(sample):
    row, image, _ = sample
    _, images, masks, _ = tiles_of(row, size=96, stride=96)
    assert images.shape == (1, 96, 96, 3)
    np.testing.assert_array_equal(images[0], np.pad(image, ((0, 46), (0, 26), (0, 0)), "reflect"))
    assert (masks[0] != IGNORE).sum() == 50 * 70
    assert (masks[0][:50, :70] != IGNORE).all()


def test_padding_is_mirrored_and_ignored(sample):
    row, image, _ = sample
    _, images, masks, corners = tiles_of(row, size=32, stride=32, pad=8)
    np.testing.assert_array_equal(corners[0], [-8, -8])
    np.testing.assert_array_equal(images[0], np.pad(image, ((8, 0), (8, 0), (0, 0)), "reflect")[:32, :32])
    assert (masks[0][:8] == IGNORE).all()
    assert (masks[0][8:, 8:] != IGNORE).all()


@pytest.mark.parametrize("side", [40, 140, 200])
def test_an_unpadded_network_sees_every_pixel(tmp_path, rng, side):
    """By the default border and stride, what it gives of the tiles covers the whole image."""
    row = write_sample(
        tmp_path, rng.integers(0, 255, (side, side, 3), dtype=np.uint8), np.zeros((side, side), np.uint8)
    )
    unet = {"depth": 4, "padding": False}
    schema = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")
    classes = [{"name": "a", "mask_value": 0}, {"name": "b", "mask_value": 255}]
    tiles = load_settings({"classes": classes, "tiles": {"size": 140, "resize": 1}, "unet": unet}, schema)["tiles"]
    _, _, masks, corners = tiles_of(row, **tiles)
    given = unet_output_size(140, 4, False)
    border = (140 - given) // 2
    seen = np.zeros((side + 400, side + 400), bool)
    for mask, (x, y) in zip(masks, corners.astype(int), strict=True):
        inside = np.s_[border : border + given, border : border + given]
        rows, columns = np.nonzero(mask[inside] != IGNORE)
        seen[rows + y + border, columns + x + border] = True
    assert seen.sum() == side**2


def test_resolution(sample):
    row = sample[0]
    assert tiles_of(row | {"mpp": 0.5}, mpp=1.0, resize=None, size=16, stride=16)[0].view.downsample == 2
    half, *_ = tiles_of(row, resize=0.5, size=16, stride=16)
    assert half.view.downsample == 2
    assert half.pixels.sum() == 25 * 35
    assert tiles_of(row, resize=2.0, size=64, stride=64)[0].pixels.sum() == 100 * 140
    with pytest.raises(ResolutionError, match=r"i\.png.*column `mpp`"):
        tiles_of(row, mpp=1.0, resize=None)


def test_tiles_without_tissue_are_left_out(tmp_path, tissue_field):
    image, epithelium = tissue_field[0].copy(), tissue_field[1].astype(np.uint8) * 255
    image[:, 128:] = 243
    row = write_sample(tmp_path, image, epithelium)
    _, images, _, corners = tiles_of(row, size=64, stride=64, min_tissue=0.5)
    assert len(images) == 6
    assert (corners[:, 0] < 128).all()


def test_a_mask_of_another_size_is_refused(sample, tmp_path):
    write_image(tmp_path / "m.png", np.zeros((50, 60), np.uint8))
    with pytest.raises(ImageError, match=r"m\.png: has 60 x 50 pixels, but its image .*i\.png has 70 x 50"):
        tiles_of(sample[0])


@pytest.mark.parametrize(("outside", "known"), [("ignore", 4), ("background", 0)])
def test_annotations_are_cut_where_something_is_known(sample, tmp_path, outside, known):
    """A tumour of 20 x 20 pixels with a hole, and a smaller region of stroma on top of it."""
    row, image, _ = sample
    polygons = {
        "epithelium": shapely.box(4, 4, 24, 24) - shapely.box(6, 6, 8, 8),
        "stroma": shapely.box(10, 10, 14, 14),
    }
    features = [
        {"geometry": mapping(polygon), "properties": {"classification": {"name": name}}}
        for name, polygon in polygons.items()
    ]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    row = row | {"mask": str(tmp_path / "m.geojson")}
    source, images, masks, corners = tiles_of(row, outside, size=16, stride=16)
    assert len(corners) == (known or 20)
    inside = int((masks == 1).sum())
    assert source.pixels[1] >= 400 - 4 - 16
    whole = np.full((50, 70), IGNORE if outside == "ignore" else 0, np.uint8)
    whole[4:24, 4:24] = 1
    whole[6:8, 6:8] = IGNORE if outside == "ignore" else 0
    whole[10:14, 10:14] = 0
    for tile, mask, (x, y) in zip(images, masks, corners.astype(int), strict=True):
        np.testing.assert_array_equal(tile, image[y : y + 16, x : x + 16])
        np.testing.assert_array_equal(mask, whole[y : y + 16, x : x + 16])
    assert inside == source.pixels[1] == 400 - 4 - 16


def test_annotations_of_another_slide_or_class_are_refused(sample, tmp_path):
    row = sample[0] | {"mask": str(tmp_path / "m.geojson")}
    for polygon, name, words in [
        (shapely.box(100, 100, 120, 120), "stroma", "outside of"),
        (shapely.box(1, 1, 9, 9), "nerve", "class 'nerve'.*stroma, epithelium"),
        (shapely.box(1, 1, 9, 9), None, "without class"),
    ]:
        feature = {"geometry": mapping(polygon), "properties": {"classification": {"name": name}}}
        (tmp_path / "m.geojson").write_text(json.dumps([feature]))
        with pytest.raises(ImageError, match=rf"m\.geojson.*{words}"):
            tiles_of(row)


def test_results_come_in_order_and_not_far_ahead():
    started = []

    def work(number):
        started.append(number)
        return number * number

    results = in_order(work, range(50), threads=2)
    assert next(results) == 0
    assert len(started) <= 6
    assert list(results) == [n * n for n in range(1, 50)]


@pytest.mark.parametrize("with_instances", [False, True])
def test_stored_edges_do_not_know_of_tiles(tmp_path, with_instances):
    """The gaps of each tile are those of the whole image; objects that touch have one only if they are numbered."""
    numbers = np.zeros((60, 90), np.uint8)
    for number, (y, x) in enumerate([(5, 5), (5, 22), (24, 14), (24, 30), (40, 60)], start=1):
        numbers[y : y + 15, x : x + 14] = number
    row = write_sample(tmp_path, np.full((60, 90, 3), 200, np.uint8), (numbers > 0).astype(np.uint8) * 255)
    expected = gap_map(connected((numbers > 0).astype(np.uint8)), 3)
    if with_instances:
        row["instances"] = str(write_image(tmp_path / "n.png", numbers))
        expected = gap_map(numbers, 3)
    _, _, _, edges, corners = tiles_of(row, edge_sigma=3.0)
    assert edges.max() > 100
    for tile, (x, y) in zip(edges, corners.astype(int), strict=True):
        inside = expected[y : y + 32, x : x + 32]
        np.testing.assert_array_equal(tile[: inside.shape[0], : inside.shape[1]], inside)


SWAPPED = [class_ | {"mask_value": 255 - class_["mask_value"]} for class_ in CLASSES]


def definition_of(path, row, labelling=None, **cutting):
    """Build a database, and return what tells the training on it from others."""
    labelling = {"classes": CLASSES, "ignore_value": None, "outside": "ignore"} | (labelling or {})
    cutting = TileSettings(**PLAIN | {"edge_sigma": 5.0} | cutting)
    build(path, [row], cutting, LabelSettings(**labelling), {"complib": "none", "complevel": 1}, threads=1)
    with TileDatabase(path) as database:
        return define_training({}, {}, [database], "code", None)


@pytest.fixture
def numbered(sample, tmp_path):
    """A sample with numbered objects, and another numbering of them."""
    row, _, mask = sample
    objects = connected((mask > 0).astype(np.uint8))
    for name, numbers in (("one", objects), ("other", (mask > 0) * (1 + (np.arange(70) > 40)))):
        write_image(tmp_path / f"{name}.png", numbers.astype(np.uint16))
    return row | {"instances": str(tmp_path / "one.png")}


@pytest.mark.parametrize(
    "change",
    [
        {"labelling": {"classes": SWAPPED}},
        {"labelling": {"ignore_value": 7}},
        {"labelling": {"outside": "background"}},
        {"labelling": {"objects": {"classes": ["epithelium"], "shrink": 3}}},
        {"min_tissue": 0.001},
        {"stride": 8},
        {"pad": 4},
        {"size": 16},
        {"resize": 0.9},
        {"edge_sigma": 4.0},
    ],
    ids=str,
)
def test_a_training_on_other_data_starts_anew(numbered, tmp_path, change):
    """A killed training goes on only if each key by which tiles and masks are made is the same."""
    # Numbers of objects fit one meaning of the mask only.
    row = numbered | ({"instances": None} if "labelling" in change else {})
    before, same = (definition_of(tmp_path / f"{name}.h5", row) for name in ("before", "same"))
    after = definition_of(tmp_path / "after.h5", row, **change)
    assert before == same
    assert {key for key in before if before[key] != after[key]} == {"data"}


@pytest.mark.parametrize("changed", ["mask", "instances", "image"])
def test_a_training_on_other_files_starts_anew(numbered, tmp_path, changed):
    if changed == "mask":
        # Its numbers of objects would not fit another.
        numbered["instances"] = None
    before = definition_of(tmp_path / "before.h5", numbered)
    if changed == "instances":
        row = numbered | {"instances": str(tmp_path / "other.png")}
    else:
        row = numbered | {changed: str(tmp_path / "changed.png")}
        pixels = cv2.imread(numbered[changed], cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(row[changed], pixels[::-1])
    assert definition_of(tmp_path / "after.h5", row)["data"] != before["data"]


def test_a_moved_or_renamed_sample_is_the_same_training(numbered, tmp_path):
    before = definition_of(tmp_path / "before.h5", numbered)
    (tmp_path / "elsewhere").mkdir()
    moved = numbered | {"sample": "renamed", "image": str(tmp_path / "elsewhere/i.png")}
    shutil.copy(numbered["image"], moved["image"])
    assert definition_of(tmp_path / "after.h5", moved) == before


def u_shaped(shape):
    """Return a mask with a gland bent to a U, whose arms are near each other, and a gland beside it."""
    mask = np.zeros(shape, np.uint8)
    mask[10:90, 10:18] = mask[10:90, 22:30] = mask[82:90, 10:30] = 255
    mask[10:90, 34:42] = 255
    return mask


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("stride", [32, 13])
def test_the_arms_of_one_gland_have_no_gap_in_any_tile(tmp_path, annotated, stride):
    """A tile that has both arms without what joins them weighs each pixel as the whole image does."""
    mask = u_shaped((100, 60))
    row = write_sample(tmp_path, np.full((100, 60, 3), 200, np.uint8), mask)
    if annotated:
        # Two annotations that touch are one gland, a third is another.
        bent = shapely.box(10, 10, 18, 90) | shapely.box(10, 82, 30, 90), shapely.box(22, 10, 30, 82)
        features = [
            {"geometry": mapping(polygon), "properties": {"classification": {"name": "epithelium"}}}
            for polygon in (*bent, shapely.box(34, 10, 42, 90))
        ]
        (tmp_path / "m.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        row["mask"] = str(tmp_path / "m.geojson")
    expected = gap_map(connected(mask > 0), 3)
    # Between the gland and the other, not between the arms.
    assert expected[20:70, 31:33].min() > 50
    assert expected[20:70, 18:22].max() < 5
    _, _, masks, edges, corners = tiles_of(row, "background", size=32, stride=stride, edge_sigma=3.0)
    for tile, edge, (x, y) in zip(masks, edges, corners.astype(int), strict=True):
        inside = slice(y, y + 32), slice(x, x + 32)
        height, width = expected[inside].shape
        np.testing.assert_array_equal(edge[:height, :width], expected[inside])
        np.testing.assert_array_equal(tile[:height, :width], mask[inside] // 255)


def test_annotated_objects_do_without_annotations(tmp_path):
    row = write_sample(tmp_path, np.full((50, 60, 3), 200, np.uint8), np.zeros((50, 60), np.uint8))
    (tmp_path / "m.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    _, _, _, edges, _ = tiles_of(row | {"mask": str(tmp_path / "m.geojson")}, "background", edge_sigma=3.0)
    assert not edges.any()


@pytest.mark.parametrize(("shift", "fits"), [(0, True), (1, False), (30, False)])
def test_numbers_that_do_not_fit_the_mask_are_refused(tmp_path, shift, fits):
    mask = u_shaped((100, 60))
    row = write_sample(tmp_path, np.full((100, 60, 3), 200, np.uint8), mask)
    numbers = np.roll(cv2.connectedComponents(mask)[1].astype(np.uint8), shift, axis=1)
    row["instances"] = str(write_image(tmp_path / "n.png", numbers))
    if fits:
        assert tiles_of(row, edge_sigma=3.0)[3].any()
        return
    with pytest.raises(ImageError, match=r"n\.png: does not fit its mask .*m\.png: .* have no number"):
        tiles_of(row, edge_sigma=3.0)


@pytest.mark.parametrize(("parts", "refused"), [(1, False), (2, False), (3, True)])
def test_an_object_may_be_torn_in_two_and_no_mask_is_an_image_of_numbers(parts, refused):
    mask = np.zeros((30, 90), np.uint8)
    mask[0, 80:82] = 1  # a speck, which is no part
    for part in range(parts):
        mask[5:20, 20 * part : 20 * part + 15] = 1
    if refused:
        with pytest.raises(ImageError, match="gives 3 separate parts one number, 7"):
            check_instances("n.png", "m.png", mask * 7, mask)
    else:
        check_instances("n.png", "m.png", mask * 7, mask)
    mask[5:20, 60:75] = 1
    numbers = mask * 7
    numbers[5:20, 60:75] = 9
    check_instances("n.png", "m.png", numbers, mask)


class TestAhead:
    """How many images are opened before the first is cut."""

    def opened_after_the_first(self, n_bytes, threads=8, count=40):
        opened = []

        def open_one(number):
            opened.append(number)
            return number

        results = in_order(open_one, range(count), threads, lambda _: n_bytes)
        assert next(results) == 0
        first = len(opened)
        assert next(results) == 1
        second = len(opened)
        assert list(results) == list(range(2, count))
        return first, second

    def test_large_images_are_opened_one_ahead(self):
        first, second = self.opened_after_the_first(2**30)
        assert first <= 2
        assert second <= 3

    def test_small_images_are_opened_while_there_are_threads(self):
        first, second = self.opened_after_the_first(2**20)
        assert first <= 2
        assert 8 < second <= 18

    def test_images_of_a_part_are_opened_so(self, tmp_path, rng, monkeypatch):
        """Through what the rule calls, with images that are large for what is allowed."""
        monkeypatch.setattr(cutting_module, "BYTES_AHEAD", 1)
        opened = []
        monkeypatch.setattr(cutting_module, "open_slide", lambda *given: opened.append(given[0]) or open_slide(*given))
        image, mask = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8), np.zeros((40, 40), np.uint8)
        rows = []
        for number in range(8):
            (tmp_path / str(number)).mkdir()
            rows.append(write_sample(tmp_path / str(number), image, mask))
        cuts = cut_all(rows, TileSettings(**PLAIN), LabelSettings(CLASSES, None, "ignore"), 8)
        for done, _ in enumerate(cuts, start=1):
            assert len(opened) <= done + 1
        assert len(opened) == len(rows)


@pytest.mark.parametrize("with_numbers", [True, False])
def test_stored_insides_do_not_know_of_tiles(tmp_path, rng, with_numbers):
    """Four glands of a cross that touch, of a class beside another one; some of it is ignored."""
    mask = np.zeros((96, 96), np.uint8)
    mask[8:88, 8:88], mask[60:70, 60:70], mask[90:96] = 255, 100, 50
    row = write_sample(tmp_path, rng.integers(0, 255, (96, 96, 3), dtype=np.uint8), mask)
    numbers = np.where(mask == 255, 1, 0).astype(np.uint8)
    if with_numbers:
        numbers[8:88, 48:88] *= 2
        numbers[48:88, 8:88] *= 3
        row["instances"] = str(write_image(tmp_path / "n.png", numbers))
    classes = [*CLASSES, {"name": "lumen", "mask_value": 100}]
    labelling = LabelSettings(classes, 50, "ignore", {"classes": ["epithelium"], "shrink": 3})
    whole = insides(numbers.astype(int), np.select([mask == 50, mask == 255], [IGNORE, 1], 0), [1], 3)
    assert label(whole == 1).max() == (4 if with_numbers else 1)
    cutting = TileSettings(**PLAIN)
    source = open_source(row, cutting, labelling)
    arrays, corners = cut(source, source.corners, cutting)
    for tile, (x, y) in zip(arrays[-1], corners.astype(int), strict=True):
        np.testing.assert_array_equal(tile, whole[y : y + 32, x : x + 32])
    build(tmp_path / "x.h5", [row], cutting, labelling, {"complib": "none", "complevel": 1}, threads=1)
    with TileDatabase(tmp_path / "x.h5") as database:
        assert database.attributes["objects"] == {"classes": ["epithelium"], "shrink": 3}
        np.testing.assert_array_equal(database.read("inside", np.arange(len(corners))), arrays[-1])
