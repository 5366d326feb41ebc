"""Who is trained on, who is scored.

In: the sample table and its masks. Out: <results>/cohort/split.tsv, a part for each patient, and a figure of it.
"""


# A checkpoint, so that each database depends on the images of its own part and on no others. The masks are only
# counted for balance: a mask that is mended later must not move patients about.
checkpoint split_patients:
    """The part of each patient."""
    input:
        masks=ancient([row["mask"] for row in SAMPLES]),
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
        samples=SAMPLES,
        val=SETTINGS["split"]["val"],
        test=SETTINGS["split"]["test"],
        folds=SETTINGS["split"]["folds"],
        seed=SETTINGS["split"]["seed"],
        classes=SETTINGS["classes"],
        ignore_value=SETTINGS["ignore_value"],
    message:
        "Divide the patients into parts"
    script:
        "../scripts/split_patients.py"
