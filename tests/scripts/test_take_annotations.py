import json

import pandas as pd
import pytest
import shapely
from shapely.geometry import mapping
from take_annotations import Cohort, take_all

from conftest import CLASSES, ROOT, write_image
from pathseg.cohort.additions import part_of, with_rows
from pathseg.cohort.settings import load_schema
from pathseg.cohort.tables import read_samples

SPLIT = {"val": 0.2, "test": 0.2, "folds": None, "seed": 1}
SCHEMA = load_schema(ROOT / "config/schemas/samples.schema.yaml")


def annotation(geometry, name, title=None):
    properties = {"objectType": "annotation", "classification": {"name": name}} | ({"name": title} if title else {})
    return json.loads(json.dumps({"type": "Feature", "geometry": mapping(geometry), "properties": properties}))


REGION = annotation(shapely.box(10, 10, 50, 40), "Region*")
GLAND = annotation(shapely.box(20, 20, 30, 30), "epithelium")


class Place:
    """A folder with a sample table of three patients and two slides, and what is exported of these."""

    def __init__(self, folder, picture):
        self.folder = folder
        for name in ("data/i0.png", "data/i1.png", "data/i2.png", "data/m.png", "scans/S1.png", "scans/S2.png"):
            write_image(folder / name, picture)
        self.table = folder / "data/samples.tsv"
        lines = ["note\tsample\tpatient\timage\tmask", *(f"mine {n}\ta{n}\tP{n}\ti{n}.png\tm.png" for n in range(3))]
        # As a spreadsheet on Windows writes it.
        self.table.write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode() + b"\r\n")
        self.slides = {
            name: {"slide": name, "path": str(folder / f"scans/{name}.png"), "mpp": 0.5, "patient": patient}
            for name, patient in [("S1", "P0"), ("S2", "new")]
        }
        self.placed = {"P0": "val", "P1": "train", "P2": "test"}

    def export(self, *features, slide="S1", name=None, project=None):
        path = self.folder / "exports" / f"{name or slide}.geojson"
        path.parent.mkdir(exist_ok=True)
        mark = {"pathseg": {"slide": slide, "project": project}} if project else {}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | mark))
        return str(path)

    def take(self, *paths, **changes):
        before = {"samples": read_samples(self.table, SCHEMA), "placed": self.placed, "split": SPLIT}
        before |= {"slides": self.slides, "classes": CLASSES, "project": None}
        return take_all(list(paths), Cohort(self.table, **before | changes))


@pytest.fixture
def place(tmp_path, tissue_field):
    return Place(tmp_path, tissue_field[0])


def test_a_slide_becomes_a_sample_of_its_patient_and_the_table_stays_as_it_is(place):
    before = place.table.read_bytes()
    changes, added, said, refused = place.take(place.export(REGION, GLAND), place.export(REGION, slide="S2"))
    assert (added, said, refused) == (["S1", "S2"], [], [])
    after = place.table.read_bytes()
    first, rest = before.split(b"\r\n", 1)
    assert after.startswith(first + b"\tmpp\tpart\r\n" + rest)
    rows = {row["sample"]: row for row in read_samples(place.table, SCHEMA)}
    assert [rows[name]["patient"] for name in ("S1", "S2")] == ["P0", "new"]
    # P0 is in validation and stays there by `parts.json`; who is new is learned from.
    assert [rows[name]["part"] for name in ("a0", "S1", "S2")] == [None, None, "train"]
    assert [rows[name]["mpp"] for name in ("a0", "S1")] == [None, 0.5]
    assert (place.folder / "data/annotations/S1.geojson").read_bytes() == (
        place.folder / "exports/S1.geojson"
    ).read_bytes()
    assert changes.to_dict("records")[0] == {
        "slide": "S1", "patient": "P0", "what": "added", "x": 10.0, "y": 10.0, "width": 40.0, "height": 30.0,
        "annotations": 1, "file": "S1.geojson",
    }  # fmt: skip


