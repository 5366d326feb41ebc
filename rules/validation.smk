"""How good a model is on patients that it has not seen.

In: models, validation databases, and the images of validation and test. Out: results/validation/{experiment}/{fold}.
"""


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
        outside=SETTINGS["outside_annotations"],
    message:
        "Score {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/evaluate.py"


VALIDATED = [] if MODELS else expand("results/validation/{experiment}/{fold}", experiment=EXPERIMENTS, fold=FOLDS)


rule validate:
    """Panels and scores of all models."""
    input:
        expand(
            "{folder}/{file}",
            folder=VALIDATED,
            file=["panels.png", "panels", "metrics.tsv", "metrics_per_patient.tsv", "confusion.png"],
        ),
