"""Put the summaries of all slides into one table.

Outputs
-------
table, table_html : TSV and HTML
    A row for each slide and class: area in mm², share of the tissue, mean probability and number of regions, and of
    objects told apart their number and how many there are per mm² of tissue; whether the slide is like those that the
    model was trained on, see `pathseg.prediction.trust`. The page begins with a small picture of each slide.
"""

import base64
from html import escape

import cv2
import pandas as pd

from pathseg.errors import ImageError
from pathseg.logs import start_log
from pathseg.prediction.summaries import read_summary
from pathseg.table_files import save_table

SLIDE_COLUMNS = ["slide", "file", "mpp", "mpp_source", "model_mpp", "tissue_share", "tissue_mm2", "seconds"]
CLASS_COLUMNS = ["pixels", "area_mm2", "share_of_tissue", "mean_probability", "regions"]
TRUST_COLUMNS = ["word", "shift", "sharpness", "blurred_share", "ink_share", "disagreement", "reason"]
# Of classes whose objects are told apart.
OBJECT_COLUMNS = ["objects", "objects_per_mm2"]

# Pixels of the longer side of a small picture, of up to so many; more are smaller, so that a browser opens the page.
SIDE, AT_FULL_SIZE, SMALLEST_SIDE = 160, 1000, 40


def summary_table(summaries: list[dict]) -> pd.DataFrame:
    """Return a row for each slide and class of the given summaries."""
    rows = [
        {column: summary[column] for column in SLIDE_COLUMNS}
        | {column: of_trust(summary).get(column) for column in TRUST_COLUMNS}
        | {"class": class_["name"]}
        | {column: class_[column] for column in CLASS_COLUMNS}
        | {"expected_dice": of_trust(summary).get("expected_dice", {}).get(class_["name"])}
        | {column: class_[column] for column in OBJECT_COLUMNS if column in class_}
        for summary in summaries
        for class_ in summary["classes"]
    ]
    table = pd.DataFrame(rows)
    of_objects = [column for column in OBJECT_COLUMNS if column in table]
    table = table[
        ["slide", "word", "class", *CLASS_COLUMNS, "expected_dice", *of_objects, *SLIDE_COLUMNS[1:], *TRUST_COLUMNS[1:]]
    ]
    return table.astype(dict.fromkeys(("regions", *of_objects[:1]), "Int64"))


def of_trust(summary: dict) -> dict:
    """Return what a summary says of trust; nothing of a slide that was predicted before summaries said it."""
    return summary.get("trust", {})


def caption(summary: dict) -> str:
    """Return the name of a slide, with the word on whether it is to be trusted if it is not the usual one."""
    word = of_trust(summary).get("word")
    return summary["slide"] if word in (None, "usual") else f"{summary['slide']}: {word}"


def contact_sheet(pictures: dict[str, str]) -> str:
    """Return HTML of a small picture of each slide, from captions and files; the pictures are in the page itself."""
    side = max(SMALLEST_SIDE, int(SIDE * min(1, AT_FULL_SIZE / max(len(pictures), 1)) ** 0.5))
    lines = ['<div class="sheet">']
    for name, path in pictures.items():
        image = f'<img src="data:image/jpeg;base64,{small_picture(path, side)}" alt="">'
        lines.append(f"<figure>{image}<figcaption>{escape(name)}</figcaption></figure>")
    return "\n".join([*lines, "</div>", ""])


def small_picture(path: str, side: int) -> str:
    """Return a picture whose longer side has `side` pixels, as JPEG in base64."""
    # Decoded at a quarter, which is many times as fast.
    picture = cv2.imread(path, cv2.IMREAD_REDUCED_COLOR_4)
    if picture is None:
        raise ImageError(f"{path}: cannot be read; delete it, and run again")
    factor = side / max(picture.shape[:2])
    size = [max(1, round(length * factor)) for length in picture.shape[1::-1]]
    _, encoded = cv2.imencode(
        ".jpg", cv2.resize(picture, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    return base64.b64encode(encoded.tobytes()).decode()


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    paths = list(snakemake.input.summaries)
    summaries = [read_summary(path) for path in paths]
    sheet = contact_sheet({caption(row): path for row, path in zip(summaries, snakemake.input.overlays, strict=True)})
    save_table(summary_table(summaries), snakemake.output.table, snakemake.output.table_html, digits=6, above=sheet)
    log.info("%s: %d slides", snakemake.output.table, len(paths))
