"""How the run went.

In: what the run has made, and Snakemake's records of its jobs. Out: results/run: times, settings and versions.
"""


rule summarize_run:
    """Times, settings and versions."""
    input:
        rules.databases.input,
        rules.train.input,
        rules.validate.input,
        rules.predict.input,
    output:
        times="results/run/times.tsv",
        times_html=report(
            "results/run/times.html",
            category="7. The run",
            caption="../report/times.rst",
            labels={"what": "time and memory, as a table"},
        ),
        figure=report(
            "results/run/times.png",
            category="7. The run",
            caption="../report/times.rst",
            labels={"what": "time and memory"},
        ),
        settings="results/run/settings.tsv",
        settings_html=report(
            "results/run/settings.html",
            category="7. The run",
            caption="../report/settings.rst",
            labels={"what": "settings"},
        ),
        versions="results/run/versions.tsv",
        versions_html=report(
            "results/run/versions.html",
            category="7. The run",
            caption="../report/versions.rst",
            labels={"what": "versions"},
        ),
    log:
        "results/logs/summarize_run.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        code=code("summarize_run"),
        # Not inputs: they follow from the jobs whose outputs are.
        benchmarks="results/benchmarks",
        settings=SETTINGS,
    message:
        "Sum up the run"
    script:
        "../scripts/summarize_run.py"
