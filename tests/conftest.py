"""What several tests share: small pictures of tissue, networks, and folders of real data."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings

from pathseg.labels.drawing import PolygonDrawing
from pathseg.network.unet import UNet
from pathseg_demo.synthesis import draw_field, draw_patient

# What passed once passes again; `pytest --hypothesis-profile=default` draws cases that were never seen.
settings.register_profile("same cases", derandomize=True)
settings.load_profile("same cases")

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CLASSES = [
    {"name": "stroma", "mask_value": 0, "color": "#999999"},
    {"name": "epithelium", "mask_value": 255, "color": "#0072B2"},
]

# They train for minutes each, and are begun first, so that no process is left with one of them at the end.
LONGEST = ("test_demo_nuclei.py", "test_rare_class.py")


def pytest_collection_modifyitems(items):
    """Put the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def tissue_field():
    """An image uint8 [192, 256, 3] of synthetic tissue, and where it is epithelium, bool [192, 256]."""
    rng = np.random.default_rng(3)
    return draw_field(draw_patient(rng), 192, 256, rng)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real slides and images; tests that need it are skipped where the environment does not name one."""
    folder = os.environ.get("PATHSEG_TEST_DATA")
    if not folder:
        pytest.skip("PATHSEG_TEST_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A folder that is a disk of its own, of 256 KiB."""
    with mounted_disk(tmp_path / "disk", "256k") as folder:
        yield folder


@contextmanager
def mounted_disk(folder, size):
    """Make a folder that is an empty disk of its own."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here; that needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def small_unet(seed=0, **architecture):
    """Return a network with random weights, whose batch norm has statistics of its own, in evaluation mode."""
    torch.manual_seed(seed)
    network = UNet(**{"depth": 3, "wf": 2, **architecture})
    for name, values in network.named_buffers():
        if name.endswith("running_mean"):
            values.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
    return network.eval()


@torch.inference_mode()
def undecided_unet(image, **architecture):
    """Return a random network of two classes that gives either to half of the pixels of an image uint8 [H, W, 3]."""
    network = small_unet(**architecture)
    logits = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    network.last.bias[1] -= (logits[1] - logits[0]).median()
    return network


def write_image(path, rgb):
    """Write uint8 [H, W, 3] RGB, or [H, W] labels, as PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)
    return path


def pixels_inside(polygon, rectangle, scale):
    """Say which pixels have their centre in a polygon.

    Parameters
    ----------
    polygon
        In pixels of the finest level.
    rectangle
        x, y, width and height of the pixels in question, at their own resolution.
    scale
        Their pixels per pixel of the finest level, in x and y.

    Returns
    -------
    numpy.ndarray
        bool [height, width].
    """
    x, y, width, height = rectangle
    result = np.zeros((height, width), np.uint8)
    PolygonDrawing([polygon], [1], scale).draw(result, x, y)
    return result.astype(bool)