def test_what_has_changed_is_said_and_what_is_lost_is_kept(place):
    other, third = (annotation(shapely.box(x, 50, x + 20, 70), "Region*") for x in (10, 60))
    place.take(place.export(REGION, other))
    table, mask = place.table.read_bytes(), place.folder / "data/annotations/S1.geojson"
    copy = mask.read_bytes()
    far = annotation(shapely.box(200, 100, 220, 120), "epithelium")
    changes, added, _, _ = place.take(place.export(REGION, other, far))
    assert (list(changes["what"]), added, mask.read_bytes()) == (["unchanged"] * 2, [], copy)
    changes, added, _, refused = place.take(place.export(REGION, GLAND, third))
    assert (list(changes["what"]), added, refused) == (["changed", "added", "gone"], [], [])
    assert place.table.read_bytes() == table
    assert [path.read_bytes() for path in (mask.parent / "earlier").iterdir()] == [copy]
    changes, _, said, _ = place.take(place.export(GLAND))
    assert list(changes["what"]) == ["kept", "kept"]
    assert "has no region any more" in said[0]
    assert json.loads(mask.read_text())["features"] == [REGION, GLAND, third]


def test_a_suggestion_is_taken_only_when_it_is_done(place):
    waiting = annotation(shapely.box(10, 10, 50, 40), "Region*", "to do 1")
    _, added, said, refused = place.take(place.export(waiting, GLAND))
    assert (added, refused) == ([], [])
    assert "1 suggested regions are still to do" in said[0]
    done = annotation(shapely.box(10, 10, 50, 40), "Region*", "done")
    assert place.take(place.export(done, GLAND))[1] == ["S1"]


def test_what_a_person_has_written_stays(place):
    path = place.export(REGION)
    place.take(path)
    mask = place.folder / "data/annotations/S1.geojson"
    mask.write_text(mask.read_text() + "\n")
    edited = mask.read_bytes()
    assert "was edited since it was taken" in place.take(place.export(REGION, GLAND))[3][0]
    assert mask.read_bytes() == edited
    mask.unlink()
    assert list(place.take(path)[0]["what"]) == ["added"]
    text = place.table.read_text(encoding="utf-8-sig").replace("annotations/S1.geojson", "m.png")
    place.table.write_text(text)
    assert "is this slide and has the mask" in place.take(place.export(REGION, GLAND))[3][0]
    assert place.table.read_text() == text


def test_what_is_odd_is_said_and_taken(place):
    half = annotation(shapely.box(40, 20, 60, 30), "epithelium")
    rim = annotation(shapely.box(240, 10, 300, 40), "Region*")
    _, added, said, refused = place.take(place.export(REGION, half, rim))
    assert (added, refused) == (["S1"], [])
    assert any("1 annotations reach out of their region" in sentence for sentence in said)
    assert any("1 regions reach over the slide's rim" in sentence for sentence in said)


def test_one_that_is_wrong_does_not_keep_the_others(place):
    unknown = annotation(shapely.box(20, 20, 30, 30), "necrosis")
    _, added, _, refused = place.take(place.export(REGION, unknown), place.export(REGION, slide="S2"))
    assert added == ["S2"]
    assert "add {name: 'necrosis', mask_value: 256}" in refused[0]
    assert not (place.folder / "data/annotations/S1.geojson").exists()
    # Outside of the regions nobody has to know it.
    far = annotation(shapely.box(100, 100, 130, 130), "necrosis")
    assert place.take(place.export(REGION, far))[1] == ["S1"]


def test_the_parts_of_new_patients():
    samples = [{"patient": f"P{n}", "part": None} for n in range(4)]
    placed = {"P0": "fold1", "P1": "fold1", "P2": "fold2", "P3": "test", "gone": "test"}
    folds = SPLIT | {"folds": 2}
    assert part_of("new", samples, placed, folds) == "fold2"
    assert part_of("gone", samples, placed, folds) == ""
    assert part_of("P3", [*samples, {"patient": "P3", "part": "test"}][::-1], placed, folds) == "test"
    assert part_of("new", [], {}, SPLIT) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image\tmask\tpatient\tsample\n",
        "# note\nimage\tmask\tpatient\tsample\rx\ty\tP\tb",
        "\ufeff# note\r\nimage\tmask\tpatient\tsample\r\n",
        "\ufeffimage\tmask\tpatient\tsample\n",
    ],
)
def test_rows_are_read_back(text, tmp_path):
    row = {"sample": "S", "patient": "P", "image": "S.tif", "mask": "S.geojson", "mpp": "0.25", "part": ""}
    (tmp_path / "samples.tsv").write_text(with_rows(text, [row]), newline="")
    last = read_samples(tmp_path / "samples.tsv", SCHEMA)[-1]
    assert (last["sample"], last["patient"], last["mpp"], last["part"]) == ("S", "P", 0.25, None)
    assert isinstance(pd.read_csv(tmp_path / "samples.tsv", sep="\t", comment="#"), pd.DataFrame)
