import json
import shutil
import stat

import cv2
import numpy as np
import pytest
import tifffile
import write_viewer

from pathseg.images.pyramids import PyramidWriter
from workflow_conftest import write_slide


def test_the_page_can_be_written_from_a_read_only_installation(tmp_path, rng, monkeypatch):
    """Nobody but its owner may write into a shared installation, and pages are written by others."""
    installed = shutil.copytree(write_viewer.PAGE, tmp_path / "viewer")
    for path in [*installed.iterdir(), installed]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(write_viewer, "PAGE", installed)
    write_slide(tmp_path / "s.tif", rng.integers(0, 255, (200, 300, 3), dtype=np.uint8))
    with PyramidWriter(tmp_path / "classes.tif", 300, 200, 0.5, ["#999999", "#0072B2"]) as writer:
        writer.append(np.ones((200, 300), np.uint8))
    view = write_viewer.view_of(str(tmp_path / "s.tif"), 0.5, 0.5)
    classes = [{"name": name, "area_mm2": 0.0, "pixels": 0} for name in ("a", "b")]
    summary = {"slide": "s", "mpp": 0.5, "width": 300, "classes": classes}
    folder = tmp_path / "page"
    assert write_viewer.write_page(folder, view, str(tmp_path / "classes.tif"), summary, ["#999999", "#0072B2"], 1)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & stat.S_IWUSR, path
    assert {path.name for path in folder.iterdir()} >= {"index.html", "viewer.css", "viewer.js", "slide.js"}
    assert not list(folder.glob("package*"))
    assert tifffile.imread(tmp_path / "classes.tif").max() == 1


def test_a_slide_of_72_000_pixels_at_half_its_resolution(tmp_path, rng):
    """As 40x scans are; its finest pictures are wider than many functions of OpenCV take."""
    image = cv2.resize(rng.integers(0, 255, (3, 300, 3), dtype=np.uint8), (72_000, 520))
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb", compression="zlib")
    view = write_viewer.view_of(str(tmp_path / "s.tif"), 0.252, 0.5)
    with PyramidWriter(tmp_path / "classes.tif", 18_144, 131, 1.0, ["#999999", "#0072B2"]) as writer:
        writer.append(np.ones((131, 18_144), np.uint8))
    classes = [{"name": name, "area_mm2": 0.0, "pixels": 0} for name in ("a", "b")]
    summary = {"slide": "s", "mpp": 0.252, "width": 72_000, "classes": classes}
    folder = tmp_path / "page"
    write_viewer.write_page(folder, view, str(tmp_path / "classes.tif"), summary, ["#999999", "#0072B2"], 2)
    assert (view.width, view.height) == (36_288, 262)
    page = json.loads((folder / "slide.js").read_text().removeprefix("const SLIDE = ").removesuffix(";\n"))
    assert page["mpp"] == pytest.approx(0.5)
    last = cv2.imread(str(folder / "slide/16/70_0.jpg"))
    assert last.shape == (262, 36_288 - 70 * 512, 3)
    shown, expected = last[..., ::-1].mean((0, 1)), image[:, -len(last[0]) * 2 :].mean((0, 1))
    assert np.abs(shown - expected).max() < 2
