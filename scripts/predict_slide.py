"""Predict a slide, and write what pathologists and programs read.

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
probability : tiled pyramidal TIFF, uint8
    Probability of each class times 255, a plane for each class. Only if the configuration asks for it.
objects : TSV, compressed
    A row for each object of the classes whose objects are told apart, with its place and measures in µm. Only if the
    configuration asks for it; the annotations then are the same objects, by the measurement `Object`.
"""

from pathseg.logs import start_log
from pathseg.network.devices import choose_devices
from pathseg.prediction.slides import SlidePredictor

if __name__ == "__main__":
    start_log(snakemake.log[0])
    params, wildcards = snakemake.params, snakemake.wildcards
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    settings = {**params.prediction, **params.machine}
    predictor = SlidePredictor(
        list(snakemake.input.models), params.classes, settings, device, params.addresses, params.objects
    )
    row = {
        "slide": wildcards.slide,
        # What another experiment finds on the slide are other annotations, also in one project of QuPath.
        "key": f"{wildcards.experiment}/{wildcards.slide}",
        "mpp": params.mpp,
        "tissue": snakemake.input.get("tissue"),
    }
    predictor.predict(snakemake.input.slide, row, dict(snakemake.output.items()))
