"""Models for other programs.

In: trained or given models, and predicted slides. Out: <results>/export/{experiment}/{fold}: ONNX graphs, a pixel
classifier for QuPath and a record; `all_folds` is the mean of all models that predict slides. And <results>/qupath, a
project of all slides.
"""

# What predicts slides, as one graph: the mean of the folds, or the one model.
EXPORTED = "all_folds" if MODELS or len(FOLDS) > 1 else FOLDS[0]
QUPATH_SCRIPTS = ["Import all predictions.groovy", "Import suggestions.groovy", "Export all annotations.groovy"]


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


rule package_model:
    """A package of a model for bioimage.io."""
    input:
        models=exported_models,
        graph=rules.export_model.output.graph_any_size,
        record=rules.export_model.output.record,
        cards=cards_of_exported,
    output:
        package="<results>/export/{experiment}/{fold}/bioimageio.zip",
    log:
        "<logs>/package_model/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/package_model/{experiment}.{fold}.tsv"
    conda:
        "../envs/export.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        code=code("package_model"),
        classes=SETTINGS["classes"],
        resolution={key: SETTINGS["prediction"][key] for key in ("mpp", "resize")},
    message:
        "Pack {wildcards.experiment}, {wildcards.fold}, for bioimage.io"
    script:
        "../scripts/package_model.py"


rule write_qupath_project:
    """A QuPath project of all slides: made, or added to; `update` keeps what a person has changed."""
    input:
        slides=files_of_slides,
        annotations=of_all_slides(rules.outline_slide.output.annotations),
        classifiers=made(rules.export_model.output.classifier, experiment=EXPERIMENTS, fold=EXPORTED),
        records=made(rules.export_model.output.record, experiment=EXPERIMENTS, fold=EXPORTED),
    output:
        project=update("<results>/qupath/project.qpproj"),
        record=update("<results>/qupath/pathseg/project.json"),
    log:
        "<logs>/write_qupath_project.log",
    benchmark:
        "<benchmarks>/write_qupath_project.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("write_qupath_project"),
        scripts=QUPATH_SCRIPTS,
        text=text_digest(*(f"qupath/{name}" for name in QUPATH_SCRIPTS)),
        slides=[{key: row[key] for key in ("slide", "mpp")} for row in SLIDES],
        experiments=EXPERIMENTS,
        classes=SETTINGS["classes"],
    message:
        "Bring all slides into a QuPath project"
    script:
        "../scripts/write_qupath_project.py"


rule qupath:
    """A QuPath project: open results/qupath/project.qpproj."""
    input:
        branch(SLIDES, then=rules.write_qupath_project.output, otherwise=no_slides),


rule export:
    """All models as ONNX graphs, for QuPath and for bioimage.io."""
    input:
        made(rules.export_model.output, experiment=EXPERIMENTS, fold=["all_folds"] if MODELS else SCORED),
        made(rules.package_model.output, experiment=EXPERIMENTS, fold=["all_folds"] if MODELS else SCORED),
