"""How good a model is on patients that it has not seen.

In: models, validation databases, and the images of validation and test. Out: <scores>, of a cross-validation also of
all folds together, model cards and a comparison of the experiments.
"""


rule render_panels:
    """Best, median and worst validation tiles."""
    input:
        model=rules.calibrate_model.output.model,
        database=validation_database,
    output:
        sheet=shown("<scores>/panels.png", "5. Panels", "panels", **MODEL_LABELS, figure="best, median, worst"),
        pictures=directory("<scores>/panels"),
    log:
        "<logs>/render_panels/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/render_panels/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
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
    """What is delivered, compared with the masks of unseen patients."""
    input:
        models=scored_models,
        images=scored_images,
        masks=scored_masks,
        instances=scored_instances,
    output:
        counts="<scores>/counts.npz",
    log:
        "<logs>/evaluate/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=growing(240),
        gpu=1,
    params:
        code=code("evaluate"),
        rows=scored_rows,
        parts=scored_parts,
        classes=CLASS_VALUES,
        ignore_value=SETTINGS["ignore_value"],
        outside=SETTINGS["outside_annotations"],
        prediction={key: PREDICTION[key] for key in ("tissue", "tissue_holes_um2", "tta", "mpp", "resize")},
        machine=on_this_machine,
        boundary_um=SETTINGS["scores"]["boundary_um"],
        objects=OBJECTS and OBJECTS["classes"],
        min_area_um2=OBJECTS and OUTLINES["min_area_um2"],
    message:
        "Compare {wildcards.experiment}, {wildcards.fold}, with the masks of unseen patients"
    script:
        "../scripts/evaluate.py"


rule summarize_scores:
    """Tables and figures of scores."""
    input:
        counts=counts_of_folds,
        calibrations=calibrations_of_folds,
    output:
        multiext(
            "<scores>/",
            metrics="metrics.tsv",
            per_patient="metrics_per_patient.tsv",
            trust="trust.tsv",
            patients_svg="patients.svg",
            confusion_svg="confusion.svg",
            calibration_svg="calibration.svg",
            thresholds_svg="thresholds.svg",
        ),
        metrics_html=score("metrics.html", "metrics", "overall"),
        per_patient_html=score("metrics_per_patient.html", "metrics", "by patient"),
        trust_html=score("trust.html", "trust", "when not to trust"),
        patients_png=score("patients.png", "patients", "by patient, drawn"),
        confusion_png=score("confusion.png", "confusion", "confusion"),
        calibration_png=score("calibration.png", "calibration", "calibration"),
        thresholds_png=score("thresholds.png", "thresholds", "by threshold"),
    log:
        "<logs>/summarize_scores/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/summarize_scores/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(15),
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
        model=rules.calibrate_model.output.model,
        training=training_databases,
        validation=validation_database,
        metrics=rules.summarize_scores.output.metrics,
        plan=plan_of_project,
    output:
        card="<model>/model_card.md",
    log:
        "<logs>/write_model_card/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/write_model_card/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
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
        counts=counts_of_experiments,
    output:
        multiext("<results>/models/comparison", table=".tsv", figure_svg=".svg"),
        table_html=comparison(".html", "side by side"),
        figure=comparison(".png", "side by side, drawn"),
    log:
        "<logs>/compare_experiments.log",
    benchmark:
        "<benchmarks>/compare_experiments.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("compare_experiments"),
        experiments=EXPERIMENTS,
        classes=SETTINGS["classes"],
    message:
        "Set the experiments side by side"
    script:
        "../scripts/compare_experiments.py"


rule validate:
    """Panels and scores of all models."""
    input:
        of_models(rules.render_panels, rules.write_model_card),
        of_models(rules.summarize_scores, fold=SCORED),
        branch(MODELS, otherwise=rules.compare_experiments.output + rules.split_patients.output),
