"""What a person annotates in QuPath: suggestions where, and what comes back.

In: models and slides. Out: <results>/suggestions. In: exported annotations. Out: rows of the sample table, copies of the
exports beside it, and <results>/annotations: what has changed.
"""


rule map_doubt:
    """Where on a slide models are unsure."""
    input:
        models=prediction_models,
        slide=slide_file,
        companions=slide_companions,
        tissue=slide_tissue,
    output:
        map="<results>/suggestions/{experiment}/maps/{slide}.npz",
    log:
        "<logs>/map_doubt/{experiment}/{slide}.log",
    benchmark:
        "<benchmarks>/map_doubt/{experiment}/{slide}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
        gpu=1,
    params:
        code=code("map_doubt"),
        mpp=slide_mpp,
        classes=SETTINGS["classes"],
        prediction={key: PREDICTION[key] for key in ("tissue", "tissue_holes_um2", "mpp", "resize")},
        side_um=SETTINGS["suggestions"]["side_um"],
        machine=on_this_machine,
    message:
        "Map where models of {wildcards.experiment} are unsure on {wildcards.slide}"
    script:
        "../scripts/map_doubt.py"


rule suggest_regions:
    """What is worth annotating next: never of patients who are held out."""
    input:
        maps=maps_of_suggested,
        slides=files_of_suggested,
        annotations=annotations_of_suggested,
        summaries=summaries_of_suggested,
        masks=masks_of_suggested,
    output:
        files=made("<results>/suggestions/{experiment}/{slide}.geojson", slide=list(SLIDES_BY_NAME), allow_missing=True),
        table="<results>/suggestions/{experiment}/suggestions.tsv",
        sheet=shown(
            "<results>/suggestions/{experiment}/suggestions.png",
            "8. Suggestions",
            "suggestions",
            experiment="{experiment}",
            slide="what to annotate next",
        ),
    log:
        "<logs>/suggest_regions/{experiment}.log",
    benchmark:
        "<benchmarks>/suggest_regions/{experiment}.tsv"
    localrule: True
    conda:
        "../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code("suggest_regions"),
        rows=rows_of_suggested,
        annotated=annotated_of_suggested,
        left_out=left_out_of_suggestions,
        all_slides=list(SLIDES_BY_NAME),
        classes=SETTINGS["classes"],
        outside=SETTINGS["outside_annotations"],
        how_many=SETTINGS["suggestions"]["count"],
    message:
        "Choose what to annotate next, for {wildcards.experiment}"
    script:
        "../scripts/suggest_regions.py"


rule suggest:
    """Regions that are worth annotating next, for QuPath."""
    input:
        branch(SLIDES, then=made(rules.suggest_regions.output, experiment=EXPERIMENTS), otherwise=no_slides),


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
