"""Put the summaries of all slides into one table.

Outputs
-------
table, table_html : TSV and HTML
    A row for each slide and class: area in mm², share of the tissue, mean probability and number of regions.
"""

import pandas as pd

from pathseg.logs import start_log
from pathseg.prediction.summaries import read_summary
from pathseg.table_files import save_table

SLIDE_COLUMNS = ["slide", "file", "mpp", "mpp_source", "model_mpp", "tissue_share", "tissue_mm2", "seconds"]
CLASS_COLUMNS = ["pixels", "area_mm2", "share_of_tissue", "mean_probability", "regions"]


def summary_table(summaries: list[dict]) -> pd.DataFrame:
    """Return a row for each slide and class of the given summaries."""
    rows = [
        {column: summary[column] for column in SLIDE_COLUMNS}
        | {"class": class_["name"]}
        | {column: class_[column] for column in CLASS_COLUMNS}
        for summary in summaries
        for class_ in summary["classes"]
    ]
    table = pd.DataFrame(rows)[["slide", "class", *CLASS_COLUMNS, *SLIDE_COLUMNS[1:]]]
    return table.astype({"regions": "Int64"})


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    paths = list(snakemake.input.summaries)
    summaries = [read_summary(path) for path in paths]
    save_table(summary_table(summaries), snakemake.output.table, snakemake.output.table_html, digits=6)
    log.info("%s: %d slides", snakemake.output.table, len(paths))
