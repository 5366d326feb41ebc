"""Predictions of whole slides, and what is made of them.

In: trained or given models, and slides. Out: <answer>, what the networks say, which is kept so that nothing is predicted
twice; of that <slide>, what people and programs read, and a summary of all.
"""

ANSWER = {
    "classes": "<answer>/classes.tif",
    "confidence": "<answer>/confidence.tif",
    **({"insides": "<answer>/insides.tif"} if OBJECTS else {}),
    "picture": "<answer>/picture.jpg",
    "about": "<answer>/about.json",
}
# Delivered as the networks have them.
AS_IT_IS = {key: f"<slide>/{key}.tif" for key in ("probability", "uncertainty") if SETTINGS["prediction"][key]}
# Each overlay adds 0.7 MB to the report: of many slides it has the sheet of small pictures alone.
OVERLAY = "<slide>/overlay.jpg"
FEW_SLIDES = len(SLIDES) * len(EXPERIMENTS) <= 30


SLIDE_OUTPUT = {
    "classes": "<slide>/classes.tif",
    "annotations": "<slide>/annotations.geojson.gz",
    "summary": "<slide>/summary.json",
    **({"objects": "<slide>/objects.tsv.gz"} if OBJECTS else {}),
    **({"object_map": "<slide>/objects.tif"} if OBJECTS and SETTINGS["objects"]["map"] else {}),
    "overlay": shown(OVERLAY, "6. Slides", "overlay", **SLIDE_LABELS) if FEW_SLIDES else OVERLAY,
}


if IN_BATCHES:

    rule list_batch:
        """The slides of a batch, for a job of it, which would divide them anew."""
        output:
            slides=temp("<batches>/{batch}.{stage}.slides.json"),
        log:
            "<logs>/list_batch/{experiment}.{batch}.{stage}.log",
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
        """What the networks say of several slides, by models that are read once."""
        input:
            models=prediction_models,
            slides="<batches>/{batch}.predict.slides.json",
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
            classes=CLASS_NAMES,
            prediction=PREDICTION,
            objects=OBJECTS and OBJECTS["classes"],
            machine=on_this_machine,
            answers=place_of_answers,
            files=names_of_answer,
            slide_log=log_of_slide,
        message:
            "Predict batch {wildcards.batch} of the slides with {wildcards.experiment}"
        script:
            "../scripts/predict_batch.py"

    rule outline_batch:
        """Class maps, outlines, overlays and areas of several slides, of what the networks say of them."""
        input:
            predicted=rules.predict_batch.output.done,
            slides="<batches>/{batch}.outline.slides.json",
        output:
            done="<batches>/{batch}.outlined.json",
        log:
            "<logs>/outline_batch/{experiment}.{batch}.log",
        benchmark:
            "<benchmarks>/outline_batch/{experiment}.{batch}.tsv"
        conda:
            "../envs/data.yaml"
        threads: 2
        resources:
            mem_mb=growing(4000),
            runtime=growing(120),
            last_attempt=last_attempt,
        params:
            code=code("outline_batch"),
            classes=CLASS_COLORS,
            outlines=OUTLINES,
            objects=OBJECTS and OBJECTS["classes"],
            answers=place_of_answers,
            files=names_of_answer,
            place=place_of_batch,
            outputs=names_of_outlines,
            slide_log=log_of_slide,
        message:
            "Outline batch {wildcards.batch} of the slides with {wildcards.experiment}"
        script:
            "../scripts/outline_batch.py"

    rule outline_slide:
        """Class map, outlines, overlay and areas of a slide, as its batch has made them; none if it has failed there."""
        input:
            unpack(outlined_from),
        output:
            **SLIDE_OUTPUT,
            **AS_IT_IS,
        log:
            "<logs>/outline_slide/{experiment}/{slide}.log",
        priority: 1
        localrule: True
        conda:
            "../envs/data.yaml"
        container:
            None
        threads: 1
        resources:
            mem_mb=100,
            runtime=10,
        params:
            as_it_is=[Path(path).name for path in AS_IT_IS.values()],
        message:
            "Outline {wildcards.slide} of {wildcards.experiment}"
        shell:
            """
            folder="$(dirname {output.summary:q})"
            answer="${{folder%/*/*/*}}/answers/"{wildcards.experiment:q}/{wildcards.slide:q}
            place="${{folder%/*}}/.outlined/"{wildcards.slide:q}
            if [ -e "$answer/failed" ]; then
                cp "$answer/log" {log:q}
                exit 1
            fi
            if [ ! -e "$place/log" ]; then
                printf '%s: is to be predicted again, run once more\\n' {wildcards.slide:q} | tee {log:q}
                exit 1
            fi
            cat "$answer/log" "$place/log" >{log:q}
            [ -e "$place/digest" ]
            mv "$place/results/"* "$folder"
            for name in {params.as_it_is:q}; do
                ln -f "$answer/$name" "$folder" || cp "$answer/$name" "$folder"
            done
            touch {output:q}
            rm -r "$place"
            """

else:

    rule predict_slide:
        """What the networks say of a slide."""
        input:
            models=prediction_models,
            slide=slide_file,
            companions=slide_companions,
            tissue=slide_tissue,
        output:
            **ANSWER,
            **AS_IT_IS,
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
            classes=CLASS_NAMES,
            prediction=PREDICTION,
            objects=OBJECTS and OBJECTS["classes"],
            machine=on_this_machine,
            addresses=addresses,
        message:
            "Predict {wildcards.slide} with {wildcards.experiment}"
        script:
            "../scripts/predict_slide.py"

    rule outline_slide:
        """Class map, outlines, overlay and areas of a slide, of what the networks say of it."""
        input:
            **ANSWER,
        output:
            **SLIDE_OUTPUT,
        log:
            "<logs>/outline_slide/{experiment}/{slide}.log",
        benchmark:
            "<benchmarks>/outline_slide/{experiment}/{slide}.tsv"
        conda:
            "../envs/data.yaml"
        threads: 2
        resources:
            mem_mb=growing(4000),
            runtime=growing(120),
        params:
            code=code("outline_slide"),
            classes=CLASS_COLORS,
            outlines=OUTLINES,
            objects=OBJECTS and OBJECTS["classes"],
        message:
            "Outline {wildcards.slide} of {wildcards.experiment}"
        script:
            "../scripts/outline_slide.py"


if MODELS and workflow.is_main_process:
    checked(
        refuse_other_models,
        MODELS,
        Path(rules.outline_slide.output.summary.replace("{experiment}", EXPERIMENTS[0])).parents[1],
    )


rule summarize_slides:
    """All slides at a glance, and their areas in one table."""
    input:
        summaries=of_all_slides(rules.outline_slide.output.summary),
        overlays=of_all_slides(rules.outline_slide.output.overlay),
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
        of_all_slides(
            [*rules.outline_slide.output, *(() if IN_BATCHES else map(rules.predict_slide.output.get, AS_IT_IS))]
        ),
        branch(SLIDES, then=made(rules.summarize_slides.output, experiment=EXPERIMENTS), otherwise=no_slides),
        branch(MODELS, otherwise=rules.split_patients.output),
