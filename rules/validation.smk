"""How good a model is on patients that it has not seen.

In: models, validation databases, and the images of validation and test. Out: results/validation/{experiment}/{fold}, of
a cross-validation also results/validation/{experiment}/all_folds, and results/models: model cards and a comparison.
"""


rule render_panels:
    """Best, median and worst validation tiles."""
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
    """Predictions compared with the masks of unseen patients."""
    input:
        model="results/models/{experiment}/{fold}/best.pt",
        split=ancient("results/cohort/split.tsv"),
        images=scored_images,
        masks=scored_masks,
    output:
        counts="results/validation/{experiment}/{fold}/counts.npz",
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
        boundary_um=SETTINGS["scores"]["boundary_um"],
    message:
        "Compare {wildcards.experiment}, {wildcards.fold}, with the masks of unseen patients"
    script:
        "../scripts/evaluate.py"


rule summarize_scores:
    """Tables and figures of scores."""
    input:
        counts=counts_of_folds,
    output:
        metrics="results/validation/{experiment}/{fold}/metrics.tsv",
        metrics_html=report(
            "results/validation/{experiment}/{fold}/metrics.html",
            category="4. Scores",
            caption="../report/metrics.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "overall"},
        ),
        per_patient="results/validation/{experiment}/{fold}/metrics_per_patient.tsv",
        per_patient_html=report(
            "results/validation/{experiment}/{fold}/metrics_per_patient.html",
            category="4. Scores",
            caption="../report/metrics.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "by patient"},
        ),
        patients_png=report(
            "results/validation/{experiment}/{fold}/patients.png",
            category="4. Scores",
            caption="../report/patients.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "by patient, drawn"},
        ),
        confusion_png=report(
            "results/validation/{experiment}/{fold}/confusion.png",
            category="4. Scores",
            caption="../report/confusion.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "confusion"},
        ),
        calibration_png=report(
            "results/validation/{experiment}/{fold}/calibration.png",
            category="4. Scores",
            caption="../report/calibration.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "calibration"},
        ),
        thresholds_png=report(
            "results/validation/{experiment}/{fold}/thresholds.png",
            category="4. Scores",
            caption="../report/thresholds.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "scores": "by threshold"},
        ),
        patients_svg="results/validation/{experiment}/{fold}/patients.svg",
        confusion_svg="results/validation/{experiment}/{fold}/confusion.svg",
        calibration_svg="results/validation/{experiment}/{fold}/calibration.svg",
        thresholds_svg="results/validation/{experiment}/{fold}/thresholds.svg",
    log:
        "results/logs/summarize_scores/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/summarize_scores/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=15,
    params:
        code=code("summarize_scores"),
        classes=SETTINGS["classes"],
    message:
        "Score {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/summarize_scores.py"


rule write_model_card:
    """A page on a model: data, settings, scores, limits."""
    input:
        model="results/models/{experiment}/{fold}/best.pt",
        training=training_databases,
        validation=validation_database,
        metrics="results/validation/{experiment}/{fold}/metrics.tsv",
    output:
        card="results/models/{experiment}/{fold}/model_card.md",
    log:
        "results/logs/write_model_card/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/write_model_card/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=10,
    params:
        code=code("write_model_card"),
        training=training_settings,
        boundary_um=SETTINGS["scores"]["boundary_um"],
    message:
        "Write the model card of {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/write_model_card.py"


rule compare_experiments:
    """All experiments side by side."""
    input:
        metrics=expand("results/validation/{experiment}/{fold}/metrics.tsv", experiment=EXPERIMENTS, fold=SCORED[-1:]),
    output:
        table="results/models/comparison.tsv",
        table_html=report(
            "results/models/comparison.html",
            category="4. Scores",
            caption="../report/comparison.rst",
            labels={"experiment": "all", "fold": "all", "scores": "side by side"},
        ),
        figure=report(
            "results/models/comparison.png",
            category="4. Scores",
            caption="../report/comparison.rst",
            labels={"experiment": "all", "fold": "all", "scores": "side by side, drawn"},
        ),
        figure_svg="results/models/comparison.svg",
    log:
        "results/logs/compare_experiments.log",
    benchmark:
        "results/benchmarks/compare_experiments.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        code=code("compare_experiments"),
        experiments=EXPERIMENTS,
        classes=SETTINGS["classes"],
    message:
        "Set the experiments side by side"
    script:
        "../scripts/compare_experiments.py"


VALIDATED = [] if MODELS else expand("results/validation/{experiment}/{fold}", experiment=EXPERIMENTS, fold=FOLDS)
SCORE_TABLES = [] if MODELS else expand("results/validation/{experiment}/{fold}", experiment=EXPERIMENTS, fold=SCORED)


rule validate:
    """Panels and scores of all models."""
    input:
        expand("{folder}/{file}", folder=VALIDATED, file=["panels.png", "panels"]),
        expand(
            "{folder}/{table}.{ending}",
            folder=SCORE_TABLES,
            table=["metrics", "metrics_per_patient"],
            ending=["tsv", "html"],
        ),
        expand(
            "{folder}/{figure}.{ending}",
            folder=SCORE_TABLES,
            figure=["patients", "confusion", "calibration", "thresholds"],
            ending=["png", "svg"],
        ),
        expand("{folder}/model_card.md", folder=TRAINED),
        [] if MODELS else expand("results/models/comparison.{ending}", ending=["tsv", "html", "png", "svg"]),
