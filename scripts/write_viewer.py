"""Write a page on which a person pans and zooms a slide with the predicted classes laid over it.

Outputs
-------
page : folder
    `index.html`, tiles of the slide (JPEG) and of each class but the first (PNG of one colour), and `slide.js`, which
    says what they are. Any browser opens it from the disk; OpenSeadragon lies three folders above.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pathseg.colors import colors_of
from pathseg.files import atomic_path
from pathseg.images.deepzoom import TILE, TileFolder, as_jpeg, as_layer
from pathseg.images.pyramids import strips_of
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.logs import progress, start_log
from pathseg.prediction.summaries import read_summary

PAGE = Path(__file__).parent / "viewer"
FILES = ("index.html", "viewer.css", "viewer.js")


def view_of(path: str, slide_mpp: float | None, mpp: float | None) -> ResampledSlide:
    """Return a slide at `mpp` µm per pixel, or as it is if it is coarser or its own is not known."""
    slide = open_slide(path, slide_mpp)
    return ResampledSlide(slide, max(1.0, mpp / slide.mpp) if mpp and slide.mpp else 1.0)


def slide_strips(view: ResampledSlide) -> Iterator[np.ndarray]:
    """Yield a slide in strips uint8 [h, W, 3]."""
    for y in progress(range(0, view.height, TILE), "cutting", unit="strip"):
        yield view.read(0, y, view.width, min(TILE, view.height - y))


def class_strips(page: tifffile.TiffPage, index: int) -> Iterator[np.ndarray]:
    """Yield where a class of `classes.tif` is, in strips of opacities: uint8 [h, W] of 0 and 255."""
    for _, strip in strips_of(page):
        yield np.where(strip == index, 255, 0).astype(np.uint8)


def described(layer: TileFolder) -> dict[str, Any]:
    """Return what the page must know of a picture."""
    return {
        "folder": layer.folder.name,
        "ending": layer.ending,
        "width": layer.width,
        "height": layer.height,
        "tile": TILE,
        "levels": [layer.levels[0], layer.levels[-1]],
    }


def write_page(
    folder: Path, view: ResampledSlide, classes: str, summary: dict[str, Any], colors: list[str], threads: int
) -> int:
    """Write the page of a slide; return the number of tiles.

    Parameters
    ----------
    folder
        Folder to make.
    view
        The slide at the finest resolution to show.
    classes
        Its `classes.tif`.
    summary
        Its `summary.json`.
    colors
        Of the classes.
    threads
        Tiles that are encoded at a time.
    """
    folder.mkdir()
    for name in FILES:
        # Without the mode: a shared installation may be read-only, and tiles go in beside.
        shutil.copyfile(PAGE / name, folder / name)
    picture = TileFolder(folder / "slide", view.width, view.height, ".jpg", as_jpeg, threads)
    picture.write(slide_strips(view))
    count = len(picture.tiles)
    layers = []
    with tifffile.TiffFile(classes) as tiff:
        page = tiff.pages.first
        for index, (class_, color) in enumerate(zip(summary["classes"], colors, strict=True)):
            if not index:
                continue
            layer = TileFolder(
                folder / f"class{index}", page.imagewidth, page.imagelength, ".png", as_layer(color), threads
            )
            layer.write(class_strips(page, index))
            count += len(layer.tiles)
            layers.append(
                described(layer)
                | {"name": class_["name"], "color": color, "area_mm2": class_["area_mm2"], "pixels": class_["pixels"]}
                | {"tiles": sorted(layer.tiles)}
            )
    mpp = summary["mpp"] and summary["mpp"] * summary["width"] / view.width
    content = {"name": summary["slide"], "mpp": mpp, "slide": described(picture), "classes": layers}
    # One that was predicted before summaries said it has no word.
    content["trust"] = {key: summary.get("trust", {}).get(key) for key in ("word", "reason")}
    (folder / "slide.js").write_text(f"const SLIDE = {json.dumps(content, ensure_ascii=False)};\n", encoding="utf-8")
    return count


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params = snakemake.params
    summary = read_summary(snakemake.input.summary)
    colors = colors_of([class_["name"] for class_ in summary["classes"]], params.classes)
    view = view_of(snakemake.input.slide, summary["mpp"], params.mpp)
    with atomic_path(snakemake.output.page) as temporary:
        count = write_page(temporary, view, snakemake.input.classes, summary, colors, snakemake.threads)
    log.info("%s: %d tiles; open index.html there in a browser", snakemake.output.page, count)
