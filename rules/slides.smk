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


SLIDE_OUTPUT = {
    "classes": "<slide>/classes.tif",
    "annotations": "<slide>/annotations.geojson.gz",
    "summary": "<slide>/summary.json",
    **ON_REQUEST,
    "overlay": shown(OVERLAY, "6. Slides", "overlay", **SLIDE_LABELS) if FEW_SLIDES else OVERLAY,
}


if IN_BATCHES:

    rule list_batch:
        """The slides of a batch, for its job, which would divide them anew."""
        output:
            slides=temp("<batches>/{batch}.slides.json"),
        log:
            "<logs>/list_batch/{experiment}.{batch}.log",
        localrule: True
        conda:
            "../envs/data.yaml"
        container:
            None
        threads: 1
        resources:
            mem_mb=growing(100),
            runtime=growing(10),
        params:
            slides=slides_of_batch,
        message:
            "Write down the slides of batch {wildcards.batch} of {wildcards.experiment}"
        shell:
            "printf %s {params.slides:q} > {output.slides:q} 2> {log:q}"

    rule predict_batch:
        """Class maps, outlines, overlays and areas of several slides, by models that are read once."""
        input:
            models=prediction_models,
            slides=rules.list_batch.output.slides,
            drawn=DEMO_SLIDES,
        output:
            done="<batches>/{batch}.json",
        log:
            "<logs>/predict_batch/{experiment}.{batch}.log",
        benchmark:
            "<benchmarks>/predict_batch/{experiment}.{batch}.tsv"
        conda:
            "../envs/network.yaml"
        threads: 8
        resources:
            mem_mb=growing(8000),
            runtime=growing(240),
            gpu=1,
            last_attempt=last_attempt,
        params:
            code=code("predict_batch"),
            classes=SETTINGS["classes"],
            prediction=PREDICTION,
            objects=OBJECTS and OBJECTS["classes"],
            machine=on_this_machine,
            place=place_of_batch,
            outputs=names_of_outputs,
            slide_log=log_of_slide,
        message:
            "Predict batch {wildcards.batch} of the slides with {wildcards.experiment}"
        script:
            "../scripts/predict_batch.py"

    rule predict_slide:
        """Class map, outlines, overlay and areas of a slide, as its batch has made them; none if it has failed there."""
        input:
            models=prediction_models,
            slide=slide_file,
            companions=slide_companions,
            tissue=slide_tissue,
            batch=batch_of_slide,
        output:
            **SLIDE_OUTPUT,
        log:
            "<logs>/predict_slide/{experiment}/{slide}.log",
        priority: 1
        localrule: True
        conda:
            "../envs/network.yaml"
        container:
            None
        threads: 1
        resources:
            mem_mb=growing(100),
            runtime=growing(10),
        params:
            code=code("predict_batch"),
            mpp=slide_mpp,
            classes=SETTINGS["classes"],
            prediction=PREDICTION,
            objects=OBJECTS and OBJECTS["classes"],
            place=place_of_slide,
        message:
            "Predict {wildcards.slide} with {wildcards.experiment}"
        shell:
            """
            if [ ! -e {params.place:q}/log ]; then
                printf '%s: is to be predicted again, run once more\\n' {wildcards.slide:q} | tee {log:q}
                exit 1
            fi
            cp {params.place:q}/log {log:q}
            [ -e {params.place:q}/digest ]
            mv {params.place:q}/results/* "$(dirname {output.summary:q})"
            touch {output:q}
            rm -r {params.place:q}
            """

else:

    rule predict_slide:
        """Class map, outlines, overlay and areas of a slide."""
        input:
            models=prediction_models,
            slide=slide_file,
            companions=slide_companions,
            tissue=slide_tissue,
        output:
            **SLIDE_OUTPUT,
        log:
            "<logs>/predict_slide/{experiment}/{slide}.log",
        benchmark:
            "<benchmarks>/predict_slide/{experiment}/{slide}.tsv"
        conda:
            "../envs/network.yaml"
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
            objects=OBJECTS and OBJECTS["classes"],
            machine=on_this_machine,
            addresses=addresses,
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
