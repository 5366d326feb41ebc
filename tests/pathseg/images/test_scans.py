"""Scanners' formats: which pages are levels, blocks of a fixed lattice, and bounds."""

import numpy as np
import openslide
import pytest
import tifffile
from dicom_files import read_dicom
from scanner_files import Layout, levels_of, reduced, smooth_picture, write_scan

from pathseg.cohort.formats import LocalFiles, companions
from pathseg.images import scans
from pathseg.images.resampling import ResampledSlide
from pathseg.images.scans import open_scan
from pathseg.images.slides import open_slide


def read_whole(slide, level):
    size = slide.levels[level]
    return slide.read_level(level, 0, 0, size.width, size.height)


def test_a_real_svs_is_what_openslide_sees(real_data):
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    slide, handle = open_slide(path), openslide.OpenSlide(path)
    assert (slide.width, slide.height, slide.mpp) == (2220, 2967, pytest.approx(0.499))
    assert (slide.reader, len(slide.levels)) == ("tifffile (aperio)", 1)
    seen = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))[..., :3]
    assert np.abs(read_whole(slide, 0).astype(int) - seen).max() <= 2


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpeg2000 ycbcr", "zlib"])
def test_thumbnail_label_and_macro_of_an_svs_are_no_levels(tmp_path, compression):
    picture, layout = smooth_picture(1203, 1601), Layout("svs", compression, 240, (4, 16))
    slide = open_slide(write_scan(tmp_path / "x.svs", picture, layout, 0.2517))
    assert (slide.reader, slide.mpp) == ("tifffile (aperio)", 0.2517)
    assert [(level.width, level.height) for level in slide.levels] == [(1601, 1203), (400, 300), (100, 75)]
    for number, image in enumerate(levels_of(picture, layout)):
        assert np.abs(read_whole(slide, number).astype(int) - image).mean() < 5


def write_philips(path, picture):
    """Write levels that are padded to whole tiles, whose true sizes follow from pixel sizes in a header."""

    def spacing(level):
        return f'<Attribute Name="DICOM_PIXEL_SPACING">"{0.00025 * 2**level}" "{0.00025 * 2**level}"</Attribute>'

    steps = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(level)}'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER">{level}</Attribute></DataObject>'
        for level in range(5)
    )
    header = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER">PHILIPS</Attribute><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>'
        f'<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>{spacing(0)}'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{steps}</Array></Attribute></DataObject>'
        "</Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path) as tiff:
        for level in range(5):
            image = reduced(picture, 2**level)
            image = np.pad(image, [(0, -side % 512) for side in image.shape[:2]] + [(0, 0)], constant_values=255)
            first = {"software": "Philips DP v1.0", "description": header}
            options = first if level == 0 else {"description": f"level={level}", "software": False, "subfiletype": 1}
            tiff.write(image, photometric="rgb", tile=(512, 512), compression="zlib", metadata=None, **options)


def test_philips(tmp_path):
    """The two coarsest levels are one tile each, of one size."""
    picture = smooth_picture(2048, 1536)
    write_philips(tmp_path / "x.tiff", picture)
    slide = open_slide(tmp_path / "x.tiff")
    assert (slide.reader, slide.mpp) == ("tifffile (philips)", 0.25)
    assert [(level.width, level.height) for level in slide.levels] == [(1536 >> n, 2048 >> n) for n in range(5)]
    for level in range(5):
        np.testing.assert_array_equal(read_whole(slide, level), reduced(picture, 2**level))


