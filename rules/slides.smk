"""Predictions of whole slides.

In: trained or given models, and slides. Out: <slide>, and a summary of all.
"""

ON_REQUEST = {
    **({"probability": "<slide>/probability.tif"} if SETTINGS["prediction"]["probability"] else {}),
    **({"objects": "<slide>/objects.tsv.gz"} if OBJECTS else {}),
}
# Each overlay adds 0.7 MB to the report: of many slides it has the sheet of small pictures alone.
OVERLAY = "<slide>/overlay.jpg"
FEW_SLIDES = len(SLIDES) * len(EXPERIMENTS) <= 30


rule predict_slide:
    """Class map, outlines, overlay and areas of a slide."""
    input:
        models=prediction_models,
        slide=slide_file,
        companions=slide_companions,
        tissue=slide_tissue,
    output:
        multiext("<slide>/", classes="classes.tif", annotations="annotations.geojson.gz", summary="summary.json"),
        **ON_REQUEST,
        overlay=shown(OVERLAY, "6. Slides", "overlay", **SLIDE_LABELS) if FEW_SLIDES else OVERLAY,
    log:
        "<logs>/predict_slide/{experiment}/{slide}.log",
    benchmark:
        "<benchmarks>/predict_slide/{experiment}/{slide}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
        gpu=1,
    params:
        code=code("predict_slide"),
        mpp=slide_mpp,
        classes=SETTINGS["classes"],
        prediction=PREDICTION,
        machine=on_this_machine,
        addresses=addresses,
        objects=OBJECTS and OBJECTS["classes"],
    message:
        "Predict {wildcards.slide} with {wildcards.experiment}"
    script:
        "../scripts/predict_slide.py"


if MODELS and workflow.is_main_process:
    checked(
        refuse_other_models,
        MODELS,
        Path(rules.predict_slide.output.summary.replace("{experiment}", EXPERIMENTS[0])).parents[1],
    )


rule summarize_slides:
    """All slides at a glance, and their areas in one table."""
    input:
        summaries=made(rules.predict_slide.output.summary, slide=list(SLIDES_BY_NAME), allow_missing=True),
        overlays=made(rules.predict_slide.output.overlay, slide=list(SLIDES_BY_NAME), allow_missing=True),
    output:
        table="<results>/slides/{experiment}/summary.tsv",
        table_html=shown(
            "<results>/slides/{experiment}/summary.html",
            "6. Slides",
            "slides",
            experiment="{experiment}",
            slide="all, small, and a table",
        ),
    log:
        "<logs>/summarize_slides/{experiment}.log",
    benchmark:
        "<benchmarks>/summarize_slides/{experiment}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("summarize_slides"),
    message:
        "Put the areas of all slides into one table"
    script:
        "../scripts/summarize_slides.py"


rule predict:
    """Predictions of all slides."""
    input:
        made(rules.predict_slide.output, experiment=EXPERIMENTS, slide=list(SLIDES_BY_NAME)),
        branch(SLIDES, then=made(rules.summarize_slides.output, experiment=EXPERIMENTS)),
        branch(MODELS, otherwise=rules.split_patients.output),
