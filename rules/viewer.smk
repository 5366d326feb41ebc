"""A page for each slide, on which a person pans and zooms it with the classes laid over.

In: slides and their predictions. Out: <results>/viewer, a folder that any browser opens.
"""


rule fetch_openseadragon:
    """What draws slides in a browser."""
    output:
        library=directory("<results>/viewer/library"),
    log:
        "<logs>/fetch_openseadragon.log",
    benchmark:
        "<benchmarks>/fetch_openseadragon.tsv"
    localrule: True
    conda:
        "../envs/viewer.yaml"
    container:
        None  # the image has no npm, and npm needs the internet
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("fetch_openseadragon"),
        package=text_digest("viewer/package-lock.json"),
    message:
        "Fetch OpenSeadragon, which shows slides in a browser"
    script:
        "../scripts/fetch_openseadragon.py"


rule write_viewer:
    """A page to pan and zoom a slide."""
    input:
        **{key: path for key, path in AS_IT_IS.items() if key == "uncertainty"},
        slide=slide_file,
        companions=slide_companions,
        classes=rules.outline_slide.output.classes,
        summary=rules.outline_slide.output.summary,
    output:
        page=directory("<results>/viewer/slides/{experiment}/{slide}"),
    log:
        "<logs>/write_viewer/{experiment}/{slide}.log",
    benchmark:
        "<benchmarks>/write_viewer/{experiment}/{slide}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code("write_viewer"),
        page=text_digest("viewer/index.html", "viewer/viewer.css", "viewer/viewer.js"),
        classes=SETTINGS["classes"],
        mpp=SETTINGS["viewer"]["mpp"],
    message:
        "Write the page of {wildcards.slide}, {wildcards.experiment}"
    script:
        "../scripts/write_viewer.py"


rule list_viewers:
    """A page that lists those of all slides."""
    input:
        library=rules.fetch_openseadragon.output.library,
        pages=of_all_slides(rules.write_viewer.output.page),
        summaries=of_all_slides(rules.outline_slide.output.summary),
    output:
        page="<results>/viewer/index.html",
    log:
        "<logs>/list_viewers.log",
    benchmark:
        "<benchmarks>/list_viewers.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("list_viewers"),
    message:
        "List the pages of all slides"
    script:
        "../scripts/list_viewers.py"


rule view:
    """Pages for a browser: open results/viewer/index.html."""
    input:
        branch(SLIDES or not MODELS, then=rules.list_viewers.output, otherwise=no_slides),
