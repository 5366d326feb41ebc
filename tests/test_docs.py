"""The documentation must say what the code does."""

import re
import sys

import pytest
import yaml

from conftest import ROOT
from pathseg.settings import load_schema, load_settings

sys.path.append(str(ROOT / "docs"))
from make_configuration import configuration_page

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCHEMA = load_schema(ROOT / "config" / "schemas" / "config.schema.yaml")


def test_the_configuration_page_is_made_from_the_schema():
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == configuration_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readmes_configuration_is_right():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    whole, experiments = (yaml.safe_load(block) for block in blocks)
    settings = load_settings(whole | experiments, SCHEMA)
    assert set(settings["experiments"]) == {"plain", "deeper", "no-stain-jitter"}


def test_the_demos_configuration_is_right():
    load_settings(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")), SCHEMA)
