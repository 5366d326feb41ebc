"""Settings that are left out, planned from the images of training patients.

Out: <results>/plan: what jobs read instead of `auto`, the whole configuration with reasons, and a figure.
"""


rule plan_settings:
    """What is left out of the settings."""
    input:
        images=images_of_training,
        masks=masks_of_training,
        instances=instances_of_training,
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
        labelling={"classes": CLASS_VALUES} | {key: SETTINGS[key] for key in ("ignore_value", "outside_annotations")},
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
        branch(MODELS, otherwise=rules.plan_settings.output + rules.draw_plan.output),
