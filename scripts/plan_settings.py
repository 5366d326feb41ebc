"""Plan the settings that are left out, from the images of training patients alone.

Outputs
-------
settings : JSON
    `settings`: what jobs read, see `pathseg.cohort.plans.with_plan`; `reasons` of what was planned; `measured`.
"""

import json
from dataclasses import asdict

from pathseg.cohort.rows import with_files
from pathseg.cohort.splitting import note_parts
from pathseg.errors import as_list
from pathseg.files import atomic_path
from pathseg.logs import start_log
from pathseg.planning.choices import choose, summed_up
from pathseg.planning.measures import measure_images
from pathseg.planning.trials import COLUMNS, choice
from pathseg.table_files import read_table

if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, files = snakemake.params, snakemake.input
    if changes := note_parts(params.parts_file, params.parts, params.split):
        log.warning(as_list(changes))
    rows = with_files(params.rows, files.images, files.masks, files.get("instances", []))
    images = measure_images(rows, params.labelling | params.asked, snakemake.threads)
    names = [class_["name"] for class_ in params.labelling["classes"]]
    cohort = summed_up(images, names, params.asked, params.folds)
    tried = choice(read_table(files.trials, COLUMNS)) if files.get("trials") else None
    plan = choose(params.asked, cohort, tried)
    measured = asdict(cohort) | {"sides": cohort.sides.tolist()}
    content = {"settings": plan.settings, "reasons": plan.reasons, "measured": measured}
    with atomic_path(snakemake.output.settings) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for key, reason in plan.reasons.items():
        log.info("%s: %s", key, reason)
