"""Sum up the areas and objects of a slide by region and band.

Outputs
-------
sums : TSV
    A row for each region (first the whole slide), band ("" for all of the region) and class: `slide`, `patient`,
    `region`, `band`, `class`, `area_mm2` and, of classes whose objects are told apart, `objects`.
table : Parquet
    If objects are told apart: the rows of the slide's table of objects with `slide`, `patient`, `regions` (the names of
    all it is in, joined by "; ") and, with margins, `band`.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from pathseg.errors import ConfigError, ImageError
from pathseg.files import atomic_path
from pathseg.labels.geojson import read_annotations
from pathseg.logs import start_log
from pathseg.measurements.margins import Margin, with_margin
from pathseg.measurements.slide import SlideSums, regions_of, sums_of_map
from pathseg.prediction.summaries import read_summary
from pathseg.table_files import read_table, save_tsv


def measure(
    summary: dict[str, Any],
    classes: str,
    annotations: str | None,
    objects: str | None,
    regions: str | None,
    margins: dict[str, Any] | None,
    told_apart: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the sums of a slide, and the table of its objects with where they are.

    Parameters
    ----------
    summary
        Of its prediction.
    classes, annotations, objects
        Its class map, its outlines (needed for margins) and its table of objects (where there is one).
    regions
        Regions that a person has drawn, if any.
    margins
        `class`, `widths_um` and `min_area_um2`, if bands along a border are asked for.
    told_apart
        Classes that have objects.

    Raises
    ------
    ConfigError
        If the model has no such class.
    ImageError
        If the slide's pixel size is not known, or a region is not on it.
    """
    name, mpp, width, height = (summary[key] for key in ("slide", "mpp", "width", "height"))
    if not mpp:
        raise ImageError(
            f"{summary['file']}: its pixel size is not known, and measurements are in µm; give µm per pixel in the "
            "column mpp of the slide table"
        )
    size = summary["model_width"], summary["model_height"]
    scale = size[0] / width, size[1] / height
    names = [row["name"] for row in summary["classes"]]
    margin = None
    if margins and annotations:
        if margins["class"] not in names[1:]:
            raise ConfigError(
                f"measurements.margins.class: {margins['class']!r} is no class of the model with a border; use any "
                f"of {', '.join(names[1:])}"
            )
        found = [each.polygon for each in read_annotations(annotations) if each.name == margins["class"]]
        large = with_margin(found, margins["min_area_um2"] / mpp**2)
        margin = Margin(large, scale, margins["widths_um"], summary["model_mpp"], size)
    drawn = regions_of(read_annotations(regions), Path(regions), width, height) if regions else {}
    table = places = None
    if objects:
        table = read_objects(objects)
        places = pd.DataFrame({axis: table[f"{axis}_um"] / mpp * scale[i] for i, axis in enumerate("xy")})
        places["class"] = table["class"]
    mm2 = mpp**2 / (scale[0] * scale[1]) / 1e6
    sums = SlideSums(names, scale, mm2, drawn, margin, places, told_apart)
    sums_of_map(classes, sums)
    result = sums.table()
    result.insert(0, "slide", name)
    if table is not None:
        table.insert(0, "slide", name)
        table = pd.concat([table, sums.places()], axis=1)
    return result, table


def read_objects(path: str) -> pd.DataFrame:
    """Read a slide's table of objects; all but the class are numbers."""
    header = pd.read_csv(path, sep="\t", nrows=0).columns
    return read_table(path, [column for column in header if column != "class"])


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    files, params = snakemake.input, snakemake.params
    sums, table = measure(
        read_summary(files.summary),
        files.classes,
        files.get("annotations"),
        files.get("objects"),
        files.get("regions"),
        params.margins,
        params.told_apart or [],
    )
    sums.insert(1, "patient", params.patient)
    if table is not None:
        table.insert(1, "patient", params.patient)
        with atomic_path(snakemake.output.table) as temporary:
            table.to_parquet(temporary, engine="fastparquet", compression="zstd", index=False)
    save_tsv(sums.round({"area_mm2": 9}), snakemake.output.sums)
    log.info("%s: %d regions", snakemake.wildcards.slide, sums["region"].nunique() - 1)
