"""Tile databases.

In: images and masks of a part. Out: results/databases/{part}.h5.
"""


def images_of_part(wildcards):
    """Return the images of a part."""
    return [row["image"] for row in part_rows(wildcards.part)]


def masks_of_part(wildcards):
    """Return the masks of a part."""
    return [row["mask"] for row in part_rows(wildcards.part)]


def digest_of_part(wildcards):
    """Return a digest of a part's rows in the split table."""
    return rows_digest(part_rows(wildcards.part))


rule build_database:
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
        database=SETTINGS["database"],
    message:
        "Cut the tiles of {wildcards.part}"
    script:
        "../scripts/build_database.py"


# Target: all databases that training needs.
rule databases:
    input:
        [] if MODELS else expand("results/databases/{part}.h5", part=[part for part in PARTS if part != "test"]),
