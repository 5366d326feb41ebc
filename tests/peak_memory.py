"""Do one thing with a large slide in a process of its own, and print the largest memory that it took, in KiB."""

import re
import sys
from pathlib import Path

import numpy as np
import torch
from write_viewer import slide_strips, view_of

from conftest import small_unet
from pathseg.images.pyramids import PyramidWriter
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import open_slide
from pathseg.labels.tissue import find_tissue
from pathseg.prediction.inference import Predictor, predict_bands


class Noise:
    """A view of noise, that is drawn as it is read."""

    width, height = 12_000, 700

    def read(self, x, y, width, height):
        return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def tissue(path):
    """Search for tissue."""
    assert find_tissue(open_slide(path)).any()


def overlay(path):
    """Read the picture below an overlay."""
    slide = open_slide(path)
    assert ResampledSlide(slide, slide.width / 2048).read(0, 0, 2048, 2048).any()


def viewer(path):
    """Read what a viewer shows."""
    assert sum(strip.shape[0] for strip in slide_strips(view_of(path, 0.25, 0.5))) > 0


def classes(path):
    """Predict a hundred classes, and write their probabilities."""
    predictor = Predictor([small_unet(depth=3, n_classes=100)], torch.device("cpu"), torch.float32)
    with PyramidWriter(Path(path), Noise.width, Noise.height, 0.5, planes=100) as writer:
        for band in predict_bands(Noise(), predictor, None, None):
            writer.append(band.probabilities)


if __name__ == "__main__":
    {"tissue": tissue, "overlay": overlay, "viewer": viewer, "classes": classes}[sys.argv[1]](sys.argv[2])
    # Of this process alone: what `resource` tells begins with that of the process which started it.
    sys.stdout.write(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
