"""The documentation must say what the code does."""

import re
import sys

import docutils.core
import jinja2
import numpy as np
import pytest
import torch
import yaml

from conftest import CLASSES, PAGES, ROOT, undecided_unet, write_image
from pathseg.cohort.settings import load_schema, load_settings
from pathseg.network.checkpoint import save_checkpoint

sys.path.append(str(ROOT / "docs"))
from make_configuration import configuration_page

SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")


def test_the_configuration_page_is_made_from_the_schema():
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == configuration_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, place = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not place or place in places(other), target


def places(page):
    """Return what a link can lead to within a page: its headings, as hosts of repositories name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readmes_configuration_is_right():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    whole, experiments = (yaml.safe_load(block) for block in blocks)
    settings = load_settings(whole | experiments, SCHEMA)
    assert set(settings["experiments"]) == {"plain", "deeper", "no-stain-jitter"}


def test_the_readmes_example_predicts_an_array(tmp_path, monkeypatch, tissue_field):
    image, _ = tissue_field
    write_image(tmp_path / "image.png", image)
    network = undecided_unet(image)
    save_checkpoint(
        tmp_path / "best.pt", network.architecture | {"model_dict": network.state_dict(), "classes": CLASSES}
    )
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(example, found)
    with torch.inference_mode():
        logits = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    border = found["predictor"].border
    inside = np.s_[..., border:-border, border:-border]
    assert found["classes"].shape == image.shape[:2]
    assert (found["classes"] == logits.argmax(0).numpy())[inside].mean() > 0.999
    np.testing.assert_allclose(found["probabilities"][inside], logits.softmax(0).numpy()[inside], atol=0.01)
    assert found["class_names"](found["model"]) == ["stroma", "epithelium"]


def test_the_readme_names_the_snakemake_that_is_needed():
    (needed,) = re.findall(r'^min_version\("([\d.]+)"\)', (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert f"Snakemake {needed} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_demos_configuration_is_right():
    load_settings(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")), SCHEMA)


def test_each_weakness_of_the_tutorial_has_a_test():
    text = (ROOT / "docs" / "from-the-tutorial.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (B\d+) \|.*\|(.*)\|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [f"B{number}" for number in range(1, 26)]
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name, cell in rows:
        tests = re.findall(r"`(test_\w+)`", cell)
        assert tests, name
        for test in tests:
            assert f"def {test}(" in code, f"{name}: {test}"


@pytest.mark.parametrize("caption", sorted((ROOT / "report").glob("*.rst")), ids=lambda path: path.stem)
def test_a_caption_takes_any_name(caption):
    """A name that ends with an underscore is a link in reStructuredText."""
    job = {"wildcards": dict.fromkeys(("experiment", "fold", "slide"), "a_"), "params": {"layer": "a_"}}
    text = jinja2.Template(caption.read_text(encoding="utf-8")).render(snakemake=job)
    page = docutils.core.publish_parts(text, writer_name="html", settings_overrides={"warning_stream": False})["body"]
    assert "system-message" not in page


def test_the_picture_of_rules_shows_them_all():
    picture = (ROOT / "docs" / "images" / "rulegraph.svg").read_text(encoding="utf-8")
    rules = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    # Not of the default target: targets, the viewer, exports, and what is fetched.
    others = {"demo", "databases", "train", "validate", "predict", "view", "export", "qupath", "annotations", "suggest"}
    others |= {"measure", "measure_slide", "summarize_measurements"}
    others |= {"fetch_openseadragon", "write_viewer", "list_viewers", "export_model", "package_model", "fetch_archive"}
    others |= {"write_qupath_project", "take_annotations", "map_doubt", "suggest_regions"}
    # Where slides are not predicted in batches.
    others |= {"predict_slide"}
    # Nothing is left to the plan in the demo.
    others |= {"plan", "plan_settings", "draw_plan", "try_resolutions"}
    named = set(re.findall(r"(?:rule|checkpoint) (\w+):", rules))
    shown = set(re.findall(r">(\w+)</text>", picture))
    assert shown - {"all"} == named - others, "make the picture again, as docs/design.md says"
