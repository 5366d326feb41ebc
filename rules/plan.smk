"""Settings that are left out, planned from the images of training patients.

Out: <results>/plan: what jobs read instead of `auto`, the whole configuration with reasons, and a figure.
"""

LABELLING = {"classes": CLASS_VALUES} | {key: SETTINGS[key] for key in ("ignore_value", "outside_annotations")}
# Resolutions are tried out where one is planned, and minutes are given for it.
TRIED = "tiles.mpp" in PLANNED and SETTINGS["plan"]["minutes"]


rule try_resolutions:
    """Which of two or three resolutions does best on training patients who are held out."""
    input:
        images=images_of_training,
        masks=masks_of_training,
        instances=instances_of_training,
    output:
        trials="<results>/plan/trials.tsv",
    log:
        "<logs>/try_resolutions.log",
    benchmark:
        "<benchmarks>/try_resolutions.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(60 + int(2 * (SETTINGS["plan"]["minutes"] or 0))),
        gpu=1,
    params:
        code=code("try_resolutions"),
        rows=rows_of_training,
        asked=plan_is_of(SETTINGS),
        labelling=LABELLING,
        folds=SETTINGS["split"]["folds"],
        minutes=SETTINGS["plan"]["minutes"],
        experiment=EXPERIMENTS[0],
        unet=unet_of_trials,
        training=training_of_trials,
        tiles=SETTINGS["tiles"],
        objects=OBJECTS,
        prediction={key: PREDICTION[key] for key in ("tissue", "tissue_holes_um2")},
        parts=part_of_each,
        parts_file=parts_file,
        split=split_settings,
    message:
        "Try out resolutions for {params.minutes} minutes"
    script:
        "../scripts/try_resolutions.py"


rule plan_settings:
    """What is left out of the settings."""
    input:
        images=images_of_training,
        masks=masks_of_training,
        instances=instances_of_training,
        trials=trials_of_project,
    output:
        settings="<results>/plan/planned.json",
    log:
        "<logs>/plan_settings.log",
    benchmark:
        "<benchmarks>/plan_settings.tsv"
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
    params:
        code=code("plan_settings"),
        rows=rows_of_training,
        asked=plan_is_of(SETTINGS),
        labelling=LABELLING,
        folds=SETTINGS["split"]["folds"],
        # Written down before anything hangs on it, as by build_database.
        parts=part_of_each,
        parts_file=parts_file,
        split=split_settings,
    message:
        "Plan the settings that are left out"
    script:
        "../scripts/plan_settings.py"


rule draw_plan:
    """The planned configuration, what it was planned from, and what a statistician would warn of."""
    input:
        plan=rules.plan_settings.output.settings,
        images=images_of_cohort,
        masks=masks_of_cohort,
        instances=instances_of_cohort,
    output:
        configuration="<results>/plan/plan.yaml",
        warnings="<results>/plan/warnings.txt",
        figure=shown("<results>/plan/plan.png", "1. Cohort", "plan", figure="what was planned, and from what"),
    log:
        "<logs>/draw_plan.log",
    benchmark:
        "<benchmarks>/draw_plan.tsv"
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
    params:
        code=code("draw_plan"),
        rows=rows_of_cohort,
        parts=PARTS,
        settings=SETTINGS,
        given=config,
    message:
        "Draw what was planned, and from what"
    script:
        "../scripts/draw_plan.py"


rule plan:
    """Settings that are left out, planned, with a figure: results/plan."""
    input:
        # A plan that is given as the configuration stays, with its reasons.
        branch(MODELS or plan_is_given(), otherwise=rules.plan_settings.output + rules.draw_plan.output),
