import json

import pytest
import shapely
from shapely.geometry import mapping
from suggest_regions import known_area

BOX, FAR = shapely.box(0, 0, 10, 10), shapely.box(50, 50, 60, 60)


def feature(polygon, name, title=None):
    return {"geometry": mapping(polygon), "properties": {"classification": {"name": name}, "name": title}}


@pytest.mark.parametrize(
    ("features", "outside", "known"),
    [
        ([feature(BOX, "tumour")], "ignore", BOX),
        ([feature(BOX, "tumour")], "background", None),
        ([feature(BOX, "Region*"), feature(FAR, "tumour")], "background", BOX),
        ([feature(BOX, "Region*"), feature(FAR, "Region*", "to do 1")], "ignore", BOX),
        ([feature(FAR, "Region*", "to do 1")], "ignore", shapely.Polygon()),
    ],
    ids=["annotations", "all is annotated", "a region", "a region that is to do", "nothing yet"],
)
def test_what_is_known_of_a_slide(features, outside, known, tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features))
    found = known_area(str(path), outside)
    assert found is None if known is None else found.equals(known)


def test_a_mask_knows_all_and_no_mask_nothing():
    assert known_area("m.png", "ignore") is None
    assert known_area(None, "background").is_empty
