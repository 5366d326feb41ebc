from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom

from conftest import ROOT
from pathseg.cohort.settings import load_schema
from pathseg.cohort.tables import missing_files, read_samples, read_slides, slide_name
from pathseg.errors import TableError

SAMPLES = load_schema(ROOT / "config" / "schemas" / "samples.schema.yaml")
SLIDES = load_schema(ROOT / "config" / "schemas" / "slides.schema.yaml")
HEADER = "sample\tpatient\timage\tmask"


def samples_of(tmp_path, text, encoding="utf-8"):
    table = tmp_path / "samples.tsv"
    table.write_bytes(text.encode(encoding))
    return read_samples(table, SAMPLES)


def test_rows_are_relative_to_the_table(tmp_path):
    rows = samples_of(tmp_path, f"{HEADER}\tmpp\tpart\ns 1\tP1\t../i.png\tm/a b.png\t0.25\tval\n")
    assert rows == [
        {
            "sample": "s 1",
            "patient": "P1",
            "image": str(tmp_path.parent / "i.png"),
            "mask": str(tmp_path / "m" / "a b.png"),
            "instances": None,
            "mpp": 0.25,
            "part": "val",
        }
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\ns\tp\ti\tm\n",
        f"{HEADER}\r\ns\tp\ti\tm\r\n",
        f"\n{HEADER}\n\ns\tp\ti\tm\n\n",
        f"{HEADER}\ns\tp\ti\tm",
    ],
    ids=["byte-order mark", "Windows line ends", "empty lines", "no last line end"],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    assert [row["sample"] for row in samples_of(tmp_path, text)] == ["s"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample\timage\tmask\na\tb\tc\n", ["'patient'", "missing"]),
        ("sample,patient,image,mask\na,b,c,d\n", ["tabs, not commas"]),
        (f"{HEADER}\n", ["no rows"]),
        ("", ["no rows"]),
        (f"{HEADER}\na\tp\ti\tm\na\tp\tj\tn\n", ["line 3", "'a'", "already in line 2"]),
        (f"{HEADER}\tpart\na\tp\ti\tm\tval\nb\tp\tj\tn\ttrain\n", ["patient 'p'", "one part only"]),
        (f"{HEADER}\tpart\na\tp\ti\tm\tdev\n", ["line 2", "part", "'dev'"]),
        (f"{HEADER}\tmpp\na\tp\ti\tm\t-1\n", ["line 2", "mpp", "'-1'"]),
        (f"{HEADER}\tmpp\na\tp\ti\tm\t0\n", ["line 2", "mpp"]),
        (f"{HEADER}\n../a\tp\ti\tm\n", ["line 2", "sample"]),
        (f"{HEADER}\na/b\tp\ti\tm\n", ["line 2", "sample"]),
        (f"{HEADER}\n-a\tp\ti\tm\n", ["line 2", "sample"]),
        (f"{HEADER}\na\t\ti\tm\n", ["line 2", "patient"]),
        (f"{HEADER}\na\tp\t\tm\n", ["line 2", "image"]),
        (f"{HEADER}\na\tp\ti\tm\tx\n", ["line 2", "5 cells"]),
        (f"{HEADER}\timage\na\tp\ti\tm\tx\n", ["'image' stands twice"]),
        (f"{HEADER}\tMPP\na\tp\ti\tm\t1\n", ["column 'MPP'", "looks like 'mpp'"]),
        (f"{HEADER}\tinstance\na\tp\ti\tm\tx\n", ["column 'instance'", "looks like 'instances'"]),
        (f"{HEADER}\tfold\na\tp\ti\tm\t1\n", ["column 'fold'", "looks like 'part'"]),
        (f"{HEADER}\tmpp\na\tp\ti\tm\t1{'0' * 400}\n", ["line 2", "mpp", "is not between 0.01 and 100"]),
        (f"{HEADER}\na\tp\ti\tm\nA\tp\tj\tn\n", ["sample", "'a' and 'A'"]),
        (f"{HEADER}\na\tÄ\ti\tm\nb\tA\u0308\tj\tn\n", ["patient", "rename one"]),
        (
            f"{HEADER}\na\tp\ti\tm\nb\tq\t./x/../i\tn\n",
            ["line 3", "patient 'q', is that of sample 'a'"],
        ),
        (f"{HEADER}\na\tp\td/$(x).png\tm\n", ["line 2", "image", "has $"]),
        (f"{HEADER}\na\tp\t{'d/' * 3000}i\tm\n", ["line 2", "image", "4095"]),
        (f"{HEADER}\na\tp\t{'x' * 200_000}\tm\n", ["line 2", "image", "200000 characters"]),
        (f"{HEADER}\na\u2028b\tp\ti\tm\n", ["line 2", "sample", "U+2028"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    with pytest.raises(TableError) as caught:
        samples_of(tmp_path, text)
    for word in ["samples.tsv", *words]:
        assert word in str(caught.value)


def test_other_encodings_are_refused(tmp_path):
    with pytest.raises(TableError, match="not UTF-8"):
        samples_of(tmp_path, f"{HEADER}\nä\tp\ti\tm\n", "latin-1")


def test_a_histoqc_table_is_read_as_it_is(tmp_path):
    table = tmp_path / "results.tsv"
    table.write_text(
        "#start_time:\t2024-01-01\n#pipeline:\tx\n#dataset:filename\tcomments\tlevels\n1.svs\tdone\t3\n2.svs\t\t2\n"
    )
    rows = read_slides(str(table), SLIDES, "scans")
    assert rows == [
        {"path": "scans/1.svs", "mpp": None, "tissue": None, "regions": None, "patient": None, "slide": "1"},
        {"path": "scans/2.svs", "mpp": None, "tissue": None, "regions": None, "patient": None, "slide": "2"},
    ]


def test_patterns_and_lists(tmp_path):
    for name in ("b.svs", "a.svs", "c.tif"):
        (tmp_path / name).touch()
    rows = read_slides([f"{tmp_path}/*.svs", f"{tmp_path}/c.tif"], SLIDES)
    assert [row["slide"] for row in rows] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "words"),
    [(["x/1.svs", "y/1.svs"], ["two slides", "'1'"]), (["-x.svs"], ["rename"]), (["no/*.svs"], ["no file matches"])],
)
def test_slides_that_cannot_be_named_are_refused(names, words):
    with pytest.raises(TableError) as caught:
        read_slides(names, SLIDES)
    for word in words:
        assert word in str(caught.value)


def test_other_columns_are_left_alone(tmp_path):
    assert samples_of(tmp_path, f"{HEADER}\tstain\tnote\tmagnification\ns\tp\ti\tm\tH&E\t{'x' * 200_000}\t20\n")


def test_one_slide_that_is_named_twice_is_one(tmp_path):
    (tmp_path / "x.svs").touch()
    (tmp_path / "t.tsv").write_text("slide\tmpp\nx.svs\t0.5\n")
    rows = read_slides([f"{tmp_path}/./x.svs", f"{tmp_path}/*.svs", f"{tmp_path}/t.tsv"], SLIDES)
    assert [(row["slide"], row["mpp"]) for row in rows] == [("x", 0.5)]
    (tmp_path / "u.tsv").write_text("slide\tmpp\nx.svs\t0.25\n")
    with pytest.raises(TableError, match="listed twice, with mpp 0.5 and 0.25"):
        read_slides([f"{tmp_path}/t.tsv", f"{tmp_path}/u.tsv"], SLIDES)


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    for name in ("a[1].svs", "a1.svs"):
        (tmp_path / name).touch()
    assert [row["slide"] for row in read_slides(f"{tmp_path}/a[1].svs", SLIDES)] == ["a[1]"]
    (tmp_path / "a[1].svs").unlink()
    assert [row["slide"] for row in read_slides(f"{tmp_path}/a[1].svs", SLIDES)] == ["a1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("summary.tsv.svs", "stands beside"),
        ("x\ny.svs", r"U\+000A"),
        ("組" * 60 + ".svs", "180 bytes"),
        ("=x.svs", "="),
    ],
)
def test_names_of_slides_that_are_refused(tmp_path, name, words):
    (tmp_path / name).touch()
    with pytest.raises(TableError, match=words):
        read_slides(f"{tmp_path}/*.svs", SLIDES)


