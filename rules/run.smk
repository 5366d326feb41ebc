"""How the run went.

In: what the run has made, and Snakemake's records of its jobs. Out: <results>/run: times, settings and versions.
"""


rule summarize_run:
    """Times, settings and versions."""
    input:
        rules.databases.input,
        rules.train.input,
        rules.validate.input,
        rules.predict.input,
        branch(MEASURED, then=rules.measure.input),
        branch(PLANNED, then=rules.draw_plan.output),
        plan=plan_of_project,
    output:
        multiext("<results>/run/", times="times.tsv", settings="settings.tsv", versions="versions.tsv"),
        times_html=about_run("times.html", "times", "time and memory, as a table"),
        figure=about_run("times.png", "times", "time and memory"),
        settings_html=about_run("settings.html", "settings", "settings"),
        versions_html=about_run("versions.html", "versions", "versions"),
    log:
        "<logs>/summarize_run.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("summarize_run"),
        # Not inputs: they follow from the jobs whose outputs are.
        benchmarks=benchmark_folder,
        jobs=jobs_of_workflow,
        settings=SETTINGS,
    message:
        "Sum up the run"
    script:
        "../scripts/summarize_run.py"
