"""pathseg: train U-Nets on digital-pathology images and apply them to whole slides."""

import os
import re
import shlex
from pathlib import Path

from snakemake.utils import min_version

min_version("9.25")


# The demo's configuration, or a project's own in the same place. It is laid under nothing that stands by itself: a file
# given with --configfile, or a model and slides given with --config.
if (
    not (workflow.config_settings.configfiles or {"model", "slides"} <= set(config))
    and Path("config/config.yaml").exists()
):

    configfile: "config/config.yaml"


# Where results are, and by what short names the rules call their folders.
pathvars:
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",
    model="<results>/models/{experiment}/{fold}",
    scores="<results>/validation/{experiment}/{fold}",
    slide="<results>/slides/{experiment}/{slide}",
    answer="<results>/answers/{experiment}/{slide}",
    batches="<results>/slides/{experiment}/.batches",


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/storage.smk"
include: "rules/inputs.smk"


# What jobs run in with --sdm apptainer; without, Snakemake does not look at it. Before the rules, which take it over.
container: container_image()


include: "rules/demo.smk"
include: "rules/archive.smk"
include: "rules/cohort.smk"
include: "rules/plan.smk"
include: "rules/database.smk"
include: "rules/training.smk"
include: "rules/validation.smk"
include: "rules/batches.smk"
include: "rules/slides.smk"
include: "rules/measurements.smk"
include: "rules/viewer.smk"
include: "rules/export.smk"
include: "rules/annotations.smk"
include: "rules/run.smk"


# After the rules: Snakemake puts them into names in which the path variables stand for folders already.
wildcard_constraints:
    experiment="|".join(map(re.escape, EXPERIMENTS)),
    fold="|".join([*FOLDS, "all_folds", "mean_of_folds"]),
    part=r"train|val|test|fold[1-9][0-9]*",
    batch="[1-9][0-9]*",
    stage="predict|outline",
    slide=r"[^/]+",


rule all:
    """Everything: models, scores and slide predictions."""
    default_target: True
    input:
        rules.fetch_archive.output if PROJECT.unfetched else rules.summarize_run.output,


onstart:
    if workflow.non_local_exec and SharedFSUsage.SOURCES not in workflow.storage_settings.shared_fs_usage:
        raise WorkflowError(
            "jobs need pathseg's modules and the tables: the working folder must be on a file system that all nodes "
            "share; give --shared-fs-usage persistence software-deployment sources source-cache"
        )
    if Path("results").exists() and not os.access("results", os.W_OK):
        raise WorkflowError(
            "results: may not be written; is the file system read-only, or the folder another user's?"
        )
    if IN_BATCHES and workflow.touch:
        take_batches_for_up_to_date()
    print(f"{PROJECT.summary()}. A line for each stage follows; logs are in results/logs.")


onerror:
    failed = failed_slides()
    if failed:
        print(f"{len(failed)} of the slides were not predicted:")
        print("\n".join(f"  {slide}: {reason}" for slide, reason in failed.items()))
    say_what_not_to_trust()


onsuccess:
    say_what_not_to_trust()
    command = ["snakemake", "--report", "results/report.html"]
    if workflow.config_settings.configfiles:
        command += ["--configfile", *map(str, workflow.config_settings.configfiles)]
    print(f"Done. All that was made is under results; for one page of it: {shlex.join(command)}")
