"""Put the measurements of all slides, patients and regions into one long table, and draw them.

Outputs
-------
table, table_html : TSV and HTML
    One figure a row; see `pathseg.measurements.study.study_table`.
figure : PNG
    Shares of the classes, and densities of objects, by region and patient.
"""

import pandas as pd

from pathseg.colors import colors_of
from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.measurements.study import draw_study, study_table
from pathseg.table_files import read_table, save_table

if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, output = snakemake.params, snakemake.output
    sums = pd.concat([read_table(path, ["area_mm2", "objects"]) for path in snakemake.input.sums], ignore_index=True)
    table = study_table(sums, params.ratios)
    save_table(table, output.table, output.table_html, digits=6)
    names = list(dict.fromkeys(sums["class"]))
    save_figure(draw_study(table, dict(zip(names, colors_of(names, params.classes), strict=True))), output.figure)
    log.info("%s: %d slides of %d patients", output.table, sums["slide"].nunique(), sums["patient"].nunique())
