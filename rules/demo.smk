"""The demo cohort.

Out: the images, masks and slides under results/demo that the sample and slide tables name.
"""

DEMO_SAMPLES = [row for row in SAMPLES if row["image"].startswith(f"{DEMO}/")]
DEMO_SLIDES = [row["path"] for row in SLIDES if row["path"].startswith(f"{DEMO}/")]


if DEMO_SAMPLES:

    rule make_demo_cohort:
        """Synthetic images, masks and slides."""
        output:
            images=[row["image"] for row in DEMO_SAMPLES],
            masks=[row["mask"] for row in DEMO_SAMPLES],
            slides=DEMO_SLIDES,
        log:
            "<logs>/make_demo_cohort.log",
        benchmark:
            "<benchmarks>/make_demo_cohort.tsv"
        conda:
            "../envs/data.yaml"
        threads: 8
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
        params:
            code=code("make_demo_cohort"),
            patients=[row["patient"] for row in DEMO_SAMPLES],
            seed=SETTINGS["demo"]["seed"],
            epithelium=SETTINGS["demo"]["epithelium"],
        message:
            "Draw the demo cohort"
        script:
            "../scripts/make_demo_cohort.py"


rule demo:
    """The demo cohort alone, to look at it."""
    input:
        rules.make_demo_cohort.output if DEMO_SAMPLES else [],
