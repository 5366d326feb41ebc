"""Write down the planned configuration with its reasons, what is doubtful about the cohort, and draw both.

Outputs
-------
configuration : YAML
    The complete configuration; each value is planned, given or a default, as a comment says.
warnings : text
    A sentence in each line; empty where there is nothing to warn of.
figure : PNG
    What was planned, and what it was planned from.
"""

from typing import Any

import numpy as np

from pathseg.cohort.plans import read_plan, whole_plan
from pathseg.cohort.rows import with_files
from pathseg.figures import save_figure
from pathseg.files import atomic_path
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import choose_mpp, open_slide
from pathseg.labels.label_maps import open_labels
from pathseg.logs import start_log
from pathseg.planning.doubts import doubts
from pathseg.planning.figure import draw_plan
from pathseg.planning.measures import ImageMeasures, measure_images
from pathseg.planning.page import planned_page

# Of the example so many sides of a tile are drawn at most.
SHOWN_TILES = 3


def example_of(
    rows: list[dict[str, Any]], images: list[ImageMeasures], tiles: dict[str, Any], settings: dict[str, Any]
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the name of the image with most objects, the middle of it at the planned resolution, and its classes."""
    row, _ = max(zip(rows, images, strict=True), key=lambda pair: sum(map(len, pair[1].widths)))
    slide = open_slide(row["image"], row["mpp"])
    view = ResampledSlide(slide, 1 / tiles["resize"] if tiles["resize"] else tiles["mpp"] / choose_mpp(slide))
    labels = open_labels(
        row["mask"], view, settings["classes"], settings["ignore_value"], settings["outside_annotations"]
    )
    width, height = (min(side, SHOWN_TILES * tiles["size"]) for side in (view.width, view.height))
    window = ((view.width - width) // 2, (view.height - height) // 2, width, height)
    return row["sample"], view.read(*window), labels.read(*window)


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    plan, settings = read_plan(files.plan), params.settings
    whole = whole_plan(settings, files.plan)
    rows = with_files(params.rows, files.images, files.masks, files.get("instances", []))
    images = measure_images(rows, settings, snakemake.threads)
    learned = [image for image in images if image.part not in ("val", "test")]
    names = [class_["name"] for class_ in settings["classes"]]
    parts = [part for part in params.parts if any(image.part == part for image in images)]
    found = list(doubts(images, parts, names))
    for sentence in found:
        log.warning(sentence)
    with atomic_path(output.warnings) as temporary:
        temporary.write_text("".join(f"{sentence}\n" for sentence in found), encoding="utf-8")
    with atomic_path(output.configuration) as temporary:
        temporary.write_text(planned_page(whole, params.given, plan["reasons"]), encoding="utf-8")
    experiment = max(whole["experiments"].values(), key=lambda experiment: experiment["unet"]["depth"])
    training = [row for row in rows if row["part"] not in ("val", "test")]
    example = example_of(training, learned, whole["tiles"], settings)
    planned = {block: whole[block] for block in ("tiles", "objects") if whole[block]} | experiment
    save_figure(draw_plan(images, learned, parts, settings["classes"], example, planned), output.figure)
    log.info("%s: %d settings were planned, %d warnings", output.configuration, len(plan["reasons"]), len(found))
