"""Images that are fetched from where they are published.

Out: the sample table that the configuration names, and the images beside it. Done once: the table is then there.
"""

if PROJECT.unfetched:

    rule fetch_archive:
        """Published images, verified and unpacked, and their sample table."""
        input:
            archive=storage.http(SETTINGS["archive"]["url"]),
        output:
            images=directory(PROJECT.unfetched),
            samples=SETTINGS["samples"],
        log:
            "<logs>/fetch_archive.log",
        benchmark:
            "<benchmarks>/fetch_archive.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(60),
        params:
            code=code("fetch_archive"),
            sha256=SETTINGS["archive"]["sha256"],
        message:
            "Fetch and unpack the images"
        script:
            "../scripts/fetch_archive.py"
