"""Choose what is worth annotating next, and write it for QuPath, as a table, and as pictures.

Outputs
-------
table : TSV
    A row for each suggestion, best first: `suggestion`, `slide`, `patient`, `doubt` (nats, mean over its area),
    `tissue` (share), `x`, `y`, `width` and `height` in the slide's finest pixels, `area_um2`.
files : GeoJSON
    Of each slide the suggestions as regions that are to do, and the predicted annotations in them.
sheet : PNG
    The suggestions with the predicted outlines.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from shapely.affinity import affine_transform

from pathseg.colors import colors_of
from pathseg.errors import TableError
from pathseg.figures import class_legend, save_figure, show
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Slide, open_slide
from pathseg.labels.geojson import Annotation, is_annotation_file, read_annotations
from pathseg.labels.regions import answered_regions, cut_to, has_regions
from pathseg.labels.suggestions import write_suggestions
from pathseg.logs import start_log
from pathseg.prediction.doubt import DoubtMap
from pathseg.prediction.suggesting import Candidate, candidates_of, choose
from pathseg.table_files import save_tsv

# Side of a picture on the sheet in pixels, and how many stand beside each other.
PICTURE, COLUMNS = 320, 5


def known_area(mask: str | None, outside: str) -> shapely.Geometry | None:
    """Return what is annotated of a slide, in finest pixels; None if all of it is."""
    if mask is None:
        return shapely.Polygon()
    if not is_annotation_file(mask):
        return None
    annotations = read_annotations(mask)
    if has_regions(annotations):
        return shapely.union_all(answered_regions(annotations))
    if outside == "background":
        return None
    return shapely.union_all([annotation.polygon for annotation in annotations])


def suggest(
    rows: list[dict[str, Any]], maps: list[DoubtMap], masks: dict[str, str], outside: str, count: int
) -> list[Candidate]:
    """Return what to annotate next, best first.

    Parameters
    ----------
    rows
        `slide` and `patient` of each slide that may be suggested.
    maps
        Of these slides.
    masks
        Of those slides that are samples.
    outside
        `outside_annotations` of the configuration.
    count
        How many.
    """
    candidates: list[Candidate] = []
    for row, found in zip(rows, maps, strict=True):
        known = known_area(masks.get(row["slide"]), outside)
        if known is not None:
            candidates += candidates_of(row["slide"], row["patient"], found, known, count)
    return choose(candidates, count)


def as_table(chosen: list[Candidate], mpp: dict[str, float]) -> pd.DataFrame:
    """Return the table of suggestions."""
    rows = []
    for number, candidate in enumerate(chosen, start=1):
        x0, y0, x1, y1 = (round(side) for side in candidate.box.bounds)
        rows.append(
            {
                "suggestion": number,
                "slide": candidate.slide,
                "patient": candidate.patient,
                "doubt": round(candidate.score, 5),
                "tissue": round(candidate.tissue, 3),
                "x": x0,
                "y": y0,
                "width": x1 - x0,
                "height": y1 - y0,
                "area_um2": round((x1 - x0) * (y1 - y0) * mpp[candidate.slide] ** 2),
            }
        )
    columns = ["suggestion", "slide", "patient", "doubt", "tissue", "x", "y", "width", "height", "area_um2"]
    return pd.DataFrame(rows, columns=columns)


def draw_sheet(
    chosen: list[Candidate], slides: dict[str, Slide], predicted: dict[str, list[Annotation]], colors: dict[str, str]
) -> Figure:
    """Draw the suggestions, with the predicted outlines.

    Parameters
    ----------
    chosen
        The suggestions.
    slides
        The slides, open, by name.
    predicted
        Annotations of the slides.
    colors
        Of the classes.
    """
    columns = min(COLUMNS, max(len(chosen), 1))
    lines = max(1, -(-len(chosen) // columns))
    figure = Figure(figsize=(2.6 * columns, 3.0 * lines + 0.9), dpi=150)
    places = figure.subplots(lines, columns, squeeze=False)
    for axes in places.flat[len(chosen) :]:
        axes.set_axis_off()
    for number, (axes, candidate) in enumerate(zip(places.flat, chosen, strict=False), start=1):
        slide = slides[candidate.slide]
        x0, y0, x1, _ = candidate.box.bounds
        view = ResampledSlide(slide, (x1 - x0) / PICTURE)
        scale = view.width / slide.width, view.height / slide.height
        left, top = round(x0 * scale[0]), round(y0 * scale[1])
        show(axes, view.read(left, top, PICTURE, PICTURE), f"{number}  {candidate.slide}\n{candidate.score:.3f} nats")
        for part in cut_to(predicted[candidate.slide], [candidate.box]):
            matrix = [scale[0], 0, 0, scale[1], -left - 0.5, -top - 0.5]
            drawn = affine_transform(part.polygon, matrix)
            axes.add_patch(PathPatch(outline(drawn), facecolor="none", edgecolor=colors[str(part.name)], linewidth=1.5))
        axes.set(xlim=(-0.5, PICTURE - 0.5), ylim=(PICTURE - 0.5, -0.5))
    if chosen:
        sides = [(c.box.bounds[2] - c.box.bounds[0]) * slides[c.slide].mpp for c in chosen]
        figure.suptitle(f"What to annotate next: squares of {np.mean(sides):.0f} µm")
    class_legend(figure, list(colors)[1:], list(colors.values())[1:])
    return figure


def outline(polygon: shapely.Polygon) -> Outline:
    """Return a polygon with its holes as Matplotlib draws it."""
    rings = [np.array(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
    return Outline.make_compound_path(*(Outline(ring, closed=True) for ring in rings))


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files = snakemake.params, snakemake.input
    for reason, slides in params.left_out.items():
        if slides:
            log.warning("left out, because %s: %s", reason, ", ".join(slides))
    if not params.rows:
        raise TableError(
            "there is no slide to suggest anything on: each needs a patient, in a column `patient` of the slide "
            "table, who is new or in a part that is trained on"
        )
    names = [row["slide"] for row in params.rows]
    masks = dict(zip(params.annotated, files.masks, strict=True))
    maps = [DoubtMap.load(path) for path in files.maps]
    chosen = suggest(params.rows, maps, masks, params.outside, params.how_many)
    used = {candidate.slide for candidate in chosen}
    slides = {
        row["slide"]: open_slide(path, row["mpp"])
        for row, path in zip(params.rows, files.slides, strict=True)
        if row["slide"] in used
    }
    predictions = dict(zip(names, files.annotations, strict=True))
    predicted = {name: read_annotations(predictions[name]) for name in used}
    summary = json.loads(Path(files.summaries[0]).read_text(encoding="utf-8"))
    classes = [class_["name"] for class_ in summary["classes"]]
    colors = dict(zip(classes, colors_of(classes, params.classes), strict=True))
    for name, path in zip(params.all_slides, snakemake.output.files, strict=True):
        boxes = {str(n): candidate.box for n, candidate in enumerate(chosen, start=1) if candidate.slide == name}
        key = f"{snakemake.wildcards.experiment}/{name}"
        write_suggestions(path, boxes, predicted.get(name, []), colors, key)
    table = as_table(chosen, {name: slide.mpp for name, slide in slides.items()})
    save_tsv(table, snakemake.output.table)
    save_figure(draw_sheet(chosen, slides, predicted, colors), snakemake.output.sheet)
    if len(chosen) < params.how_many:
        log.warning("%d suggestions of %d: there is no more tissue that is not annotated", len(chosen), params.how_many)
    log.info(
        "%d suggestions on %d slides of %d patients, %.2f mm² together",
        len(chosen),
        len(used),
        len({candidate.patient for candidate in chosen}),
        table["area_um2"].sum() / 1e6,
    )
