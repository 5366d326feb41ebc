"""Models for other programs.

In: trained or given models. Out: <results>/export/{experiment}/{fold}: ONNX graphs, a pixel classifier for QuPath and a
record; `all_folds` is the mean of all models that predict slides.
"""


rule export_model:
    """ONNX graphs of a model, and what QuPath needs to run it."""
    input:
        models=exported_models,
    output:
        multiext(
            "<results>/export/{experiment}/{fold}/",
            graph="model.onnx",
            graph_any_size="model_any_size.onnx",
            classifier="pixel_classifier.json",
            record="export.json",
        ),
    log:
        "<logs>/export_model/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/export_model/{experiment}.{fold}.tsv"
    conda:
        "../envs/export.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code("export_model"),
        classes=SETTINGS["classes"],
        resolution={key: SETTINGS["prediction"][key] for key in ("mpp", "resize")},
        settings=SETTINGS["export"],
    message:
        "Export {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/export_model.py"


rule export:
    """All models as ONNX graphs and for QuPath."""
    input:
        made(rules.export_model.output, experiment=EXPERIMENTS, fold=["all_folds"] if MODELS else SCORED),
