"""Cut the images and masks of one part into tiles, and store them in one HDF5 file.

Outputs
-------
database : HDF5
    See `pathseg.tiles.database`.
"""

from pathseg.cohort.plans import with_plan
from pathseg.cohort.rows import with_files
from pathseg.cohort.splitting import note_parts
from pathseg.errors import as_list
from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.tiles.cutting import LabelSettings, TileSettings, build

if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files = snakemake.params, snakemake.input
    if changes := note_parts(params.parts_file, params.parts, params.split):
        log.warning(as_list(changes))
    rows = with_files(params.rows, files.images, files.masks, files.get("instances", []))
    plan = files.get("plan")
    tiles = with_plan(params.tiles, plan, "tiles")
    objects = with_plan(params.objects, plan, "objects")
    labelling = LabelSettings(params.classes, params.ignore_value, params.outside, objects)
    with atomic_path(snakemake.output.database) as temporary:
        count = build(temporary, rows, TileSettings(**tiles), labelling, params.database, snakemake.threads)
    log.info("%s: %d tiles of %d images", snakemake.output.database, count, len(rows))
