"""Try out two or three resolutions by training for equal times, on training patients alone.

Some of them are held out, and each network predicts their images as slides are, which is compared with their masks at
the masks' resolution. In a first round all resolutions share a third of the time; those that are clearly behind are not
tried any longer, and the others share the rest.

Outputs
-------
trials : TSV
    A row for each training, see `pathseg.planning.trials.choice`; none where there are too few patients.
"""

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pathseg.cohort.rows import with_files
from pathseg.cohort.splitting import note_parts
from pathseg.errors import as_list
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.label_maps import open_labels
from pathseg.logs import start_log
from pathseg.network.devices import choose_devices, prepare_gpu
from pathseg.network.optimisation import TrainingSettings
from pathseg.network.state import StateFolder
from pathseg.network.training import Trainer
from pathseg.network.unet import UNet
from pathseg.planning.choices import Cohort, choose, summed_up
from pathseg.planning.measures import measure_images
from pathseg.planning.trials import COLUMNS, held_out, lead, resolutions, still_open
from pathseg.prediction.comparing import is_small, predict_beside
from pathseg.prediction.inference import Predictor
from pathseg.scores.pixels import confusion_matrix, pixel_scores
from pathseg.table_files import save_tsv
from pathseg.tiles.batches import Tiles
from pathseg.tiles.cutting import LabelSettings, TileSettings, build
from pathseg.tiles.database import TileDatabase

log = logging.getLogger("pathseg")

Row = dict[str, Any]
# Of the time, in which those that are left are tried.
ROUNDS = (1 / 3, 2 / 3)
WITHOUT = {"complib": "none", "complevel": 1}


class Trials:
    """Trainings of one network at several resolutions.

    Parameters
    ----------
    params
        Of the rule.
    cohort
        What was measured of the training patients.
    rows
        Of the sample table: those to train on, and those to predict.
    device, threads
        Where to train, and what to cut tiles with.
    """

    def __init__(
        self, params: Any, cohort: Cohort, rows: tuple[list[Row], list[Row]], device: torch.device, threads: int
    ) -> None:
        self._params, self._cohort, self._rows = params, cohort, rows
        self._device, self._threads = device, threads

    def dice(self, mpp: float, minutes: float, folder: Path) -> np.ndarray:
        """Train for so many minutes in an empty folder; return the Dice of each image that was held out [n].

        It is the mean over the classes but the first.
        """
        asked = self._params.asked
        plan = choose(asked | {"tiles": asked["tiles"] | {"mpp": mpp}}, self._cohort).settings
        experiment = plan["experiments"][self._params.experiment]
        cutting = TileSettings(**self._params.tiles | plan["tiles"])
        objects = self._params.objects and self._params.objects | plan["objects"]
        labelling = LabelSettings(*self._labelling(), objects)
        paths = [folder / name for name in ("training.h5", "held_out.h5")]
        for path, rows in zip(paths, self._rows, strict=True):
            build(path, rows, cutting, labelling, WITHOUT, self._threads)
        # What is tried starts from random weights, and all of it is trained.
        training = self._params.training | experiment["training"] | {"minutes": minutes, "freeze": "none"}
        network = self._trained(paths, self._params.unet | experiment["unet"], training, folder / "state")
        predictor = Predictor([network], self._device, torch.float32)
        return np.array([self._dice_of(row, predictor, mpp) for row in self._rows[1]])

    def _labelling(self) -> tuple[list[dict[str, Any]], int | None, str]:
        labelling = self._params.labelling
        return labelling["classes"], labelling["ignore_value"], labelling["outside_annotations"]

    def _trained(self, paths: list[Path], unet: dict[str, Any], settings: dict[str, Any], state: Path) -> UNet:
        names = [class_["name"] for class_ in self._params.labelling["classes"]]
        edges = settings["edges"] == "distance"
        torch.manual_seed(settings["seed"])
        network = UNet(n_classes=len(names), insides=bool(self._params.objects), **unet)
        learned = copy.deepcopy(network)
        with TileDatabase(paths[0]) as training, TileDatabase(paths[1]) as validation:
            tiles = Tiles([training], edges), Tiles([validation], edges)
            # Nothing goes on from it: a trial that is killed is made again.
            kept = StateFolder(state, {})
            best = Trainer(network, *tiles, TrainingSettings.from_config(settings), names, self._device, kept).run()
        learned.load_state_dict(best["model_dict"])
        return learned.eval()

    def _dice_of(self, row: Row, predictor: Predictor, mpp: float) -> float:
        slide = open_slide(row["image"], row["mpp"])
        assert slide.mpp
        view, whole = ResampledSlide(slide, mpp / slide.mpp), ResampledSlide(slide, 1.0)
        # Of the masks of large images no more than the model's own pixels are compared.
        grid = whole if is_small(whole) else view
        labels = open_labels(row["mask"], grid, *self._labelling())
        confusion = np.zeros((predictor.n_classes,) * 2)
        settings = self._params.prediction | {"tile": None}
        for truth, band in predict_beside(labels, grid, view, predictor, settings):
            confusion += confusion_matrix(truth, band.classes, len(confusion))
        dice = pixel_scores(confusion)["dice"][1:]
        return float(np.nanmean(dice)) if np.isfinite(dice).any() else np.nan

    def run(self, minutes: float, folder: Path) -> pd.DataFrame:
        """Try in two rounds, in folders in a folder, and return the table of what was found."""
        left, table = resolutions(self._cohort), []
        for number, part in enumerate(ROUNDS, start=1):
            if len(left) < 2:
                break
            share, planned = part * minutes / len(left), left[0]
            found = {}
            for mpp in left:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    found[mpp] = self.dice(mpp, share, Path(own))
            for mpp, dice in found.items():
                row = (number, mpp, share, len(dice), float(np.nanmean(dice)), *lead(dice, found[planned]))
                table.append(dict(zip(COLUMNS, row, strict=True)))
                log.info("round %d: %g µm per pixel, %.3g minutes: Dice %.3f", number, mpp, share, row[4])
            left = still_open(found)
        return pd.DataFrame(table, columns=list(COLUMNS))


if __name__ == "__main__":
    start_log(snakemake.log[0])
    params, files = snakemake.params, snakemake.input
    if changes := note_parts(params.parts_file, params.parts, params.split):
        log.warning(as_list(changes))
    rows = with_files(params.rows, files.images, files.masks, files.get("instances", []))
    judged = held_out([row["patient"] for row in rows])
    table = pd.DataFrame(columns=list(COLUMNS))
    if judged:
        images = measure_images(rows, params.labelling | params.asked, snakemake.threads)
        names = [class_["name"] for class_ in params.labelling["classes"]]
        (device,) = choose_devices(min(1, snakemake.resources.get("gpu", 0)), snakemake.threads)
        prepare_gpu(device, same_shapes=True)
        parts = [row for row in rows if row["patient"] not in judged], [row for row in rows if row["patient"] in judged]
        trials = Trials(params, summed_up(images, names, params.asked, params.folds), parts, device, snakemake.threads)
        table = trials.run(params.minutes, Path(snakemake.output.trials).parent)
    else:
        log.warning("no resolution is tried out, because there are fewer than three training patients")
    save_tsv(table, snakemake.output.trials)
