import numpy as np
import torch

from conftest import CLASSES, write_image
from pathseg.network.unet import UNet
from pathseg.prediction.inference import Predictor
from pathseg.prediction.insides import choose_probabilities, count_images

SETTINGS = {"tile": 32, "tissue": "none", "tissue_holes_um2": 4e6}
LABELS = {"classes": CLASSES, "ignore_value": 7, "outside": "ignore"}


def test_of_probabilities_that_find_as_well_those_that_count_best_are_taken():
    # True, predicted and found objects; F1 is 0.6, 0.85, 0.847 and 0.8.
    counts = {(0.3, 0.9): (100, 100, 60), (0.4, 0.9): (100, 80, 76.5), (0.4, 0.97): (100, 96, 83)}
    counts |= {(0.5, 0.9): (100, 100, 80)}
    assert choose_probabilities(counts) == (0.4, 0.97)
    # Too many is as wrong as too few.
    assert choose_probabilities(counts | {(0.5, 0.9): (100, 130, 97.75)}) == (0.4, 0.97)
    # Ten objects say nothing.
    assert choose_probabilities({(0.3, 0.9): (10, 10, 10), (0.5, 0.9): (10, 10, 5)}) == (0.5, 0.9)


def test_objects_of_images_are_counted_for_each_pair_of_probabilities(tmp_path):
    """Of a network that is surer of an object's middle than of the gap beside it, and not quite sure of a third one."""
    numbers = np.zeros((64, 64), np.uint8)
    numbers[8:28, 8:56], numbers[30:50, 8:56] = 1, 2
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:50, 8:56] = 160
    image[8:28, 8:56] = image[30:50, 8:56] = 250
    image[56:62, 8:56], numbers[56:62, 8:56] = 225, 3
    network = UNet(depth=1, wf=1, batch_norm=False, insides=True)
    with torch.no_grad():
        for values in network.parameters():
            values.zero_()
        for layer in (network.down_path[0].block[0], network.down_path[0].block[2]):
            layer.weight[0, 0, 1, 1] = 1
        # The class from a grey of 128 on; inside with 0.6 at one of 160, 0.93 at one of 225 and 0.975 at one of 250.
        slope = 3.26 * 255 / 90
        network.last.weight[1:, 0, 0, 0] = torch.tensor([100.0, slope])
        network.last.bias[1:] = torch.tensor([-50.0, 0.405 - slope * 160 / 255])
    row = {"mpp": 0.5, "instances": str(write_image(tmp_path / "numbers.png", numbers))}
    row["image"] = str(write_image(tmp_path / "image.png", image))
    row["mask"] = str(write_image(tmp_path / "mask.png", np.where(image[..., 0] > 0, 255, 0).astype(np.uint8)))
    model = {"mpp": 0.5, "resize": None, "objects": {"classes": ["epithelium"], "shrink": 1}}
    predictor = Predictor([network.eval()], torch.device("cpu"), torch.float32)
    counts = count_images([row], predictor, model, SETTINGS, LABELS)
    # With the gap inside, two are one; the third is no object where more is asked for.
    expected = {(0.5, 0.9): (3, 2, 2), (0.5, 0.97): (3, 1, 1), (0.7, 0.9): (3, 3, 3), (0.7, 0.97): (3, 2, 2)}
    # The lowest that is tried, and one between the sure ones.
    expected |= {(0.2, 0.9): (3, 2, 2), (0.7, 0.95): (3, 2, 2)}
    assert {pair: tuple(counts[pair]) for pair in expected} == expected
