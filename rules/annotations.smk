"""What a person has annotated in QuPath comes back.

In: exported annotations. Out: rows of the sample table, copies of the exports beside it, and <results>/annotations: what
has changed.
"""


rule take_annotations:
    """Exported annotations become samples. The sample table is no output: it is a person's."""
    input:
        exports=exported_annotations,
    output:
        changes="<results>/annotations/changes.tsv",
    log:
        "<logs>/take_annotations.log",
    benchmark:
        "<benchmarks>/take_annotations.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("take_annotations"),
        table=SETTINGS["samples"],
        classes=CLASS_VALUES,
        cohort=cohort_before,
    message:
        "Take the regions that were annotated in QuPath"
    script:
        "../scripts/take_annotations.py"


rule annotations:
    """Exported annotations become samples: run Snakemake again to train with them."""
    input:
        rules.take_annotations.output,
