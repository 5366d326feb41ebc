"""Write a page on which a person pans and zooms a slide with the predicted classes laid over it.

Outputs
-------
page : folder
    `index.html`, tiles of the slide (JPEG), of each class but the first and, if it is there, of the uncertainty (PNG of
    one colour), and `slide.js`, which says what they are. Any browser opens it from the disk; OpenSeadragon lies three
    folders above.
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

# What the page must know of a picture.
Layer = dict[str, Any]

PAGE = Path(__file__).parent / "viewer"
FILES = ("index.html", "viewer.css", "viewer.js")
# Of what is unsure: neither tissue nor, among the default colours, an early class looks so.
UNSURE = "#FFE600"


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


def write_layer(folder: Path, page: tifffile.TiffPage, strips: Iterator[np.ndarray], color: str, threads: int) -> Layer:
    """Write opacities that come in strips, at the resolution of a page of a TIFF; return what the page must know."""
    layer = TileFolder(folder, page.imagewidth, page.imagelength, ".png", as_layer(color), threads)
    layer.write(strips)
    return described(layer) | {"color": color, "tiles": sorted(layer.tiles)}


def described(layer: TileFolder) -> Layer:
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
    folder: Path,
    view: ResampledSlide,
    classes: str,
    summary: dict[str, Any],
    colors: list[str],
    threads: int,
    uncertainty: str | None = None,
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
    uncertainty
        Its `uncertainty.tif`, if there is one.
    """
    folder.mkdir()
    for name in FILES:
        # Without the mode: a shared installation may be read-only, and tiles go in beside.
        shutil.copyfile(PAGE / name, folder / name)
    picture = TileFolder(folder / "slide", view.width, view.height, ".jpg", as_jpeg, threads)
    picture.write(slide_strips(view))
    layers: list[Layer] = []
    unsure: Layer | None = None
    with tifffile.TiffFile(classes) as tiff:
        page = tiff.pages.first
        for index, (class_, color) in enumerate(zip(summary["classes"], colors, strict=True)):
            if not index:
                continue
            layer = write_layer(folder / f"class{index}", page, class_strips(page, index), color, threads)
            layers.append(layer | {key: class_[key] for key in ("name", "area_mm2", "pixels")})
    if uncertainty:
        with tifffile.TiffFile(uncertainty) as tiff:
            page = tiff.pages.first
            strips = (strip for _, strip in strips_of(page))
            unsure = {"name": "uncertainty"} | write_layer(folder / "uncertainty", page, strips, UNSURE, threads)
    mpp = summary["mpp"] and summary["mpp"] * summary["width"] / view.width
    content = {"name": summary["slide"], "mpp": mpp, "slide": described(picture), "classes": layers, "unsure": unsure}
    # One that was predicted before summaries said it has no word.
    content["trust"] = {key: summary.get("trust", {}).get(key) for key in ("word", "reason")}
    (folder / "slide.js").write_text(f"const SLIDE = {json.dumps(content, ensure_ascii=False)};\n", encoding="utf-8")
    return sum(len(layer["tiles"]) for layer in (*layers, unsure) if layer) + len(picture.tiles)


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params = snakemake.params
    summary = read_summary(snakemake.input.summary)
    colors = colors_of([class_["name"] for class_ in summary["classes"]], params.classes)
    view = view_of(snakemake.input.slide, summary["mpp"], params.mpp)
    with atomic_path(snakemake.output.page) as temporary:
        count = write_page(
            temporary,
            view,
            snakemake.input.classes,
            summary,
            colors,
            snakemake.threads,
            snakemake.input.get("uncertainty"),
        )
    log.info("%s: %d tiles; open index.html there in a browser", snakemake.output.page, count)
