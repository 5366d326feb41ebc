"""Tile databases.

In: images and masks of a part. Out: results/databases/{part}.h5.
"""


rule build_database:
    """Tiles and masks of a part, in HDF5."""
    input:
        # What matters of the split is in the parameter `rows`.
        split=ancient("results/cohort/split.tsv"),
        images=images_of_part,
        masks=masks_of_part,
    output:
        database="results/databases/{part}.h5",
    log:
        "results/logs/build_database/{part}.log",
    benchmark:
        "results/benchmarks/build_database/{part}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=120,
    params:
        code=code("build_database"),
        rows=digest_of_part,
        tiles=SETTINGS["tiles"],
        classes=CLASS_VALUES,
        ignore_value=SETTINGS["ignore_value"],
        outside=SETTINGS["outside_annotations"],
        database=SETTINGS["database"],
    message:
        "Cut the tiles of {wildcards.part}"
    script:
        "../scripts/build_database.py"


rule databases:
    """All databases that training needs."""
    input:
        [] if MODELS else expand("results/databases/{part}.h5", part=[part for part in PARTS if part != "test"]),
