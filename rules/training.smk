"""Training, and what a person should see of it.

In: results/databases. Out: results/models/{experiment}/{fold}: best.pt, history.tsv, tensorboard/ and pictures.
"""


rule preview_batches:
    """A picture of what the network is fed."""
    input:
        training=training_databases,
    output:
        preview=report(
            "results/models/{experiment}/{fold}/preview.png",
            category="2. What the network is fed",
            caption="../report/preview.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}"},
        ),
    log:
        "results/logs/preview_batches/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/preview_batches/{experiment}.{fold}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=15,
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
    output:
        model="results/models/{experiment}/{fold}/best.pt",
        history="results/models/{experiment}/{fold}/history.tsv",
        tensorboard=directory("results/models/{experiment}/{fold}/tensorboard"),
    log:
        "results/logs/train_unet/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/train_unet/{experiment}.{fold}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=1440,
        gpu=1,
    params:
        code=code("train_unet"),
        unet=unet_settings,
        training=training_settings,
        classes=CLASS_VALUES,
    message:
        "Train {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/train_unet.py"


rule plot_training:
    """Learning curves."""
    input:
        history="results/models/{experiment}/{fold}/history.tsv",
    output:
        curves=report(
            "results/models/{experiment}/{fold}/curves.png",
            category="3. Training",
            caption="../report/curves.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "figure": "learning curves"},
        ),
    log:
        "results/logs/plot_training/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/plot_training/{experiment}.{fold}.tsv"
    localrule: True
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        code=code("plot_training"),
    message:
        "Draw the learning curves of {wildcards.experiment}, {wildcards.fold}"
    script:
        "../scripts/plot_training.py"


rule visualize_network:
    """Pictures of what a layer has learned."""
    input:
        model="results/models/{experiment}/{fold}/best.pt",
        database=validation_database,
    output:
        kernels=report(
            "results/models/{experiment}/{fold}/kernels.png",
            category="3. Training",
            caption="../report/kernels.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "figure": "kernels"},
        ),
        activations=report(
            "results/models/{experiment}/{fold}/activations.png",
            category="3. Training",
            caption="../report/activations.rst",
            labels={"experiment": "{experiment}", "fold": "{fold}", "figure": "activations"},
        ),
    log:
        "results/logs/visualize_network/{experiment}.{fold}.log",
    benchmark:
        "results/benchmarks/visualize_network/{experiment}.{fold}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=15,
    params:
        code=code("visualize_network"),
        layer=SETTINGS["network_pictures"]["layer"],
        tile=SETTINGS["network_pictures"]["tile"],
    message:
        "Draw what a layer of {wildcards.experiment}, {wildcards.fold}, has learned"
    script:
        "../scripts/visualize_network.py"


TRAINED = [] if MODELS else expand("results/models/{experiment}/{fold}", experiment=EXPERIMENTS, fold=FOLDS)


rule train:
    """All trained models, with their pictures."""
    input:
        expand("{folder}/{file}", folder=TRAINED, file=["best.pt", "history.tsv", "tensorboard"]),
        expand("{folder}/{picture}.png", folder=TRAINED, picture=["preview", "curves", "kernels", "activations"]),
        [] if MODELS else "results/cohort/split.png",
