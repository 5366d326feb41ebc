import gzip
import json

import numpy as np
import pytest
import shapely
from shapely.geometry import mapping

from pathseg.errors import ImageError
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import Level, Slide
from pathseg.labels.geojson import read_annotations
from pathseg.labels.label_maps import AnnotatedLabels, count_labels
from pathseg.labels.values import IGNORE


def feature(geometry, name="tumour", **classification):
    return {
        "type": "Feature",
        "geometry": mapping(geometry),
        "properties": {"classification": {"name": name} | classification},
    }


def write(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("wrap", [lambda f: {"type": "FeatureCollection", "features": f}, lambda f: f, lambda f: f[0]])
@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_forms_of_files(tmp_path, name, wrap):
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(5, 5, 9, 9) - shapely.box(6, 6, 7, 7)])
    text = json.dumps(wrap([feature(parts)])).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    annotations = read_annotations(tmp_path / name)
    assert [annotation.polygon.area for annotation in annotations] == [4, 15]
    assert {annotation.name for annotation in annotations} == {"tumour"}


def test_points_and_lines_are_counted_and_said(tmp_path, caplog):
    shapes = [shapely.box(0, 0, 5, 5), shapely.Point(1, 1), shapely.LineString([(0, 0), (4, 4)])]
    assert len(read_annotations(write(tmp_path / "a.geojson", *map(feature, shapes)))) == 1
    assert "left out 2 of 3 features, which are points, lines or empty" in caplog.text


def test_derived_classes_have_the_name_that_qupath_shows(tmp_path):
    derived = {
        "geometry": mapping(shapely.box(0, 0, 5, 5)),
        "properties": {"classification": {"names": ["tumour", "positive"], "color": [1, 2, 3]}},
    }
    unnamed = feature(shapely.box(0, 0, 5, 5), None)
    assert [a.name for a in read_annotations(write(tmp_path / "a.geojson", derived, unnamed))] == [
        "tumour: positive",
        None,
    ]


def labels_of(path, names, downsample=2.0, outside="background"):
    slide = Slide("slide", [Level(80, 60, 1.0)], None, None, "none")
    return AnnotatedLabels(path, ResampledSlide(slide, downsample), names, outside)


def test_a_derived_class_is_the_most_specific_one_that_there_is(tmp_path):
    shapes = [shapely.box(10 * n, 0, 10 * n + 10, 10) for n in range(3)]
    names = ["tumour: positive: strong", "tumour: negative", "tumour"]
    path = write(tmp_path / "a.geojson", *map(feature, shapes, names))
    labels = labels_of(path, ["stroma", "tumour", "tumour: positive"])
    assert labels.read(0, 0, 15, 1)[0, ::5].tolist() == [2, 1, 1]
    with pytest.raises(ImageError, match=r"class 'tumour: positive: strong'.*stroma, positive"):
        labels_of(path, ["stroma", "positive"])


def test_the_smaller_annotation_counts_and_beyond_the_slide_nothing_is_known(tmp_path):
    shapes = [shapely.box(10, 10, 14, 14), shapely.box(0, 0, 40, 60), shapely.box(4, 4, 20, 20)]
    path = write(tmp_path / "a.geojson", *map(feature, shapes, ["a", "b", "c"]))
    labels = labels_of(path, ["none", "a", "b", "c"], outside="ignore")
    read = labels.read(-1, -2, 50, 40)
    assert (read[:2] == IGNORE).all()
    assert (read[:, :1] == IGNORE).all()
    assert (read[2:32, 21:41] == IGNORE).all()
    inside = read[2:, 1:]
    assert [inside[6, 6], inside[8, 8], inside[20, 10]] == [1, 3, 2]
    np.testing.assert_array_equal(count_labels(labels, 40, 30, 4), [0, 4, 20 * 30 - 64, 60])


def region(geometry, title=None):
    made = feature(geometry, "Region*")
    made["properties"] |= {"name": title} if title else {}
    return made


def test_in_a_region_all_is_known_and_outside_nothing(tmp_path):
    path = write(
        tmp_path / "a.geojson",
        feature(shapely.box(8, 8, 40, 60), "tumour"),  # reaches out of the region, and is larger than it
        feature(shapely.box(30, 30, 34, 34), "lumen"),
        feature(shapely.box(60, 0, 70, 10), "a class that is not there"),
        feature(shapely.box(0, 40, 6, 46), None),
        region(shapely.box(4, 4, 24, 24)),
        region(shapely.box(30, 20, 36, 40), "To do 7"),
        region(shapely.box(70, 40, 90, 70), "done"),  # reaches beyond the slide
    )
    for outside in ("ignore", "background"):
        read = labels_of(path, ["stroma", "tumour", "lumen"], outside=outside).read(0, 0, 40, 30)
        expected = np.full((30, 40), IGNORE)
        expected[2:12, 2:12] = 0
        expected[4:12, 4:12] = 1
        expected[20:, 35:] = 0
        np.testing.assert_array_equal(read, expected)


def test_in_a_region_each_annotation_needs_a_class(tmp_path):
    shapes = [shapely.box(0, 0, 20, 20), shapely.box(19, 5, 30, 8)]
    with pytest.raises(ImageError, match="without class"):
        labels_of(write(tmp_path / "a.geojson", region(shapes[0]), feature(shapes[1], None)), ["stroma", "tumour"])


def test_the_annotation_that_was_smaller_before_it_was_cut_counts(tmp_path):
    shapes = [shapely.box(0, 0, 80, 60), shapely.box(0, 0, 40, 60), shapely.box(10, 10, 20, 20)]
    path = write(tmp_path / "a.geojson", feature(shapes[1], "lumen"), feature(shapes[0]), region(shapes[2]))
    labels = labels_of(path, ["stroma", "tumour", "lumen"])
    assert (labels.read(5, 5, 5, 5) == 2).all()
    assert (labels.objects().read(5, 5, 5, 5) == labels.objects().read(5, 5, 1, 1)).all()
    # What is left of a large one may be smaller than what it is covered by.
    path = write(
        tmp_path / "b.geojson",
        feature(shapely.box(0, 0, 12, 60)),
        feature(shapely.box(10, 10, 30, 20), "lumen"),
        region(shapes[2]),
    )
    assert (labels_of(path, ["stroma", "tumour", "lumen"]).read(5, 5, 5, 5) == 2).all()
