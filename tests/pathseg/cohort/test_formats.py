import pydicom
import pytest
from dicom_files import write_dicom
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from pathseg.cohort.formats import LocalFiles, companions, is_address, series_of


def test_files_that_belong_to_a_slide(tmp_path):
    names = "a.mrxs a/Slidedat.ini a/Data0000.dat b.mrxs v.vms v_1.jpg w_1.jpg x.svs"
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "v.vms").write_text("[Virtual Microscope Specimen]\nImageFile=v_1.jpg\nMacroImage=none.jpg\n")
    found = {name: companions(str(tmp_path / name), LocalFiles()) for name in ("a.mrxs", "b.mrxs", "v.vms", "x.svs")}
    assert {name: [path.removeprefix(f"{tmp_path}/") for path in paths] for name, paths in found.items()} == {
        "a.mrxs": ["a/Data0000.dat", "a/Slidedat.ini"],
        "b.mrxs": [],
        "v.vms": ["v_1.jpg"],
        "x.svs": [],
    }
    assert companions("gone.vms", LocalFiles()) == companions("gone.dcm", LocalFiles()) == []


class Bucket:
    """Files that are nowhere but in a list."""

    names = (
        "s3://b/a.mrxs",
        "s3://b/a/1.dat",
        "s3://b/a/x/2.dat",
        "s3://b/d/1.dcm",
        "s3://b/d/2.DCM",
        "s3://b/d/x/3.dcm",
    )

    def beside(self, path):
        folder = path.rpartition("/")[0]
        return [name for name in self.names if name.rpartition("/")[0] == folder]

    def below(self, folder):
        return [name for name in self.names if name.startswith(f"{folder}/")]


def test_files_that_belong_to_a_slide_in_a_bucket():
    assert companions("s3://b/a.mrxs", Bucket()) == ["s3://b/a/1.dat", "s3://b/a/x/2.dat"]
    assert companions("s3://b/d/1.dcm", Bucket()) == ["s3://b/d/2.DCM"]
    assert companions("s3://b/x.svs", Bucket()) == []


@pytest.mark.parametrize("name", ["s3://b/x", "gs://b", "https://h/x", "S3://b"])
def test_addresses(name):
    assert is_address(name)
    assert not is_address(f"./{name}")


@pytest.fixture
def level(tmp_path, tissue_field):
    """A level of a slide, and the number of its series."""
    path = write_dicom(tmp_path / "slide", [tissue_field[0]], "jpeg", 64, 0.5)
    return path, pydicom.dcmread(path)


def nested():
    """Return a sequence that holds a series of another, in a sequence of its own."""
    inner, outer = Dataset(), Dataset()
    inner.SeriesInstanceUID = "1.2.3"
    outer.ReferencedSeriesSequence = [inner]
    outer.SeriesInstanceUID = "1.2.4"
    return [outer, outer]


@pytest.mark.parametrize("kinds", [True, False])
@pytest.mark.parametrize("ends", [True, False])
def test_the_series_is_the_files_own(level, ends, kinds):
    """Not that of what it refers to, with lengths or ends, with kinds of values or without."""
    path, data = level
    data.StudiesContainingOtherReferencedInstancesSequence = nested()
    for element in data.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = ends
            for item in element.value:
                item.is_undefined_length_sequence_item = ends
    if not kinds:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        del data.PixelData
    data.save_as(path.with_name("x"), implicit_vr=not kinds, little_endian=True)
    assert pydicom.dcmread(path.with_name("x"), force=True).SeriesInstanceUID == data.SeriesInstanceUID
    assert series_of(str(path.with_name("x"))) == data.SeriesInstanceUID


def test_what_is_no_dicom_has_no_series(level, tmp_path):
    path, _ = level
    content = path.read_bytes()
    for name, other in {"cut": content[:300], "text": b"hello", "empty": b"", "meta": content[:132]}.items():
        (tmp_path / name).write_bytes(other)
        assert series_of(str(tmp_path / name)) is None
    # Nothing else is opened.
    (tmp_path / "x.svs").write_bytes(content)
    assert series_of(str(tmp_path / "x.svs")) is None
    assert series_of(str(tmp_path)) is series_of("nowhere") is None
