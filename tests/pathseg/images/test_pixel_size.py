"""Which pixel size is believed: the file's own, the table's, or none."""

import cv2
import numpy as np
import pytest
import tifffile

from pathseg.errors import ResolutionError
from pathseg.images.slides import choose_mpp, open_slide

PIXELS = np.full((64, 80, 3), 200, np.uint8)


def write(path, per_cm=(20_000, 20_000), **options):
    tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER", **options)
    return path


@pytest.mark.parametrize("tiled", [{}, {"tile": (64, 64)}], ids=["stripped", "tiled"])
@pytest.mark.parametrize("dpi", [72, 96, 300, 600, 1200, 2400])
def test_what_printers_and_screens_do_is_no_pixel_size(tmp_path, dpi, tiled):
    """2400 dpi are 10.6 µm."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH", **tiled)
    slide = open_slide(path)
    assert (slide.mpp, slide.mpp_source) == (None, "unknown")
    with pytest.raises(ResolutionError, match="x.tif.*column `mpp`"):
        choose_mpp(slide)
    slide = open_slide(path, 0.25)
    assert (slide.mpp, slide.mpp_source, choose_mpp(slide)) == (0.25, "table", 0.25)


@pytest.mark.parametrize("given", [0.25, 0.47, 0.53, 1.0])
def test_file_and_table_that_differ_are_both_named(tmp_path, given):
    with pytest.raises(ResolutionError, match=f"x.tif: the file says 0.5 µm per pixel, the column `mpp`.*{given:g};"):
        open_slide(write(tmp_path / "x.tif"), given)


@pytest.mark.parametrize("given", [None, 0.48, 0.5, 0.52])
def test_the_file_comes_first_if_they_agree(tmp_path, given):
    slide = open_slide(write(tmp_path / "x.tif"), given)
    assert (slide.mpp, slide.mpp_source) == (0.5, "file")


@pytest.mark.parametrize("options", [{}, {"tile": (64, 64)}, {"ome": True}], ids=["stripped", "tiled", "OME"])
def test_pixels_that_are_not_square_are_refused(tmp_path, options):
    if "ome" in options:
        options = options | {"metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "axes": "YXS"}}
    with pytest.raises(ResolutionError, match="x.tif: has pixels of 0.5 x 0.25 µm"):
        open_slide(write(tmp_path / "x.tif", (20_000, 40_000), **options))


def test_a_hundredth_is_square(tmp_path):
    assert open_slide(write(tmp_path / "x.tif", (20_000, 19_800))).mpp == pytest.approx(0.5025, abs=1e-4)


def test_an_image_without_a_pixel_size_takes_the_tables(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), PIXELS)
    assert open_slide(tmp_path / "x.png", 0.3).mpp == 0.3