def write_scn(path, picture, corner, size):
    """Write a scan that lies at a corner of a slide, whose overview comes first."""
    height, width = picture.shape[:2]
    levels = [picture, reduced(picture, 4), reduced(picture, 16)]
    sizes = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{number}" ifd="{number + 1}"/>'
        for number, level in enumerate(levels)
    )

    def image(name, pixels, inner, view, objective):
        return (
            f'<image name="{name}" uuid="{name}"><creationDate>2012</creationDate><device model="SCN400" version="1"/>'
            f'<pixels sizeX="{pixels[0]}" sizeY="{pixels[1]}">{inner}</pixels><view sizeX="{view[0] * 250}" '
            f'sizeY="{view[1] * 250}" offsetX="{view[2] * 250}" offsetY="{view[3] * 250}"/><scanSettings>'
            f"<objectiveSettings><objective>{objective}</objective></objectiveSettings><illuminationSettings>"
            "<numericalAperture>0.65</numericalAperture><illuminationSource>brightfield</illuminationSource>"
            "</illuminationSettings></scanSettings></image>"
        )

    overview = image("o", (300, 250), '<dimension sizeX="300" sizeY="250" r="0" ifd="0"/>', (*size, 0, 0), 0.6)
    header = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="s"><collection '
        f'name="c" uuid="c" sizeX="{size[0] * 250}" sizeY="{size[1] * 250}" barcode="">{overview}'
        f"{image('m', (width, height), sizes, (width, height, *corner), 40)}</collection></scn>"
    )
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(smooth_picture(250, 300), description=header, **options)
        for level in levels:
            tiff.write(level, resolution=(40_000, 40_000), resolutionunit="CENTIMETER", **options)
    return levels


def test_scn_is_cropped_to_what_was_scanned(tmp_path):
    picture = smooth_picture(1203, 1601)
    levels = write_scn(tmp_path / "x.scn", picture, (500, 700), (3000, 2500))
    slide = open_slide(tmp_path / "x.scn")
    assert (slide.reader, slide.mpp, slide.origin) == ("tifffile (leica)", 0.25, (500, 700))
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(read_whole(slide, number), level)


@pytest.mark.parametrize("tile", [240, 256, 512])
@pytest.mark.parametrize("compression", ["none", "jpeg", "jpeg rgb", "jpeg2000"])
def test_dicom(tmp_path, compression, tile):
    """Any file of a folder stands for the slide; the label is no level."""
    picture, layout = smooth_picture(803, 1201), Layout("dicom", compression, tile, (2, 8))
    path = write_scan(tmp_path / "x", picture, layout, 0.2517)
    assert len(companions(str(path), LocalFiles())) == 3
    seen, written = read_dicom(path.parent), levels_of(picture, layout)
    for file in (path, *companions(str(path), LocalFiles())[:2]):
        slide = open_slide(file)
        assert (slide.reader, slide.mpp) == ("OpenSlide (dicom)", pytest.approx(0.2517))
        assert [(level.width, level.height) for level in slide.levels] == [(1201, 803), (600, 401), (150, 100)]
        for number in range(3):
            pixels = read_whole(slide, number).astype(int)
            assert np.abs(pixels - seen[number]).max() <= (0 if compression == "none" else 2)
            assert np.abs(pixels - written[number]).mean() <= (0 if compression == "none" else 12)


