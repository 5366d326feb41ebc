"""Who is trained on, who is scored.

In: the sample table. Out: <results>/cohort: the part of each patient, and a figure of it.
"""


# Which patient is in which part is decided when the workflow is read (below), so that the plan is known from the start.
# This rule writes it down, beside its outputs in parts.json: who is there keeps their part. So does build_database, which
# may be asked for alone. That file is none of the outputs, which Snakemake removes before each run and keeps where storage
# plugins do. Delete it to divide anew.
rule split_patients:
    """The part of each patient."""
    input:
        masks=masks_of_cohort,
    output:
        split="<results>/cohort/split.tsv",
        figure=shown("<results>/cohort/split.png", "1. Cohort", "split", figure="patients by part"),
    log:
        "<logs>/split_patients.log",
    benchmark:
        "<benchmarks>/split_patients.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code("split_patients"),
        rows=rows_of_cohort,
        parts=PARTS,
        parts_file=parts_file,
        split=SETTINGS["split"],
        classes=SETTINGS["classes"],
        ignore_value=SETTINGS["ignore_value"],
    message:
        "Write down the part of each patient"
    script:
        "../scripts/split_patients.py"


COHORT = checked(divided, SAMPLES, SETTINGS["split"], parts_file())
