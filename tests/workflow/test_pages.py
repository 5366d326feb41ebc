"""The report and the slide viewer in a real browser."""

import json
import shutil
import time

import pytest

CATEGORIES = {
    "1. Cohort": 1,
    "2. What the network is fed": 1,
    "3. Training": 3,
    "4. Scores": 9,
    "5. Panels": 1,
    "6. Slides": 3,
    "7. The run": 4,
}
CLICK = """
const link = [...document.querySelectorAll("a")].find((a) => a.innerText.trim() === arguments[0]);
link.click();
"""
# What is shown, in short: a picture that has been decoded, or a table.
SHOWN = """
const image = [...document.images].find((i) => /^data:image.(png|jpeg)/.test(i.src) && i.naturalWidth > 0);
const shown = image || document.querySelector("iframe[src^='data:text/html']");
return shown && shown.src.slice(0, 60) + shown.src.length;
"""
VIEW = """[...document.querySelectorAll('a[iconname="eye"]')][arguments[0]].click()"""


@pytest.fixture
def report(project, browser):
    """The report, opened."""
    project.snakemake("--report", "results/report.html")
    browser.open(project.folder / "results/report.html")
    browser.wait_for("document.body.innerText.includes('1. Cohort')")
    return browser


def test_the_report_tells_the_whole_story(report):
    """Each section has its pictures and tables, and each of them shows."""
    shown = {None}
    for category, count in CATEGORIES.items():
        report.run(CLICK, category)
        report.wait_for(f"""document.querySelectorAll('a[iconname="eye"]').length === {count}""")
        for number in range(count):
            report.run(VIEW, number)
            while report.run(SHOWN) in shown:
                time.sleep(0.05)
            shown.add(report.run(SHOWN))
        report.run(CLICK, "Results")
        report.wait_for(f"document.body.innerText.includes({category!r})")
    assert report.errors() == []


def test_a_slide_is_looked_at(project, browser):
    """Zoom, classes and what is unsure on and off, opacity, and the scale bar."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which fetches OpenSeadragon")
    project.configure(prediction={"uncertainty": True})
    project.snakemake("view")
    browser.open(project.folder / "results/viewer/index.html")
    browser.run(CLICK, "slide 0")
    browser.wait_for("typeof viewer !== 'undefined' && viewer.world.getItemCount() === 3")
    browser.wait_for("viewer.world.getItemAt(0).getFullyLoaded() && viewer.world.getItemAt(1).getFullyLoaded()")
    assert browser.run("return document.getElementById('name').innerText") == "slide 0"
    assert "mm²" in browser.run("return document.querySelector('.area').innerText")
    said = json.loads((project.folder / "results/slides/default/slide 0/summary.json").read_text())["trust"]
    shown = browser.run("return document.getElementById('trust').innerText")
    assert shown == f"{said['word'].capitalize()}. {said['reason']}"
    bar = browser.run("return document.getElementById('scale-text').innerText")
    assert bar.endswith("µm")
    # The slide has 500 pixels of 0.5 µm, and the bar is as long as it says.
    width = browser.run("return viewer.world.getItemAt(0).getContentSize().x")
    assert width == 500
    pixels = browser.run("return parseFloat(document.getElementById('scale-bar').style.width)")
    zoom = browser.run("return viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true))")
    assert pixels * 0.5 / zoom == pytest.approx(float(bar.split()[0]), rel=0.01)
    browser.run("viewer.viewport.zoomTo(viewer.viewport.getMaxZoom(), null, true)")
    browser.wait_for("viewer.world.getItemAt(0).getFullyLoaded()")
    browser.wait_for(f"document.getElementById('scale-text').innerText !== '{bar}'")
    opacity = "viewer.world.getItemAt(1).getOpacity()"
    assert browser.run(f"return {opacity}") == pytest.approx(0.45)
    browser.run("document.querySelector('#classes input').click()")
    assert browser.run(f"return {opacity}") == 0
    browser.run("document.querySelector('#classes input').click()")
    slide = "const o = document.getElementById('opacity'); o.value = 80; o.dispatchEvent(new Event('input'))"
    browser.run(slide)
    assert browser.run(f"return {opacity}") == pytest.approx(0.8)
    unsure = "viewer.world.getItemAt(2).getOpacity()"
    assert browser.run(f"return {unsure}") == 0
    browser.run("document.querySelectorAll('#classes input')[1].click()")
    assert browser.run(f"return {unsure}") == pytest.approx(0.8)
    browser.wait_for("viewer.world.getItemAt(2).getFullyLoaded()")
    assert browser.errors() == []
    # Another look of the page is written into each.
    project.edit("scripts/viewer/viewer.css", lambda text: text + "body { color: red; }\n")
    assert project.planned("view") == {"write_viewer": 2, "list_viewers": 1, "view": 1}