def test_slides_that_differ_in_case_only(tmp_path):
    for folder, name in (("1", "a.svs"), ("2", "A.svs")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    with pytest.raises(TableError, match="slides: 'a' and 'A' differ only in case"):
        read_slides(f"{tmp_path}/*/*.svs", SLIDES)


def test_missing_files_are_listed_but_not_those_of_the_workflow(tmp_path):
    rows = [{"sample": "a", "image": "results/demo/a.png"}, {"sample": "b", "image": str(tmp_path / "b.png")}]
    assert missing_files(rows, ["image"], "results/demo") == [f"b: image {tmp_path}/b.png does not exist"]


def test_slide_names():
    assert slide_name("x/a.b.ome.tif") == "a.b"


def test_an_image_is_named_once_whatever_leads_to_it(tmp_path):
    """By a link, or through another folder; the same patient does not make it two images."""
    (tmp_path / "i.png").touch()
    (tmp_path / "link.png").symlink_to("i.png")
    for rows in ("a\tp\ti.png\tm\nb\tq\tlink.png\tn\n", "a\tp\ti.png\tm\nb\tp\tx/../i.png\tn\n"):
        with pytest.raises(TableError, match="'b', patient '[pq]', is that of sample 'a', patient 'p', in line 2"):
            samples_of(tmp_path, f"{HEADER}\n{rows}")


def test_an_absolute_name_of_what_is_here_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/s.tsv").write_text("sample\tpatient\timage\tmask\na\tP\ti.png\tm.png\n")
    assert read_samples(tmp_path / "data/s.tsv", SAMPLES) == read_samples("data/s.tsv", SAMPLES)


def test_addresses_stay_what_they_are(tmp_path):
    row = samples_of(tmp_path, f"{HEADER}\na\tP\ts3://b//x/../i 1.png\tm.png\n")[0]
    assert (row["image"], row["mask"]) == ("s3://b/i 1.png", str(tmp_path / "m.png"))
    (tmp_path / "t.tsv").write_text("slide\ttissue\nx.svs\t\nS3://c/y.svs\ts3://c/y.png\n")
    rows = read_slides([str(tmp_path / "t.tsv"), "s3://b/z.ome.tif"], SLIDES, "s3://b/scans")
    assert [(row["slide"], row["path"], row["tissue"]) for row in rows] == [
        ("x", "s3://b/scans/x.svs", None),
        ("y", "s3://c/y.svs", "s3://c/y.png"),
        ("z", "s3://b/z.ome.tif", None),
    ]
    assert missing_files(rows, ["path", "tissue"], "results/demo") == []


@pytest.mark.parametrize(
    ("slide", "words"),
    [
        ("s3://b/*.svs", r"has \*, which nobody can look up in a bucket: list the slides in a table"),
        ("s3://b/a?.svs", r"has \?"),
        ("s3://b/a#1.svs", "has #"),
        ("s3://b/scans/a", "has no ending that says what it is"),
        ("s3://b/t.tsv", "s3://b/t.tsv: a table is read from this machine"),
        (["s3://b/d/1.dcm", "s3://b/d/2.dcm"], "two slides have the name 'd'.*; name one file of a DICOM series"),
    ],
)
def test_addresses_that_are_refused(slide, words):
    with pytest.raises(TableError, match=words):
        read_slides(slide, SLIDES)


def test_a_table_of_samples_is_here():
    with pytest.raises(TableError, match="s3://b/samples.tsv: a table is read from this machine"):
        read_samples("s3://b/samples.tsv", SAMPLES)


def test_an_image_of_a_bucket_is_named_once(tmp_path):
    with pytest.raises(TableError, match="is that of sample 'a'"):
        samples_of(tmp_path, f"{HEADER}\na\tP\ts3://b/i.png\tm\nb\tP\ts3://b/x/../i.png\tn\n")


def series(folder, levels=2):
    picture = np.full((96, 128, 3), 120, np.uint8)
    return write_dicom(folder, [picture[:: 2**n, :: 2**n] for n in range(levels)], "none", 64, 0.5)


def test_a_dicom_series_is_one_slide(tmp_path, monkeypatch):
    """Of scanners: a file for each level and the label, and no ending."""
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B"):
        series(tmp_path / name)
    for file in list(Path("B").iterdir()):
        file.rename(file.with_suffix(""))
    rows = read_slides("*/*", SLIDES)
    assert [(row["slide"], row["path"]) for row in rows] == [("A", "A/DCM_1.dcm"), ("B", "B/DCM_1")]
    assert read_slides(["B/label", "A/DCM_2.dcm"], SLIDES) == [rows[1], rows[0]]
    monkeypatch.chdir("A")
    assert [row["slide"] for row in read_slides("*.dcm", SLIDES)] == ["A"]


def test_two_series_in_one_folder(tmp_path):
    for name in ("one", "two"):
        for file in series(tmp_path / name).parent.iterdir():
            file.rename(tmp_path / f"{name}_{file.name}")
    with pytest.raises(
        TableError, match=f"two slides have the name '{tmp_path.name}'.*each series a folder of its own"
    ):
        read_slides(f"{tmp_path}/*.dcm", SLIDES)
    # Where each is a file, the files have the names.
    for file in [*tmp_path.glob("*label.dcm"), *tmp_path.glob("*_1.dcm")]:
        file.unlink()
    assert [row["slide"] for row in read_slides(f"{tmp_path}/*.dcm", SLIDES)] == ["one_DCM_2", "two_DCM_2"]
