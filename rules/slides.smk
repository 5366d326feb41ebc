"""Predictions of whole slides.

In: trained or given models, and slides. Out: results/slides/{experiment}/{slide} and a summary of all.
"""

SLIDE_FILES = {
    "classes": "results/slides/{experiment}/{slide}/classes.tif",
    "annotations": "results/slides/{experiment}/{slide}/annotations.geojson.gz",
    "summary": "results/slides/{experiment}/{slide}/summary.json",
}
if SETTINGS["prediction"]["probability"]:
    SLIDE_FILES["probability"] = "results/slides/{experiment}/{slide}/probability.tif"


rule predict_slide:
    """Class map, outlines, overlay and areas of a slide."""
    input:
        models=prediction_models,
        slide=slide_file,
        tissue=slide_tissue,
    output:
        **SLIDE_FILES,
        overlay=report(
            "results/slides/{experiment}/{slide}/overlay.jpg",
            category="6. Slides",
            caption="../report/overlay.rst",
            labels={"experiment": "{experiment}", "slide": "{slide}"},
        ),
    log:
        "results/logs/predict_slide/{experiment}/{slide}.log",
    benchmark:
        "results/benchmarks/predict_slide/{experiment}/{slide}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=240,
        gpu=1,
    params:
        code=code("predict_slide"),
        mpp=slide_mpp,
        classes=SETTINGS["classes"],
        prediction=SETTINGS["prediction"],
    message:
        "Predict {wildcards.slide} with {wildcards.experiment}"
    script:
        "../scripts/predict_slide.py"


rule summarize_slides:
    """Areas of all slides in one table."""
    input:
        summaries=expand("results/slides/{{experiment}}/{slide}/summary.json", slide=list(SLIDES_BY_NAME)),
    output:
        table="results/slides/{experiment}/summary.tsv",
        table_html=report(
            "results/slides/{experiment}/summary.html",
            category="6. Slides",
            caption="../report/slides.rst",
            labels={"experiment": "{experiment}", "slide": "all, as a table"},
        ),
    log:
        "results/logs/summarize_slides/{experiment}.log",
    benchmark:
        "results/benchmarks/summarize_slides/{experiment}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=10,
    params:
        code=code("summarize_slides"),
    message:
        "Put the areas of all slides into one table"
    script:
        "../scripts/summarize_slides.py"


rule predict:
    """Predictions of all slides."""
    input:
        expand(
            list(SLIDE_FILES.values()) + ["results/slides/{experiment}/{slide}/overlay.jpg"],
            experiment=EXPERIMENTS,
            slide=list(SLIDES_BY_NAME),
        ),
        expand(
            "results/slides/{experiment}/summary.{ending}",
            experiment=EXPERIMENTS if SLIDES else [],
            ending=["tsv", "html"],
        ),
