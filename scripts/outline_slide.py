"""Make of what the networks say of a slide what pathologists and programs read.

Outputs
-------
classes : tiled pyramidal TIFF, uint8
    Class indices at the model's resolution, in the classes' colours, with pixel size.
annotations : GeoJSON, compressed
    A polygon for each connected region of a class but the first, in pixels of the slide's finest level, with its area
    and mean probability; QuPath opens it.
overlay : JPEG
    The slide with the classes laid over it.
summary : JSON
    Area of each class in mm², and how the result came about.
objects : TSV, compressed
    A row for each object of the classes whose objects are told apart, with its place and measures in µm. Only if the
    configuration asks for it; the annotations then are the same objects, by the measurement `Object`.
object_map : tiled pyramidal TIFF, uint32
    The number of the object of each pixel, 0 for none. Only if the configuration asks for it.
"""

from pathlib import Path

from pathseg.logs import start_log
from pathseg.prediction.answers import Answer
from pathseg.prediction.outputs import write_outputs

if __name__ == "__main__":
    start_log(snakemake.log[0])
    params, wildcards = snakemake.params, snakemake.wildcards
    write_outputs(
        Answer({key: Path(path) for key, path in snakemake.input.items()}),
        # What another experiment finds on the slide are other annotations, also in one project of QuPath.
        f"{wildcards.experiment}/{wildcards.slide}",
        params.classes,
        params.outlines,
        params.objects,
        dict(snakemake.output.items()),
        snakemake.threads,
    )
