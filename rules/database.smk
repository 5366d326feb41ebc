"""Tile databases.

In: images and masks of a part. Out: <results>/databases/{part}.h5.
"""


rule build_database:
    """Tiles and masks of a part, in HDF5."""
    input:
        images=images_of_part,
        masks=masks_of_part,
        instances=instances_of_part,
        plan=plan_of_project,
    output:
        database="<results>/databases/{part}.h5",
    log:
        "<logs>/build_database/{part}.log",
    benchmark:
        "<benchmarks>/build_database/{part}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code("build_database"),
        rows=rows_of_part,
        tiles=SETTINGS["tiles"],
        classes=CLASS_VALUES,
        ignore_value=SETTINGS["ignore_value"],
        outside=SETTINGS["outside_annotations"],
        objects=OBJECTS,
        database=SETTINGS["database"],
        # Written down before anything learns from it. Not recorded: of others' parts no database depends.
        parts=part_of_each,
        parts_file=parts_file,
        split=split_settings,
    message:
        "Cut the tiles of {wildcards.part}"
    script:
        "../scripts/build_database.py"


rule databases:
    """All databases that training needs."""
    input:
        branch(MODELS, otherwise=rules.split_patients.output),
        branch(MODELS, otherwise=made(rules.build_database.output, part=[p for p in PARTS if p != "test"])),
