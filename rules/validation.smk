"""How good a model is on patients that it has not seen.

In: models, validation databases, and the images of validation and test. Out: results/validation/{experiment}/{fold}.
"""


def scored_parts(wildcards):
    """Return the parts that a fold's model is scored on: none that it was trained on."""
    return [validation_part(wildcards.fold), *HELD_OUT]


def scored_images(wildcards):
    """Return the images of those parts."""
    return [row["image"] for row in part_rows(*scored_parts(wildcards))]


def scored_masks(wildcards):
    """Return the masks of those parts."""
    return [row["mask"] for row in part_rows(*scored_parts(wildcards))]


def digest_of_scored(wildcards):
    """Return a digest of those parts' rows in the split table."""
    return rows_digest(part_rows(*scored_parts(wildcards)))


rule render_panels:
    input:
        model="results/models/{experiment}/{fold}/best.pt",
        database=validation_database,
    output:
        sheet=report(
            "results/validation/{experiment}/{fold}/panels.png",
            category="5. Panels",
            caption="../report/panels.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "figure": "best, median, worst"},
        ),
        pictures=directory("results/validation/{experiment}/{fold}/panels"),
    log:
        "results/logs/render_panels/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/render_panels/{experiment}.{fold}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=60,
        gpu=1,
    params:
        code=code("render_panels"),
        per_group=SETTINGS["panels"]["per_group"],
        classes=SETTINGS["classes"],
    message:
        "Draw the validation panels of {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/render_panels.py"


rule evaluate:
    input:
        model="results/models/{experiment}/{fold}/best.pt",
        split=ancient("results/cohort/split.tsv"),
        images=scored_images,
        masks=scored_masks,
    output:
        metrics=report(
            "results/validation/{experiment}/{fold}/metrics.tsv",
            category="4. Scores",
            caption="../report/metrics.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "overall"},
        ),
        per_patient=report(
            "results/validation/{experiment}/{fold}/metrics_per_patient.tsv",
            category="4. Scores",
            caption="../report/metrics.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "by patient"},
        ),
        confusion=report(
            "results/validation/{experiment}/{fold}/confusion.png",
            category="4. Scores",
            caption="../report/confusion.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "confusion"},
        ),
    log:
        "results/logs/evaluate/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/evaluate/{experiment}.{fold}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=240,
        gpu=1,
    params:
        code=code("evaluate"),
        rows=digest_of_scored,
        parts=scored_parts,
        classes=CLASS_VALUES,
        ignore_value=SETTINGS["ignore_value"],
    message:
        "Score {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/evaluate.py"


VALIDATED = [] if MODELS else expand("results/validation/{experiment}/{fold}", experiment=EXPERIMENTS, fold=FOLDS)


# Target: panels and scores of all models.
rule validate:
    input:
        expand(
            "{folder}/{file}",
            folder=VALIDATED,
            file=["panels.png", "panels", "metrics.tsv", "metrics_per_patient.tsv", "confusion.png"],
        ),
