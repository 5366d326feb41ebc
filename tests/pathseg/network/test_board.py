import sys
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pathseg.network.board import contact_sheet

sys.path.append(str(Path(__file__).parent))
from train_in_a_process import trainer_of


def test_pictures_are_the_image_its_truth_and_the_prediction():
    images = torch.full((1, 3, 6, 6), 7, dtype=torch.uint8)
    masks = torch.zeros(1, 6, 6, dtype=torch.uint8)
    masks[:, :, 3:] = 1
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 1
    sheet = contact_sheet(images, masks, logits)
    assert sheet.shape == (4, 12, 3)
    np.testing.assert_array_equal(sheet[0, :, 0], [7] * 4 + [0, 0, 255, 255] + [255] * 4)


def test_tensorboard_shows_losses_rates_and_pictures(folder):
    trainer_of(folder).run()
    events = EventAccumulator(str(folder / "state" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    for phase in ("train", "val"):
        assert {f"{phase}/{name}" for name in ("loss", "accuracy", "dice")} <= scalars
        rates = ("TP", "FP", "TN", "FN", "TPR", "FPR", "TNR", "FNR")
        assert {f"{phase}/{name}/{rate}" for name in "ab" for rate in rates} <= scalars
    assert [event.step for event in events.Scalars("learning_rate")] == [0, 1, 2]
    assert [event.step for event in events.Images("val/image_truth_prediction")] == [0, 1, 2]
