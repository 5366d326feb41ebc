"""Measurements of a study.

In: predicted slides, and regions that a person has drawn. Out: <results>/slides/{experiment}/measurements.tsv.
"""


rule measure_slide:
    """Areas and objects of a slide, by region and band."""
    input:
        summary=rules.outline_slide.output.summary,
        classes=rules.outline_slide.output.classes,
        annotations=outlines_of_slide,
        objects=objects_of_slide,
        regions=slide_regions,
    output:
        **({"table": "<slide>/objects.parquet"} if OBJECTS else {}),
        sums="<slide>/measured.tsv",
    log:
        "<logs>/measure_slide/{experiment}/{slide}.log",
    benchmark:
        "<benchmarks>/measure_slide/{experiment}/{slide}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("measure_slide"),
        patient=patient_of_slide,
        margins=(SETTINGS["measurements"] or {}).get("margins"),
        told_apart=OBJECTS and OBJECTS["classes"],
    message:
        "Measure {wildcards.slide}, predicted with {wildcards.experiment}"
    script:
        "../scripts/measure_slide.py"


rule summarize_measurements:
    """All measurements in one table, and a figure."""
    input:
        sums=of_all_slides(rules.measure_slide.output.sums),
    output:
        table="<results>/slides/{experiment}/measurements.tsv",
        table_html=shown(
            "<results>/slides/{experiment}/measurements.html",
            "6. Slides",
            "measurements",
            experiment="{experiment}",
            slide="all, measured",
        ),
        figure=shown(
            "<results>/slides/{experiment}/measurements.png",
            "6. Slides",
            "measurements",
            experiment="{experiment}",
            slide="all, measured: figure",
        ),
    log:
        "<logs>/summarize_measurements/{experiment}.log",
    benchmark:
        "<benchmarks>/summarize_measurements/{experiment}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("summarize_measurements"),
        classes=SETTINGS["classes"],
        ratios=(SETTINGS["measurements"] or {}).get("ratios", []),
    message:
        "Put the measurements of all slides into one table"
    script:
        "../scripts/summarize_measurements.py"


rule measure:
    """Measurements of all slides."""
    input:
        branch(SLIDES, then=made(rules.summarize_measurements.output, experiment=EXPERIMENTS), otherwise=no_slides),