# The third level of the last has sides of 127 and 62 pixels, and OpenSlide's factor for it is 4.016.
@pytest.mark.parametrize("kind", ["svs", "classic", "ome", "dicom"])
@pytest.mark.parametrize(
    ("size", "factors"), [((603, 803), (4, 16)), ((607, 809), (3,)), ((250, 508), (2, 4)), ((399, 655), (2, 8))]
)
def test_a_step_edge_stays_where_it_is_on_every_level(tmp_path, kind, size, factors):
    """Scanners leave out what does not fill a pixel: a coarse level spans less than the finest, not the same wider."""
    edge = size[1] - 41
    picture = np.full((*size, 3), 190, np.uint8)
    picture[:, :edge] = 60
    compression = "none" if kind == "dicom" else "zlib"
    path = write_scan(tmp_path / "x.tif", picture, Layout(kind, compression, 256, factors), 0.25)
    slide = open_slide(path)
    expected = [(size[1] // factor, size[0] // factor) for factor in (1, *factors)]
    assert [(level.width, level.height) for level in slide.levels] == expected
    for downsample in (1, 1.7, 2, 2.9, 3.3, 4, 5.3, 8, 17):
        view = ResampledSlide(slide, downsample)
        read = view.read(0, 0, view.width, view.height)[..., 0].astype(float)
        found = (190 - read).sum(axis=1) / 130
        assert np.abs(found - edge * view.width / size[1]).max() < 0.02


# Of which file, by which of its readers, a test asks for blocks.
BLOCKS = {"generic-tiff": Layout("classic", "zlib", 256, (2, 16)), "dicom": Layout("dicom", "none", 256, (2, 16))}


@pytest.fixture(scope="module", params=BLOCKS)
def scan(request, tmp_path_factory):
    """A file whose levels are rounded, larger than a block."""
    path = tmp_path_factory.mktemp("scan") / "x.tif"
    return write_scan(path, smooth_picture(1203, 2903), BLOCKS[request.param], 0.25)


def test_blocks_give_a_pixel_one_value(scan, rng):
    """What OpenSlide itself gives depends on the rectangle; cut from blocks it does not."""
    blocks, handle = open_scan(scan), openslide.OpenSlide(scan)
    whole = read_whole(blocks, 1)
    assert blocks.reader in [f"OpenSlide ({vendor})" for vendor in BLOCKS]
    differ = 0
    for _ in range(20):
        x, y = int(rng.integers(0, 1150)), int(rng.integers(0, 400))
        expected = whole[y : y + 200, x : x + 300]
        np.testing.assert_array_equal(blocks.read_level(1, x, y, 300, 200), expected)
        corner = tuple(round(at * handle.level_downsamples[1]) for at in (x, y))
        differ += (np.asarray(handle.read_region(corner, 1, (300, 200)))[..., :3] != expected).any()
    assert differ > 10, "OpenSlide no longer interpolates: then blocks are not needed"


def test_blocks_are_what_is_stored(scan):
    """But for what OpenSlide interpolates in blocks that do not start at the corner: half a finest pixel at most."""
    blocks, stored = open_scan(scan), levels_of(smooth_picture(1203, 2903), BLOCKS["dicom"])
    assert blocks.mpp == pytest.approx(0.25)
    assert [(level.height, level.width) for level in blocks.levels] == [image.shape[:2] for image in stored]
    np.testing.assert_array_equal(read_whole(blocks, 0), stored[0])
    difference = np.abs(read_whole(blocks, 1).astype(int) - stored[1])
    assert difference[:, :1024].max() == 0
    # The last row and column are mixed with what lies behind them.
    assert difference[:-1, :-1].max() <= 6


def test_blocks_and_tiles_have_the_same_levels(tmp_path):
    path = write_scan(tmp_path / "x.tif", smooth_picture(603, 1451), BLOCKS["generic-tiff"], 0.25)
    tiles, blocks = open_slide(path), open_scan(path)
    assert (tiles.levels, tiles.mpp) == (blocks.levels, blocks.mpp)


class Handle:
    """What OpenSlide is to us, over a file that says nothing of bounds."""

    bounds = (640, 360, 800, 600)

    def __init__(self, path):
        self._handle = openslide.OpenSlide(path)
        names = ("x", "y", "width", "height")
        self.properties = dict(self._handle.properties) | {"openslide.vendor": "mirax"}
        self.properties |= {f"openslide.bounds-{name}": str(n) for name, n in zip(names, self.bounds, strict=True)}

    def __getattr__(self, name):
        return getattr(self._handle, name)


def test_a_slide_with_bounds_is_cropped_to_them(tmp_path):
    canvas = smooth_picture(1200, 1600)
    layout = Layout("classic", "zlib", 256, (4, 8))
    path = write_scan(tmp_path / "x.tif", canvas, layout, 0.25)
    opened = open_scan(path, Handle(path))
    assert opened.origin == (640, 360)
    assert [(level.width, level.height) for level in opened.levels] == [(800, 600), (200, 150), (100, 75)]
    for number, factor in enumerate((1, 4, 8)):
        image = levels_of(canvas, layout)[number]
        expected = image[360 // factor : 960 // factor, 640 // factor : 1440 // factor]
        np.testing.assert_array_equal(read_whole(opened, number), expected)


@pytest.mark.parametrize("bounds", [(-5, 0, 99, 99), (0, 0, 0, 99), (3000, 0, 999, 99)])
def test_bounds_that_cannot_be_are_not_believed(tmp_path, bounds, monkeypatch):
    path = write_scan(tmp_path / "x.tif", smooth_picture(600, 800), Layout("classic", "zlib", 256, ()), 0.25)
    monkeypatch.setattr(Handle, "bounds", bounds)
    assert scans.bounds(Handle(path)) == (0, 0, 800, 600)
