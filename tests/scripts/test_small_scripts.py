"""Functions of the scripts that draw and summarise."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from list_viewers import viewer_row
from make_demo_cohort import Paths, make_field
from make_demo_slides import write_slide
from plot_training import draw_curves
from preview_batches import draw_preview
from split_patients import count_pixels, draw_split
from summarize_slides import small_picture, summary_table
from visualize_network import chosen_tile, find_layer, layer_activations, layer_kernels
from write_qupath_project import by_experiment

from conftest import CLASSES, small_unet, write_image
from pathseg.errors import CheckpointError, ConfigError, ImageError
from pathseg.images.slides import open_slide
from pathseg.prediction.delivery import load_models
from pathseg_demo.synthesis import draw_patient


class TestPredict:
    def test_models_that_are_averaged_must_agree(self, tmp_path):
        nowhere = {"mpp": None, "resize": None}
        for name, extra in [
            ("a", {"mpp": 1.0, "classes": CLASSES}),
            ("b", {"mpp": 0.5, "classes": CLASSES}),
            ("c", {"mpp": 1.0, "classes": CLASSES[::-1]}),
            ("three", {"n_classes": 3}),
        ]:
            network = small_unet()
            torch.save(network.architecture | {"model_dict": network.state_dict()} | extra, tmp_path / name)
        path = {name: str(tmp_path / name) for name in ("a", "b", "c", "three")}
        assert len(load_models([path["a"], path["a"]], CLASSES, nowhere)) == 2
        with pytest.raises(CheckpointError, match="its mpp 0.5 differ from 1.0"):
            load_models([path["a"], path["b"]], CLASSES, nowhere)
        with pytest.raises(CheckpointError, match="its classes"):
            load_models([path["a"], path["c"]], CLASSES, nowhere)
        with pytest.raises(CheckpointError, match="3 classes without names"):
            load_models([path["three"]], CLASSES, nowhere)

    def test_a_table_of_all_slides(self):
        class_ = {
            "name": "gland",
            "pixels": 5,
            "area_mm2": 0.1,
            "share_of_tissue": 1,
            "mean_probability": 1,
            "regions": 2,
        }
        keys = ["slide", "file", "mpp", "mpp_source", "model_mpp", "tissue_share", "tissue_mm2", "seconds"]
        table = summary_table([dict.fromkeys(keys, n) | {"classes": [class_, class_]} for n in (1, 2)])
        assert list(table["slide"]) == [1, 1, 2, 2]
        assert set(table["class"]) == {"gland"}


class TestVisualize:
    def test_kernels_and_activations(self):
        network = small_unet(depth=2)
        layer = find_layer(network, "down_path.0.block.0")
        assert layer_kernels(layer, "x").shape == (4 * 3, 3, 3)
        image = torch.rand(3, 32, 32)
        activations = layer_activations(network, layer, image)
        np.testing.assert_allclose(activations, layer(image[None])[0].detach(), atol=1e-6)
        assert not layer._forward_hooks

    def test_a_tile_that_is_not_there_is_the_last(self):
        assert [chosen_tile(0, 1), chosen_tile(1, 1), chosen_tile(3, 9)] == [0, 0, 3]

    def test_layers_that_are_not_there(self):
        network = small_unet(depth=2)
        with pytest.raises(ConfigError, match=r"'x' is no layer.*down_path\.0\.block\.0"):
            find_layer(network, "x")
        with pytest.raises(ConfigError, match="BatchNorm2d, which has no kernels"):
            layer_kernels(find_layer(network, "down_path.0.block.2"), "down_path.0.block.2")


class TestDemo:
    def test_a_field_and_its_masks(self, tmp_path):
        """Nuclei are numbered from 1, each in one piece, and their mask is where the numbers are."""
        paths = Paths(*(str(tmp_path / f"{name}.png") for name in "imnk"))
        make_field(draw_patient(np.random.default_rng(0)), paths, np.random.default_rng(1))
        slide = open_slide(paths.image)
        assert (slide.width, slide.height) == (512, 512)
        numbers, nuclei = (cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in (paths.numbers, paths.nuclei))
        np.testing.assert_array_equal(nuclei == 255, numbers > 0)
        assert set(np.unique(numbers)) == set(range(numbers.max() + 1))
        assert numbers.max() > 300
        for number in range(1, 50):
            assert cv2.connectedComponents((numbers == number).astype(np.uint8), connectivity=4)[0] == 2

    def test_a_slide_has_a_pyramid_and_its_pixel_size(self, tmp_path, rng):
        write_slide(tmp_path / "s.tif", rng.integers(0, 255, (1200, 1500, 3), dtype=np.uint8))
        slide = open_slide(tmp_path / "s.tif")
        assert len(slide.levels) == 3
        assert slide.mpp == pytest.approx(0.5)


def test_pixels_of_masks_are_counted_in_order(tmp_path, rng):
    masks = [(rng.random((20, 20)) > share).astype(np.uint8) * 255 for share in (0.2, 0.5, 0.9)]
    paths = [str(write_image(tmp_path / f"{n}.png", mask)) for n, mask in enumerate(masks)]
    counts = count_pixels(paths, CLASSES, None, threads=2)
    np.testing.assert_array_equal(counts[:, 1], [(mask > 0).sum() for mask in masks])
    write_image(tmp_path / "1.png", np.full((20, 20), 3, np.uint8))
    with pytest.raises(ImageError, match=r"1\.png"):
        count_pixels(paths, CLASSES, None, threads=2)


def test_the_best_epoch_is_marked():
    history = pd.DataFrame({"epoch": [1, 2, 3], "val_dice": [0.5, 0.9, 0.8], "train_dice": [0.4, 0.5, 0.6]})
    for column in ("train_loss", "val_loss", "learning_rate"):
        history[column] = [3.0, 2.0, 1.0]
    texts = [text.get_text() for axes in draw_curves(history).axes for text in axes.texts]
    assert texts == ["best: 0.900\nepoch 2"]


def test_a_first_epoch_does_not_flatten_the_others():
    history = pd.DataFrame({"epoch": range(1, 9), "train_loss": 1.0, "val_loss": [50.0, *[0.5] * 7]})
    history[["val_dice", "train_dice", "learning_rate"]] = 0.5
    loss = draw_curves(history).axes[0]
    assert loss.get_ylim()[1] < 2
    assert loss.get_title(loc="left") == "Loss (validation up to 50.0 at first)"


def test_the_split_is_drawn_with_the_shares_of_the_classes():
    split = pd.DataFrame(
        {
            "patient": ["A", "A", "B"],
            "part": ["train", "train", "val"],
            "pixels_stroma": [10, 20, 10],
            "pixels_epithelium": [30, 40, 10],
        }
    )
    left, right = draw_split(split, ["train", "val"], CLASSES).axes
    assert [text.get_text().strip() for text in left.texts] == ["2 images of 1 patient", "1 image of 1 patient"]
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], [30, 50, 70, 50])
    np.testing.assert_allclose([bar.get_x() for bar in right.patches], [0, 0, 30, 50])


def test_the_preview_shows_what_is_fed_and_where_its_loss_is_raised(rng):
    images = rng.integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    changed, masks = rng.random((2, 8, 8, 3)), rng.integers(0, 2, (2, 8, 8), dtype=np.uint8)
    edges = np.zeros((2, 8, 8))
    edges[:, :4] = 1
    figure = draw_preview(images, changed, masks, edges, ["a", "b"], ["#999999", "#0072B2"], "its edges")
    stored, fed, _, outlined = (axes.images[0].get_array() for axes in figure.axes[4:])
    np.testing.assert_array_equal(stored, images[1])
    np.testing.assert_array_equal(fed, changed[1])
    np.testing.assert_array_equal(outlined[:4], np.broadcast_to((0, 1, 0), (4, 8, 3)))
    np.testing.assert_array_equal(outlined[4:], changed[1, 4:])


def test_small_pictures_keep_their_shape(tmp_path, rng):
    path = write_image(tmp_path / "wide.jpg", rng.integers(0, 255, (400, 1200, 3), dtype=np.uint8))
    content = base64.b64decode(small_picture(str(path), 90))
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == (30, 90, 3)


def test_a_qupath_project_has_the_predictions_of_each_experiment():
    assert by_experiment(list("abcd"), ["plain", "deep"]) == {"plain": ["a", "b"], "deep": ["c", "d"]}


def test_a_slide_is_listed_with_its_experiment_and_areas():
    """Of the classes but the first; in pixels where their size is not known."""
    classes = [{"name": "glass", "area_mm2": 9.0, "pixels": 9}, {"name": "gland", "area_mm2": 0.1234, "pixels": 5000}]
    summary = {"slide": "a<b", "mpp": 0.5, "classes": classes}
    assert viewer_row(Path("slides/deep/a<b"), summary) == {
        "slide": '<a href="slides/deep/a%3Cb/index.html">a&lt;b</a>',
        "experiment": "deep",
        "area": "gland 0.123 mm²",
        "trust": "–",
    }
    assert viewer_row(Path("slides/deep/x"), summary | {"trust": {"word": "unusual"}})["trust"] == "unusual"
    assert viewer_row(Path("slides/deep/x"), summary | {"mpp": None})["area"] == "gland 5,000 pixels"
