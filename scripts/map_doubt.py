"""Map where on a slide models are unsure: those of the folds together, or one that sees it in eight ways.

Outputs
-------
map : NPZ
    See `pathseg.prediction.doubt.DoubtMap`.
"""

from pathseg.errors import ResolutionError
from pathseg.files import atomic_path
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import choose_tissue
from pathseg.logs import start_log
from pathseg.network.devices import choose_devices
from pathseg.network.precision import prediction_type
from pathseg.prediction.delivery import load_networks, view_of_model
from pathseg.prediction.doubt import Doubt, map_doubt
from pathseg.prediction.suggesting import STEPS

if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    params, paths = snakemake.params, list(snakemake.input.models)
    (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
    settings = {**params.prediction, **params.machine}
    models, networks = load_networks(paths, params.classes, settings)
    dtype = prediction_type(settings["precision"], networks[0], device, models[0].get("precision"))
    slide = open_slide(snakemake.input.slide, params.mpp)
    if slide.mpp is None:
        raise ResolutionError(
            f"{slide.path}: nothing is suggested on it, because its µm per pixel is not known; say it in the column "
            "`mpp` of the slide table"
        )
    view = view_of_model(models[0], slide)
    mpp = slide.mpp * view.downsample
    found = map_doubt(
        view,
        mpp,
        view.downsample,
        Doubt(networks, device, dtype, tta=len(networks) == 1),
        max(1, round(params.side_um / STEPS / mpp)),
        settings["tile"],
        choose_tissue(slide, snakemake.input.get("tissue"), settings["tissue"], settings["tissue_holes_um2"]),
    )
    with atomic_path(snakemake.output.map) as temporary:
        found.save(temporary)
    mean = found.sums.sum() / max(found.tissue.sum(), 1)
    log.info("%s: %.4f nats of doubt on %.2f mm²", slide.path, mean, found.tissue.sum() / 1e6)
