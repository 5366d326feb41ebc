"""Predict a slide, and keep what the networks say of it.

Outputs
-------
classes : tiled pyramidal TIFF, uint8
    Class indices at the model's resolution, in default colours.
confidence : tiled TIFF, uint8
    Probability of each pixel's class times 255; 0 where nothing was looked at.
insides : tiled TIFF, uint8
    1 inside of objects, 2 surely so. Only if the configuration asks for objects.
picture : JPEG
    The slide, small.
about : JSON
    What is known of the slide, and how the result came about.
probability : tiled pyramidal TIFF, uint8
    Probability of each class times 255, a plane for each class. Only if the configuration asks for it.
uncertainty : tiled pyramidal TIFF, uint8
    255 less the difference between the two highest of these. Only if the configuration asks for it.
"""

from pathseg.logs import start_log
from pathseg.network.devices import choose_devices
from pathseg.prediction.slides import SlidePredictor

if __name__ == "__main__":
    start_log(snakemake.log[0])
    params = snakemake.params
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    settings = {**params.prediction, **params.machine}
    predictor = SlidePredictor(
        list(snakemake.input.models), params.classes, settings, device, params.addresses, params.objects
    )
    row = {"slide": snakemake.wildcards.slide, "mpp": params.mpp, "tissue": snakemake.input.get("tissue")}
    predictor.predict(snakemake.input.slide, row, dict(snakemake.output.items()))
