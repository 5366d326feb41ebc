"""Training, and what a person should see of it.

In: databases, and the images of training and validation patients. Out: <model>: trained.pt, and calibrated, best.pt; history.tsv,
tensorboard/ and pictures.
"""


rule preview_batches:
    """A picture of what the network is fed."""
    input:
        training=training_databases,
    output:
        preview=shown("<model>/preview.png", "2. What the network is fed", "preview", **MODEL_LABELS),
    log:
        "<logs>/preview_batches/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/preview_batches/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        code=code("preview_batches"),
        training=preview_settings,
        classes=SETTINGS["classes"],
    message:
        "Draw what {wildcards.experiment}, {wildcards.fold}, will be fed"
    script:
        "../scripts/preview_batches.py"


rule train_unet:
    """A trained network: its best epoch."""
    input:
        training=training_databases,
        validation=validation_database,
        init=init_model,
        plan=plan_of_project,
    output:
        model="<model>/trained.pt",
        history="<model>/history.tsv",
        tensorboard=directory("<model>/tensorboard"),
    log:
        "<logs>/train_unet/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/train_unet/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(1440),
        gpu=1,
    params:
        code=code("train_unet"),
        unet=unet_settings,
        training=training_settings,
        init=init_digest,
        classes=CLASS_VALUES,
        state=state_folder,
    message:
        "Train {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/train_unet.py"


rule calibrate_model:
    """The trained network, whose probabilities mean what they say, and that knows its training images: what predicts."""
    input:
        model=rules.train_unet.output.model,
        images=calibration_images,
        masks=calibration_masks,
        instances=calibration_instances,
        plan=plan_of_project,
        training=training_images,
    output:
        model="<model>/best.pt",
        table="<model>/calibration.tsv",
    log:
        "<logs>/calibrate_model/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/calibrate_model/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 8
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
        gpu=1,
    params:
        code=code("calibrate_model"),
        # A training that failed leaves no trained.pt, and an older best.pt must not pass for the new one.
        training=digest_of_training,
        rows=calibration_rows,
        training_rows=training_rows,
        classes=CLASS_VALUES,
        ignore_value=SETTINGS["ignore_value"],
        outside=SETTINGS["outside_annotations"],
        prediction={key: PREDICTION[key] for key in ("tissue", "tissue_holes_um2", "tta", "mpp", "resize")},
        machine=on_this_machine,
    message:
        "Calibrate {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/calibrate_model.py"


rule plot_training:
    """Learning curves."""
    input:
        history=rules.train_unet.output.history,
    output:
        curves=shown("<model>/curves.png", "3. Training", "curves", **MODEL_LABELS, figure="learning curves"),
    log:
        "<logs>/plot_training/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/plot_training/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("plot_training"),
    message:
        "Draw the learning curves of {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/plot_training.py"


rule visualize_network:
    """Pictures of what a layer has learned."""
    input:
        model=rules.calibrate_model.output.model,
        database=validation_database,
    output:
        kernels=shown("<model>/kernels.png", "3. Training", "kernels", **MODEL_LABELS, figure="kernels"),
        activations=shown("<model>/activations.png", "3. Training", "activations", **MODEL_LABELS, figure="activations"),
    log:
        "<logs>/visualize_network/{experiment}.{fold}.log",
    benchmark:
        "<benchmarks>/visualize_network/{experiment}.{fold}.tsv"
    conda:
        "../envs/network.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        code=code("visualize_network"),
        layer=SETTINGS["network_pictures"]["layer"],
        tile=SETTINGS["network_pictures"]["tile"],
    message:
        "Draw what a layer of {wildcards.experiment}, {wildcards.fold}, has learned"
    script:
        "../scripts/visualize_network.py"


rule train:
    """All trained models, with their pictures."""
    input:
        of_models(rules.preview_batches, rules.train_unet, rules.plot_training, rules.visualize_network),
        branch(MODELS, otherwise=rules.split_patients.output),


# A start that cannot be made is said before anything runs.
if workflow.is_main_process and not MODELS:
    for experiment in EXPERIMENTS:
        for fold in FOLDS:
            init_of(experiment, fold)
