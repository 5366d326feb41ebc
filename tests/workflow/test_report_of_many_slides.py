"""The report of many slides: a browser must open it."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
import yaml

from conftest import CLASSES, small_unet
from workflow_conftest import copy_workflow

MODEL_CONFIG = {
    "classes": [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}],
    "tiles": {"mpp": 1.0},
    "model": "m.pt",
    "slides": "scans/*.tif",
}


def predicted(folder, count):
    """Make what is there when so many slides have been predicted; the overlays are as large as those of real slides."""
    workflow = copy_workflow(folder)
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES, "mpp": 1.0}
    torch.save(content, workflow.folder / "m.pt")
    (workflow.folder / "config" / "config.yaml").write_text(yaml.safe_dump(MODEL_CONFIG))
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1400, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "overlay.jpg"), cv2.GaussianBlur(noise, (0, 0), 1.1), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert 400_000 < (folder / "overlay.jpg").stat().st_size < 700_000
    (folder / "scans").mkdir()
    for number in range(count):
        name = f"S{number:04d}"
        (folder / "scans" / f"{name}.tif").touch()
    for number in range(count):
        made = folder / "results/slides/model-m" / f"S{number:04d}"
        made.mkdir(parents=True)
        (made / "overlay.jpg").hardlink_to(folder / "overlay.jpg")
        for file in ("classes.tif", "annotations.geojson.gz"):
            (made / file).touch()
        class_ = {"pixels": 10**6, "area_mm2": 1.0, "share_of_tissue": 0.5, "mean_probability": 0.9, "regions": 12}
        summary = {"slide": made.name, "file": f"scans/{made.name}.tif", "mpp": 0.5, "mpp_source": "file"}
        summary |= {
            "model_mpp": 1.0,
            "tissue_share": 0.5,
            "tissue_mm2": 2.0,
            "seconds": 60.0,
            "models": [{"file": "m.pt"}],
        }
        summary["classes"] = [{"name": name} | class_ for name in ("stroma", "epithelium")]
        (made / "summary.json").write_text(json.dumps(summary))
    # All overlays are this one file: newer than the slides.
    (folder / "overlay.jpg").touch()
    return workflow


@pytest.mark.parametrize("count", [40])
def test_many_slides_are_a_sheet_of_small_pictures(tmp_path, count):
    workflow = predicted(tmp_path / "p", count)
    workflow.snakemake(
        "results/slides/model-m/summary.html", "--rerun-triggers", "mtime", "--allowed-rules", "summarize_slides"
    )
    page = (workflow.folder / "results/slides/model-m/summary.html").read_text()
    assert len(re.findall("<figcaption>S[0-9]{4}</figcaption>", page)) == count
    assert page.count("data:image/jpeg;base64,") == count
    workflow.snakemake("results/slides/model-m/summary.html", "--report", "report.html")
    report = workflow.folder / "report.html"
    # 50 MB for a thousand slides; with the overlays it would be 700.
    assert report.stat().st_size < 5e6 + 45e3 * count
