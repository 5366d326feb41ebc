"""A slide of which only a part was scanned is, to all that reads it, that part alone, as in QuPath."""

import json

import numpy as np
import openslide
import pytest
import shapely
import torch
import write_viewer
from scanner_files import Layout, smooth_picture, write_scan
from shapely.geometry import mapping

from conftest import CLASSES, undecided_unet
from pathseg.images.slides import open_slide
from pathseg.prediction.answers import Answer
from pathseg.prediction.inference import Predictor
from pathseg.prediction.outputs import write_outputs
from pathseg.prediction.slides import predict
from pathseg.tiles.cutting import LabelSettings, TileSettings, cut, open_source

X, Y, WIDTH, HEIGHT = 640, 360, 800, 600
COLORS = [class_["color"] for class_ in CLASSES]


@pytest.fixture
def slides(tmp_path, monkeypatch):
    """Paths of a scan with bounds, and of a file that holds what is within them and nothing else."""

    class WithBounds(openslide.OpenSlide):
        """OpenSlide, as if a file that is named as one were of a scanner that says its bounds."""

        @classmethod
        def detect_format(cls, filename):
            return "mirax" if "bounds" in str(filename) else openslide.lowlevel.detect_vendor(filename)

        @property
        def properties(self):
            said = {"x": X, "y": Y, "width": WIDTH, "height": HEIGHT}
            return (
                dict(super().properties)
                | {"openslide.vendor": "mirax"}
                | {f"openslide.bounds-{name}": str(number) for name, number in said.items()}
            )

    canvas = smooth_picture(1200, 1600)
    canvas[500:700, 800:1100] //= 3
    layout = Layout("classic", "zlib", 256, (4,))
    scan = write_scan(tmp_path / "bounds.tif", canvas, layout, 0.25)
    part = write_scan(tmp_path / "part.tif", canvas[Y : Y + HEIGHT, X : X + WIDTH], layout, 0.25)
    monkeypatch.setattr(openslide, "OpenSlide", WithBounds)
    return scan, part


def test_the_scan_is_larger_than_what_is_read(slides):
    scan, part = (open_slide(path) for path in slides)
    assert openslide.open_slide(slides[0]).dimensions == (1600, 1200)
    assert (scan.width, scan.height) == (part.width, part.height) == (WIDTH, HEIGHT)


def test_tiles_to_train_on(slides, tmp_path):
    """Annotations are relative to the bounds."""
    square = shapely.box(800 - X, 500 - Y, 1100 - X, 700 - Y)
    feature = {"type": "Feature", "geometry": mapping(square), "properties": {"classification": {"name": "epithelium"}}}
    (tmp_path / "a.geojson").write_text(json.dumps([feature]))
    cutting = TileSettings(size=64, stride=32, mpp=1.0, resize=None, pad=0, min_tissue=0.0, edge_sigma=None)
    found = []
    for path in slides:
        row = {"image": str(path), "mask": str(tmp_path / "a.geojson"), "instances": None, "mpp": None}
        source = open_source(row, cutting, LabelSettings(CLASSES, None, "background"))
        (images, masks), corners = cut(source, source.corners, cutting)
        found.append((images, masks, corners))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    images, masks, _ = found[0]
    assert images[masks == 1].mean() < 0.5 * images[masks == 0].mean(), "the annotation lies beside the dark square"


def test_class_map_outlines_and_viewer(slides, tmp_path):
    model = {"mpp": 1.0, "resize": None, "classes": CLASSES}
    predictor = Predictor([undecided_unet(smooth_picture(128, 128))], torch.device("cpu"), torch.float32)
    settings = {
        "tile": None,
        "tissue": "auto",
        "tissue_holes_um2": 4e6,
        "min_area_um2": 0,
        "objects": "annotation",
        "split_um": None,
    }
    found = []
    for path in slides:
        folder = tmp_path / path.stem
        folder.mkdir()
        answer = {name: tmp_path / f"{path.stem}.{name}" for name in ("classes", "confidence", "picture", "about")}
        row = {"slide": "s", "tissue": None}
        about = predict(open_slide(path), row, [model], predictor, settings, answer)
        answer["about"].write_text(json.dumps(about | {"seconds": 0.0}))
        paths = {name: folder / name for name in ("classes", "annotations", "overlay.jpg", "summary")}
        paths["overlay"] = paths.pop("overlay.jpg")
        outputs = {name: str(path) for name, path in paths.items()}
        summary = write_outputs(Answer(answer), "e/s", CLASSES, settings, None, outputs, 2)
        paths["summary"].unlink()
        view = write_viewer.view_of(str(path), summary["mpp"], 0.5)
        write_viewer.write_page(folder / "page", view, str(paths["classes"]), summary, COLORS, 1)
        found.append({str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()})
        assert about["origin"] == ((X, Y) if path is slides[0] else (0, 0))
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []
    assert any(name.startswith("page/slide/") for name in found[0])
    assert summary["classes"][1]["regions"] > 0
