"""`snakemake export`: what it writes is run by the engines of other programs and gives the delivered class map."""

import json
import zipfile
from urllib.parse import unquote, urlparse

import numpy as np
import onnxruntime
import pytest
import tifffile

from as_qupath import classify_as_qupath
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide


def test_an_exported_model_gives_the_delivered_class_map(project):
    project.configure(prediction={"tissue": "none", "precision": "float32"}, export={"tile": 64})
    project.snakemake("export", "results/slides/default/slide 0/classes.tif")
    folder = project.folder / "results/export/default/holdout"
    record = json.loads((folder / "export.json").read_text())
    assert record["largest_difference"] < 1e-4
    with zipfile.ZipFile(folder / "bioimageio.zip") as package:
        card = (project.folder / "results/models/default/holdout/model_card.md").read_bytes()
        assert card in package.read("documentation.md")
        assert package.read("model.onnx") == (folder / "model_any_size.onnx").read_bytes()
    delivered = tifffile.imread(project.folder / "results/slides/default/slide 0/classes.tif", level=0)
    view = ResampledSlide(open_slide(project.folder / "data/slide 0.tif"), 2.0)
    image = view.read(0, 0, view.width, view.height)

    classifier = json.loads((folder / "pixel_classifier.json").read_text())
    model = classifier["op"]["op"]["ops"][0]["model"]
    assert unquote(urlparse(model["pathModel"]).path) == str(folder / "model.onnx")
    model["pathModel"] = f"file:{folder}/model.onnx"
    border = record["border"]
    # Whole tiles alone: QuPath shifts those that are short, and this network has hardly learned anything yet.
    inner = tuple(slice(border, side // 64 * 64) for side in delivered.shape)
    assert (classify_as_qupath(classifier, image)[inner] == delivered[inner]).mean() > 0.999

    rows, columns = (side // record["stride"] * record["stride"] for side in image.shape[:2])
    pixels = image[:rows, :columns].transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "model_any_size.onnx")
    (found,) = session.run(None, {"image": pixels})
    inner = np.s_[border : rows - border, border : columns - border]
    assert (found[0].argmax(0)[inner] == delivered[inner]).mean() > 0.999


def test_a_given_model_is_exported_without_data(finished, project):
    (project.folder / "best.pt").write_bytes((project.folder / "results/models/default/holdout/best.pt").read_bytes())
    project.snakemake("export", "--config", "model=best.pt", "--configfile", "config/config.yaml")
    assert (project.folder / "results/export/model-best/all_folds/model.onnx").is_file()
    assert (project.folder / "results/export/model-best/all_folds/bioimageio.zip").is_file()


@pytest.mark.slow
def test_an_unpadded_network_is_exported_for_others_than_qupath(project):
    project.configure(unet={"padding": False, "depth": 2}, training={"epochs": 1})
    project.snakemake("export")
    folder = project.folder / "results/export/default/holdout"
    assert "without padding" in json.loads((folder / "pixel_classifier.json").read_text())["pathseg"]
    assert json.loads((folder / "export.json").read_text())["largest_difference"] < 1e-4
