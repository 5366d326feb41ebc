"""A pixel has one value: on pyramids as scanners write them, whatever rectangle is read, trained on or predicted."""

import json
from contextlib import suppress

import numpy as np
import openslide
import pytest
import shapely
import torch
from dicom_files import read_dicom
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scanner_files import Layout, smooth_picture, write_scan
from shapely.geometry import mapping

from conftest import CLASSES, undecided_unet
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.prediction.inference import Predictor, _Tile, predict_bands
from pathseg.tiles.cutting import LabelSettings, TileSettings, cut, open_source

CPU = torch.device("cpu")
MPP = 0.25
PREDICTOR = Predictor([undecided_unet(smooth_picture(128, 128), depth=3, wf=1)], CPU, torch.float32)


@pytest.fixture(autouse=True)
def one_thread():
    """Small tiles wait for threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@st.composite
def layouts(draw):
    """Draw how a scan is written: what scanners and converters do, and what they do not mix."""
    kind = draw(st.sampled_from(["svs", "classic", "bigtiff", "ome", "ome channels", "stripped", "dicom"]))
    coders = ["jpeg", "jpeg", "jpeg2000", "none"] if kind == "dicom" else ["zlib"]
    if kind in ("svs", "classic", "bigtiff", "ome"):
        coders = ["jpeg", "jpeg", "zlib", "none", *(["jpeg2000", "jpeg2000 ycbcr"] if kind == "svs" else [])]
    factors = draw(st.sampled_from([(), (2,), (4,), (2, 4), (4, 16), (2, 8), (8,), (4, 8), (3,)]))
    return Layout(kind, draw(st.sampled_from(coders)), draw(st.sampled_from([240, 256, 512])), factors)


def scan_of(folder, layout, size, seed):
    """Write a scan of waves and grain."""
    grain = np.random.default_rng(seed).normal(0, 12, (*size, 3))
    picture = (smooth_picture(*size) + grain).clip(0, 255).astype(np.uint8)
    return write_scan(folder / "scan.tif", picture, layout, MPP)


def predicted(view, tile):
    """Predict a view as slides are predicted: classes uint8 [H, W], and 255 times their probability [C, H, W]."""
    bands = list(predict_bands(view, PREDICTOR, tile, None))
    return np.concatenate([b.classes for b in bands]), np.concatenate([b.probabilities for b in bands], axis=1)


def check_same_map(one, other):
    """Classes are the same to the pixel, but for those between which the network is undecided to the last digit."""
    assert np.abs(one[1].astype(int) - other[1]).max() <= 1
    undecided = np.abs(one[1].astype(int) - 127.5).max(axis=0) <= 1
    different = one[0] != other[0]
    assert not (different & ~undecided).any()
    assert different.sum() <= 3


def check_one_value(folder, layout, size, mpp, tiles, corner, seed):
    """Any tile gives the same class map, and a training tile has the pixels that prediction sees there."""
    path = scan_of(folder, layout, size, seed)
    slide = open_slide(path)
    view = ResampledSlide(slide, mpp / MPP)
    whole = view.read(0, 0, view.width, view.height)
    automatic = predicted(view, None)
    assert 0.05 < automatic[0].mean() < 0.95
    for tile in tiles:
        check_same_map(automatic, predicted(view, tile))
    x, y = (int(share * (side - 1)) for share, side in zip(corner, (view.width, view.height), strict=True))
    seen = PREDICTOR.read(view, _Tile(x, y, 48, 48))[PREDICTOR.border :, PREDICTOR.border :][:48, :48]
    inside = whole[y : y + 48, x : x + 48]
    np.testing.assert_array_equal(seen[: inside.shape[0], : inside.shape[1]], inside)
    check_training_tiles(folder, path, mpp, whole)
    if layout.kind == "dicom":
        for number, image in enumerate(read_dicom(path.parent)):
            check_agree(slide, number, image)
    elif layout.kind != "ome channels":  # of which OpenSlide sees the first
        # Of plain tiles of 240 libtiff says that their bytes are not as many as it expects.
        refused = layout.kind in ("ome", "stripped") or (layout.compression, layout.tile) == ("none", 240)
        assert check_openslide_agrees(path, slide) or refused


def check_training_tiles(folder, path, mpp, whole):
    """The tiles of a database are cut out of what prediction sees."""
    everywhere = {"type": "Feature", "geometry": mapping(shapely.box(0, 0, 10_000, 10_000))}
    everywhere["properties"] = {"classification": {"name": "stroma"}}
    (folder / "all.geojson").write_text(json.dumps([everywhere]))
    row = {"image": str(path), "mask": str(folder / "all.geojson"), "instances": None, "mpp": MPP}
    cutting = TileSettings(size=64, stride=61, mpp=mpp, resize=None, pad=0, min_tissue=0.0, edge_sigma=None)
    source = open_source(row, cutting, LabelSettings(CLASSES, None, "ignore"))
    (images, *_), corners = cut(source, source.corners, cutting)
    assert len(images)
    for image, (x, y) in zip(images, np.round(corners / source.view.downsample).astype(int), strict=True):
        inside = whole[y : y + 64, x : x + 64]
        np.testing.assert_array_equal(image[: inside.shape[0], : inside.shape[1]], inside)


def check_openslide_agrees(path, slide):
    """Where OpenSlide reads the file too and need not interpolate, both see the same but for two grey levels.

    Returns the number of levels that were compared.
    """
    compared = 0
    with suppress(openslide.OpenSlideError):  # which it does not, or not without an error
        handle = openslide.OpenSlide(path)
        for number, level in enumerate(slide.levels):
            if (level.width, level.height) not in handle.level_dimensions:
                continue
            other = handle.level_dimensions.index((level.width, level.height))
            check_agree(slide, number, np.asarray(handle.read_region((0, 0), other, (level.width, level.height))))
            compared += 1
    return compared


def check_agree(slide, number, other):
    """A level is what another reader sees, uint8 [H, W, 3 or 4], but for what JPEG decoders differ by."""
    level = slide.levels[number]
    assert other.shape[:2] == (level.height, level.width)
    difference = np.abs(slide.read_level(number, 0, 0, level.width, level.height).astype(int) - other[..., :3])
    assert difference.max() <= 2


DRAW = (Phase.explicit, Phase.reuse, Phase.generate)
DRAWN = {
    "layout": layouts(),
    "size": st.tuples(st.integers(250, 530), st.integers(250, 530)),
    "mpp": st.floats(0.11, 1.1),
    "tiles": st.lists(st.integers(40, 300), min_size=1, max_size=2),
    "corner": st.tuples(st.floats(0, 1), st.floats(0, 1)),
    "seed": st.integers(0, 2**16),
}


# Making a failing case smaller takes minutes and says little.
@settings(max_examples=12, deadline=None, phases=DRAW)
@given(**DRAWN)
def test_a_pixel_has_one_value(tmp_path_factory, **drawn):
    check_one_value(tmp_path_factory.mktemp("scan"), **drawn)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@settings(max_examples=250, deadline=None, phases=DRAW)
@given(**DRAWN)
def test_a_pixel_has_one_value_on_many_pyramids(tmp_path_factory, **drawn):
    check_one_value(tmp_path_factory.mktemp("scan"), **drawn)


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_the_tile_changes_no_class_on_an_aperio_scan(tmp_path, compression):
    """The case of the outside review: levels of floor(side / 4), a model of 1.1 µm on a scan of 0.25."""
    layout = Layout("svs", compression, 240, (4,))
    check_one_value(tmp_path, layout, (803, 1201), 1.1, [64, 100], (0.4, 0.6), 1)


@pytest.mark.parametrize(("compression", "tile"), [("jpeg", 240), ("none", 256), ("jpeg2000", 512)])
def test_the_tile_changes_no_class_on_dicom(tmp_path, compression, tile):
    """Which tifffile does not read: its pixels are those of OpenSlide's blocks."""
    layout = Layout("dicom", compression, tile, (2, 8))
    check_one_value(tmp_path, layout, (803, 1201), 1.1, [64, 100], (0.4, 0.6), 1)
