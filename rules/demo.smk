"""The demo cohort.

Out: images under results/demo that the sample table names, with masks of two tasks (epithelium and nuclei) beside them, and the
slides that the slide table names.
"""

# Both tasks for each image, so that a configuration of the other task finds what is there.
DEMO_SAMPLES = [row for row in SAMPLES if row["image"].startswith(f"{DEMO}/")]
DEMO_SLIDES = [row["path"] for row in SLIDES if row["path"].startswith(f"{DEMO}/")]


if DEMO_SAMPLES:

    rule make_demo_cohort:
        """Synthetic images and masks."""
        output:
            **{
                kind: [f"{DEMO}/{kind}/{Path(row['image']).name}" for row in DEMO_SAMPLES]
                for kind in ("images", "masks", "nuclei", "numbers")
            },
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


# By itself: a given model predicts these slides too, and then nobody asks for the images.
if DEMO_SLIDES:

    rule make_demo_slides:
        """Synthetic slides."""
        output:
            slides=DEMO_SLIDES,
        log:
            "<logs>/make_demo_slides.log",
        benchmark:
            "<benchmarks>/make_demo_slides.tsv"
        conda:
            "../envs/data.yaml"
        threads: 8
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
        params:
            code=code("make_demo_slides"),
            seed=SETTINGS["demo"]["seed"],
            epithelium=SETTINGS["demo"]["epithelium"],
        message:
            "Draw the demo slides"
        script:
            "../scripts/make_demo_slides.py"


rule demo:
    """The demo cohort alone, to look at it."""
    input:
        rules.make_demo_cohort.output if DEMO_SAMPLES else [],
        rules.make_demo_slides.output if DEMO_SLIDES else [],
