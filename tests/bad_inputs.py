"""Input that is wrong or hostile, and what is said about it: the cases of a test and of docs/errors.md.

Each case writes its files into an empty folder and does what the workflow would do with them. It must end in a
`PathsegError` that holds the given words.
"""

import gzip
import hashlib
import json
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import tifffile
import torch
from fetch_archive import list_samples, unpack
from measure_slide import measure
from PIL import Image
from shapely.geometry import mapping
from take_annotations import Cohort, refuse, take_all

from conftest import CLASSES, ROOT, small_unet
from pathseg.cohort.project import check_folder, read_project
from pathseg.cohort.splitting import divide
from pathseg.images.masks import read_labels
from pathseg.images.resampling import ResampledSlide
from pathseg.images.slides import choose_mpp, open_slide
from pathseg.labels.geojson import read_annotations
from pathseg.labels.label_maps import check_instances, open_instances, open_labels
from pathseg.labels.tissue import read_tissue
from pathseg.network.checkpoint import build_network, load_checkpoint, save_checkpoint
from pathseg.network.starting import start_from
from pathseg.network.unet import UNet
from pathseg.prediction.delivery import load_models, load_predictor
from pathseg.prediction.reference import VERSION, reference_of
from pathseg.tiles.database import DatabaseWriter, TileDatabase, check_databases

HEADER = "sample\tpatient\timage\tmask"
CONFIG = {
    "samples": "data/samples.tsv",
    "classes": [{"name": "stroma", "mask_value": 0}, {"name": "epithelium", "mask_value": 255}],
    "tiles": {"mpp": 1.0},
}
PICTURE = np.dstack([np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))] * 2 + [np.full((48, 64), 90, np.uint8)])


@dataclass(frozen=True)
class Case:
    """A wrong input.

    Attributes
    ----------
    topic, name
        Where it belongs and what is wrong, as docs/errors.md says it.
    run
        Does it in a folder.
    words
        What the message must hold.
    """

    topic: str
    name: str
    run: Callable[[Path], Any]
    words: tuple[str, ...]


CASES: list[Case] = []


def add(topic: str, name: str, run: Callable[[Path], Any], *words: str) -> None:
    """Note a case."""
    CASES.append(Case(topic, name, run, words))


def project(folder: Path, **changes: Any) -> Any:
    """Read a project whose configuration has changes; three good samples are there if no table is."""
    (folder / "data").mkdir(exist_ok=True)
    if not (folder / "data" / "samples.tsv").exists():
        table(folder, *(f"s{n}\tp{n}\ti{n}.png\tm{n}.png" for n in range(3)))
    os.chdir(folder)
    return read_project(CONFIG | changes, ROOT / "config" / "schemas", "results/demo")


def table(folder: Path, *rows: str, header: str = HEADER, encoding: str = "utf-8") -> None:
    """Write a sample table, and empty files for its good names."""
    (folder / "data").mkdir(exist_ok=True)
    for number in range(3):
        for kind in "im":
            (folder / "data" / f"{kind}{number}.png").touch()
    (folder / "data" / "samples.tsv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)


def with_table(*rows: str, **options: Any) -> Callable[[Path], Any]:
    """Return what reads a project with a sample table."""

    def run(folder: Path) -> Any:
        table(folder, *rows, **options)
        return project(folder)

    return run


def with_config(**changes: Any) -> Callable[[Path], Any]:
    """Return what reads a project with a changed configuration."""
    return lambda folder: project(folder, **changes)


GOOD = "a\tP\ti0.png\tm0.png"
for name, run, words in [
    ("a column is missing", with_table("a\tP\ti0.png", header="sample\tpatient\timage"), ("column 'mask' is missing",)),
    ("commas instead of tabs", with_table("a,P,i,m", header="sample,patient,image,mask"), ("tabs, not commas",)),
    ("a column stands twice", with_table(GOOD + "\tx", header=HEADER + "\tmask"), ("'mask' stands twice",)),
    ("no rows", with_table(), ("has no rows",)),
    ("a row has too many cells", with_table(GOOD + "\tx"), ("line 2: has 5 cells",)),
    ("a cell is empty", with_table("a\t\ti0.png\tm0.png"), ("line 2: patient",)),
    ("a sample stands twice", with_table(GOOD, GOOD), ("line 3: sample 'a' is already in line 2",)),
    (
        "an image under two names",
        with_table(GOOD, "b\tQ\t../data/i0.png\tm1.png"),
        ("line 3: the image of sample 'b', patient 'Q', is that of sample 'a', patient 'P', in line 2",),
    ),
    ("a file is missing", with_table("a\tP\tnone.png\tm0.png"), ("a: image data/none.png does not exist",)),
    ("a path is a folder", with_table("a\tP\t.\tm0.png"), ("a: image data is a folder",)),
    (
        "a patient is fixed in two parts",
        with_table(GOOD + "\tval", "b\tP\ti1.png\tm1.png\ttrain", header=HEADER + "\tpart"),
        ("line 3", "a patient is in one part only"),
    ),
    ("a part that does not exist", with_table(GOOD + "\tfinal", header=HEADER + "\tpart"), ("part: 'final'",)),
    ("a pixel size of zero", with_table(GOOD + "\t0", header=HEADER + "\tmpp"), ("line 2: mpp: '0'",)),
    ("a pixel size with a comma", with_table(GOOD + "\t0,5", header=HEADER + "\tmpp"), ("mpp: '0,5'",)),
    ("a name with a slash", with_table("a/b\tP\ti0.png\tm0.png"), ("sample: 'a/b'",)),
    ("a name that climbs out of the results", with_table("..\tP\ti0.png\tm0.png"), ("sample: '..'",)),
    ("a name with a leading dash", with_table("-rf\tP\ti0.png\tm0.png"), ("sample: '-rf'",)),
    ("a name with braces", with_table("{x}\tP\ti0.png\tm0.png"), ("sample: '{x}'",)),
    ("a name with a control character", with_table("a\x07b\tP\ti0.png\tm0.png"), ("sample: 'a\\x07b'",)),
    ("a name with a line's end that is none", with_table("a\u2028b\tP\ti0.png\tm0.png"), ("sample: ", "has U+2028")),
    ("a name that a shell would run", with_table("a$(x)\tP\ti0.png\tm0.png"), ("sample: 'a$(x)' has $",)),
    ("a name that a spreadsheet would run", with_table("=1+1\tP\ti0.png\tm0.png"), ("begins with =",)),
    ("a name of 360 bytes", with_table("組" * 120 + "\tP\ti0.png\tm0.png"), ("has 360 bytes; 170 are the most",)),
    ("a path that a shell would run", with_table("a\tP\t$(x)/i0.png\tm0.png"), ("image: '$(x)/i0.png' has $",)),
    ("a path with a wildcard", with_table("a\tP\ti0.png\t{x}/m0.png"), ("mask: '{x}/m0.png' has {",)),
    ("a path of 6,000 characters", with_table(f"a\tP\t{'d/' * 3000}\tm0.png"), ("6000 bytes; 4095 are the most",)),
    ("a path whose folder begins with a dash", with_table("a\tP\t../-x/i0.png\tm0.png"), ("-x/i0.png begins with -",)),
    ("a path with a space that is none", with_table("a\tP\ti\u00a00.png\tm0.png"), ("has U+00A0 (no-break space)",)),
    ("a cell of 200,000 characters", with_table("a\tP\ti0.png\t" + "x" * 200_000), ("mask: 'xxx",)),
    ("two samples that differ in case", with_table(GOOD, "A\tQ\ti1.png\tm1.png"), ("'a' and 'A' differ only",)),
    ("an image of two patients", with_table(GOOD, "b\tQ\ti0.png\tm1.png"), ("learned from and scored on",)),
    ("a misspelt column", with_table(GOOD + "\t1", header=HEADER + "\tMPP"), ("'MPP'", "looks like 'mpp'")),
    ("a pixel size of 400 digits", with_table(GOOD + "\t" + "9" * 400, header=HEADER + "\tmpp"), ("not between",)),
    ("not UTF-8", with_table("Bär\tP\ti0.png\tm0.png", encoding="latin-1"), ("is not UTF-8",)),
]:
    add("Sample tables", name, run, *words)


def slides_of(*names: str) -> Callable[[Path], Any]:
    """Return what reads a project with slide files of these names."""

    def run(folder: Path) -> Any:
        for name in names:
            path = folder / "scans" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return project(folder, slides="scans/**/*")

    return run


def slide_table(text: str) -> Callable[[Path], Any]:
    """Return what reads a project with a slide table."""

    def run(folder: Path) -> Any:
        (folder / "slides.tsv").write_text(text)
        return project(folder, slides="slides.tsv")

    return run


def dangling(folder: Path) -> Any:
    """Read a project whose slide is a link to nowhere."""
    (folder / "x.svs").symlink_to("nowhere.svs")
    return project(folder, slides="x.svs")


for name, run, words in [
    ("a pattern that matches nothing", with_config(slides="scans/*.svs"), ("no file matches 'scans/*.svs'",)),
    ("two slides of one name", slides_of("a/x.svs", "b/x.svs"), ("two slides have the name 'x'",)),
    ("a name with a leading dash", slides_of("-x.svs"), ("rename the slide",)),
    ("a name with braces", slides_of("{x}.svs"), ("slide 'scans/{x}.svs' has {",)),
    ("a name that a shell would run", slides_of("a$(touch trap).svs"), ("has $, which a shell",)),
    ("a name that a command line would part", slides_of("Smith, John.svs"), ("rename the slide: its name has ,",)),
    ("a name with a line's end", slides_of("a\nb.svs"), ("has U+000A",)),
    ("a name that is a table's", slides_of("summary.tsv.svs"), ("stands beside the slides' folders",)),
    ("a name that ends with a dot", slides_of("x..svs"), ("its name ends with a dot",)),
    ("two slides that differ in case", slides_of("1/a.svs", "2/A.svs"), ("'a' and 'A' differ only",)),
    ("a table with commas", with_config(slides="slides.csv"), ("'slides.csv' is no image", "ends in .tsv")),
    ("a table without the column `slide`", slide_table("file\nx.svs\n"), ("column 'slide' is missing",)),
    ("a slide that does not exist", slide_table("slide\nx.svs\n"), ("x: path x.svs does not exist",)),
    ("a link that leads nowhere", dangling, ("x.svs is a device, a pipe or a link that leads nowhere",)),
    ("a pattern in a bucket", with_config(slides="s3://b/*.svs"), ("has *, which nobody can look up in a bucket",)),
    ("an address without an ending", with_config(slides="s3://b/scan"), ("has no ending that says what it is",)),
    (
        "two DICOM files of one folder of a bucket",
        with_config(slides=["s3://b/d/1.dcm", "s3://b/d/2.dcm"]),
        ("two slides have the name 'd'", "name one file of a DICOM series"),
    ),
    ("a folder", with_config(slides="data"), ("path data is a folder; name a file, or a pattern such as data/*.svs",)),
]:
    add("Slides", name, run, *words)


def with_margins(class_: str = "epithelium", **changes: Any) -> dict[str, Any]:
    """Return a configuration's bands along a border."""
    return {"measurements": {"margins": {"class": class_, "widths_um": [100]} | changes}}


def classes(*values: int) -> list[dict[str, Any]]:
    """Return classes of these mask values."""
    return [{"name": f"class {n}", "mask_value": value} for n, value in enumerate(values)]


def named(*names: Any) -> list[dict[str, Any]]:
    """Return classes of these names."""
    return [{"name": name, "mask_value": value} for value, name in enumerate(names)]


def doubled_key(folder: Path) -> Any:
    """Read a project whose configuration names a block twice."""
    (folder / "c.yaml").write_text("training: {epochs: 3}\nclasses: []\ntraining: {seed: 1}\n")
    os.chdir(folder)
    return read_project(CONFIG, ROOT / "config" / "schemas", "results/demo", ["c.yaml"])


add("Configuration", "a key that stands twice", doubled_key, "c.yaml, line 3: key 'training' is already in line 1")
for name, changes, words in [
    ("an unknown key", {"epochs": 3}, ("unknown key 'epochs'",)),
    ("an unknown key in a block", {"training": {"epoch": 3}}, ("training: unknown key 'epoch'", "epochs")),
    ("a word for a number", {"training": {"epochs": "many"}}, ("training.epochs: 'many'",)),
    ("a word for a block", {"classes": "stroma"}, ("classes: 'stroma'",)),
    ("a number as text", {"training": {"learning_rate": "1e-3"}}, ("training.learning_rate: '1e-3' is text to YAML",)),
    ("a number that is none", {"tiles": {"mpp": float("nan")}}, ("tiles.mpp: nan is not a finite number",)),
    ("an infinite number", {"training": {"dice_weight": float("inf")}}, ("training.dice_weight: inf is not a finite",)),
    ("a mask value below 0", {"ignore_value": -1}, ("ignore_value: -1 is less than",)),
    ("a negative stride", {"tiles": {"mpp": 1.0, "stride": -5}}, ("tiles.stride: -5",)),
    ("tiles that overlap by 100 %", {"tiles": {"mpp": 1.0, "stride": 0}}, ("tiles.stride: 0",)),
    ("a stride larger than the tile", {"tiles": {"mpp": 1.0, "size": 64, "stride": 65}}, ("pixels would be lost",)),
    (
        "a stride larger than what an unpadded network gives",
        {"tiles": {"mpp": 1.0, "size": 140, "stride": 70}, "unet": {"depth": 4, "padding": False}},
        ("tiles.stride: 70 is larger than the 52 pixels", "experiments.default"),
    ),
    ("both mpp and resize", {"tiles": {"mpp": 1.0, "resize": 0.5}}, ("tiles: give one of mpp",)),
    ("a plan by another word", {"tiles": {"size": "best"}}, ("tiles.size: 'best' is not allowed",)),
    ("a number in quotes", {"tiles": {"mpp": "0.5"}}, ("tiles.mpp: '0.5' is text to YAML", "a number is needed")),
    (
        "a network too deep for the tile",
        {"tiles": {"mpp": 1.0, "size": 200, "stride": 100}},
        ("200 pixels does not fit unet.depth 5", "depth 4 is the largest that serves"),
    ),
    ("one class", {"classes": classes(0)}, ("classes",)),
    ("two classes of one mask value", {"classes": classes(0, 1, 1)}, ("mask_value 1 is used twice",)),
    ("two classes that differ in case", {"classes": named("Stroma", "stroma")}, ("'Stroma' and 'stroma' differ only",)),
    ("a class named all", {"classes": named("rest", "all")}, ("classes.1.name: 'all' is what tables",)),
    ("a class with a line's end", {"classes": named("a\n", "b")}, ("classes.0.name: 'a\\n'",)),
    (
        "a class that a spreadsheet would run",
        {"classes": named("=1+1", "b")},
        ("classes.0.name: '=1+1' begins with =",),
    ),
    ("a class that QuPath ignores", {"classes": named("a", "Ignore*")}, ("is QuPath's name for regions",)),
    ("a class is also ignored", {"ignore_value": 255}, ("ignore_value: 255 is also",)),
    ("nothing left to train on", {"split": {"val": 0.6, "test": 0.5}}, ("split: val and test leave nothing",)),
    (
        "an experiment with an unknown key",
        {"experiments": {"x": {"unet": {"dept": 3}}}},
        ("experiments.x.unet: unknown key 'dept'",),
    ),
    ("an experiment with an unknown block", {"experiments": {"x": {"optimizer": {}}}}, ("unknown key 'optimizer'",)),
    ("an experiment with a bad name", {"experiments": {"../x": {}}}, ("'../x' is not allowed (names have at most",)),
    (
        "an experiment whose name is a number to YAML",
        {"experiments": {1: {}, 2: {}}},
        ("experiments: the key 1 is no text to YAML; write it in quotes",),
    ),
    ("unknown keys, one of them no text", {"training": {True: 1, "x": 2}}, ("training: the key True is no text",)),
    ("an experiment whose name ends a line", {"experiments": {"a\n": {}}}, ("'a\\n' is not allowed",)),
    (
        "a colour that ends a line",
        {"classes": [class_ | {"color": "#aabbcc\n"} for class_ in classes(0, 1)]},
        ("classes.0.color: '#aabbcc\\n' is not allowed",),
    ),
    ("experiments that differ in case", {"experiments": {"a": {}, "A": {}}}, ("experiments: 'a' and 'A' differ only",)),
    ("a layer that is not there", {"network_pictures": {"layer": "x"}}, ("network_pictures.layer: 'x'", "down_path.0")),
    ("a model that a shell would run", {"model": "$(x).pt", "slides": "s.svs"}, ("model: '$(x).pt' has $",)),
    ("a model that is a folder", {"model": "data", "slides": "data/i0.png"}, ("model data is a folder; name a file",)),
    ("two lengths of a training", {"training": {"epochs": 3, "minutes": 5}}, ("minutes and training.epochs are both",)),
    ("weights for other classes", {"training": {"class_weights": [1, 2, 3]}}, ("3 numbers for 2 classes",)),
    ("weights that are a word", {"training": {"class_weights": "heavy"}}, ("class_weights is 'heavy'",)),
    ("weights that are all 0", {"training": {"class_weights": [0, 0]}}, ("class_weights are all 0",)),
    ("a crop larger than the tile", {"training": {"augmentation": {"crop": 512}}}, ("crop 512 is larger",)),
    ("objects of no class", {"objects": {"class": "gland"}}, ("objects.class: 'gland' is no class",)),
    ("objects of the background", {"objects": {"class": CLASSES[0]["name"]}}, ("is the background; use any of",)),
    ("objects without a class", {"objects": {"shrink": 3}}, ("objects: 'class' is a required property",)),
    ("a ratio of no class", {"measurements": {"ratios": [["gland", "stroma"]]}}, ("ratios: 'gland' is no class",)),
    ("a ratio to itself", {"measurements": {"ratios": [["stroma"] * 2]}}, ("divides a class by itself",)),
    ("the border of the background", with_margins(class_="stroma"), ("margins.class: 'stroma' is the background",)),
    ("bands that do not ascend", with_margins(widths_um=[500, 100]), ("[500, 100] does not ascend",)),
    ("gaps without their map", {"training": {"edges": "distance"}}, ("needs tiles.edge_sigma",)),
    ("two resolutions of a model", {"prediction": {"mpp": 1.0, "resize": 0.5}}, ("prediction: give mpp or resize",)),
    ("a sample table in a bucket", {"samples": "s3://b/s.tsv"}, ("s3://b/s.tsv: a table is read from this machine",)),
    ("nothing to do", {"samples": None}, ("nothing to do",)),
]:
    add("Configuration", name, with_config(**changes), *words)


def in_folder(name: str) -> Callable[[Path], Any]:
    """Return what runs the workflow in a folder of a name."""
    return lambda folder: check_folder(folder / name)


for name, run, words in [
    ("a working folder that a shell would take apart", in_folder("a$(x)"), ("has $, which a shell",)),
    ("a working folder with a wildcard", in_folder("{x}"), ("has {, which a shell or Snakemake",)),
]:
    add("Configuration", name, run, *words)


def impossible_split(patients: list[str], parts: list[str | None], **shares: Any) -> Callable[[Path], Any]:
    """Return what divides patients of one image each."""

    def run(folder: Path) -> Any:
        samples = [{"patient": patient, "part": part} for patient, part in zip(patients, parts, strict=True)]
        return divide(samples, {"val": 0.2, "test": 0, "folds": None, "seed": 1} | shares, folder / "parts.json")

    return run


def damaged_parts(folder: Path) -> Any:
    """Divide patients when the file that says where they were is cut off."""
    (folder / "parts.json").write_text('{"split": {')
    samples = [{"patient": name, "part": None} for name in "abc"]
    return divide(samples, {"val": 0.2, "test": 0, "folds": None, "seed": 1}, folder / "parts.json")


add("Patients", "one patient", impossible_split(["a"], [None]), "too few")
add("Patients", "fewer patients than folds", impossible_split(["a", "b"], [None] * 2, folds=3), "too few")
add("Patients", "a fixed part that the split has not", impossible_split(list("abc"), ["fold2", None, None]), "'fold2'")
add("Patients", "all patients fixed in one part", impossible_split(list("ab"), ["val", "val"]), "too few")
add("Patients", "a damaged file of parts", damaged_parts, "parts.json: says which part", "delete it")


def image(name: str, save: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Return what saves an image and reads its corner."""

    def run(folder: Path) -> Any:
        save(folder / name)
        return open_slide(folder / name).read_level(0, 0, 0, 8, 8)

    return run


def cut_file(save: Callable[[Path], Any], keep: float) -> Callable[[Path], Any]:
    """Return what saves the first part of a file."""

    def run(path: Path) -> None:
        save(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return run


def save_png(path: Path, pixels: np.ndarray = PICTURE) -> None:
    """Write a PNG."""
    cv2.imwrite(str(path), pixels)


def save_tiff(path: Path, pixels: np.ndarray = PICTURE) -> None:
    """Write a tiled TIFF with its pixel size."""
    tifffile.imwrite(path, pixels, tile=(16, 16), resolution=(20_000, 20_000), resolutionunit="CENTIMETER")


def save_bomb(path: Path) -> None:
    """Write a PNG whose header alone claims 100,000 x 100,000 pixels."""
    save_png(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def save_tiff_bomb(path: Path) -> None:
    """Write a TIFF of 100,000 x 100,000 pixels in one strip that is not there."""
    tifffile.imwrite(path, shape=(100_000, 100_000, 3), dtype=np.uint8, photometric="rgb", bigtiff=True, software="")
    with open(path, "r+b") as file:
        file.truncate(4096)


def save_animation(path: Path) -> None:
    """Write a GIF of two frames."""
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[:, ::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def save_tags(per_cm: tuple[int, int], **options: Any) -> Callable[[Path], None]:
    """Return what writes a TIFF with so many pixels per centimetre across and down."""
    return lambda path: tifffile.imwrite(path, PICTURE, resolution=per_cm, resolutionunit="CENTIMETER", **options)


def save_stack(path: Path) -> None:
    """Write an OME-TIFF of four planes."""
    tifffile.imwrite(path, np.stack([PICTURE[..., 0]] * 4), ome=True, metadata={"axes": "ZYX"})


def save_ome(xml: str) -> Callable[[Path], None]:
    """Return what writes a TIFF with this OME-XML."""
    return lambda path: tifffile.imwrite(path, PICTURE, photometric="rgb", description=xml, metadata=None)


def save_flipped(path: Path) -> None:
    """Write a stripped TIFF whose compressed pixels are no longer what was compressed."""
    tifffile.imwrite(path, PICTURE, photometric="rgb", compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        (start,), (count,) = tiff.pages.first.dataoffsets, tiff.pages.first.databytecounts
    content = bytearray(path.read_bytes())
    content[start : start + count] = bytes(255 - byte for byte in content[start : start + count])
    path.write_bytes(content)


def save_without_width(path: Path) -> None:
    """Write a TIFF that says it is 0 pixels wide."""
    tifffile.imwrite(path, PICTURE, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(0)


def read_contradiction(folder: Path) -> Any:
    """Open a TIFF of 0.5 µm per pixel that the table says is at 0.25."""
    save_tiff(folder / "x.tif")
    return open_slide(folder / "x.tif", 0.25)


def read_without_size(folder: Path) -> Any:
    """Ask for the pixel size of a PNG."""
    save_png(folder / "x.png")
    return choose_mpp(open_slide(folder / "x.png"))


for name, run, words in [
    ("zero bytes", image("x.svs", Path.touch), ("x.svs: is empty (0 bytes)",)),
    ("a folder", image("x.tif", Path.mkdir), ("x.tif: is not a file",)),
    ("a link that leads nowhere", image("x.tif", lambda path: path.symlink_to("nowhere")), ("links",)),
    ("a text", image("x.png", lambda path: path.write_text("hello")), ("x.png", "not an image")),
    ("a text that ends in .svs", image("x.svs", lambda path: path.write_text("hello")), ("x.svs",)),
    ("a truncated PNG", image("x.png", cut_file(save_png, 0.3)), ("x.png",)),
    ("a truncated TIFF", image("x.tif", cut_file(save_tiff, 0.3)), ("x.tif", "damaged")),
    ("16 bits", image("x.png", lambda path: save_png(path, PICTURE.astype(np.uint16) * 256)), ("uint16",)),
    ("CMYK", image("x.tif", lambda path: Image.fromarray(PICTURE).convert("CMYK").save(path)), ("CMYK",)),
    ("an animation", image("x.gif", save_animation), ("animated",)),
    ("a PNG that claims 10^10 pixels", image("x.png", save_bomb), ("x.png: ", "too large")),
    ("a TIFF that claims 10^10 pixels in one strip", image("x.tif", save_tiff_bomb), ("100000 x 100000",)),
    ("a stack", image("x.ome.tif", save_stack), ("holds 4 pictures of 64 x 48 pixels",)),
    ("16 bits, tiled", image("x.tif", lambda path: save_tiff(path, PICTURE.astype(np.uint16))), ("uint16",)),
    ("damaged pixels", image("x.tif", save_flipped), ("x.tif: ", "damaged")),
    ("a picture without width", image("x.tif", save_without_width), ("x.tif: ", "damaged")),
    ("OME-XML that is none", image("x.tif", save_ome("<OME><Image></OME>")), ("has OME-XML that cannot be read",)),
    ("OME-XML without an image", image("x.tif", save_ome("<OME></OME>")), ("has OME-XML that cannot be read",)),
    ("pixels that are not square", image("x.tif", save_tags((20_000, 40_000))), ("0.5 x 0.25 µm",)),
    ("another pixel size than the table's", read_contradiction, ("says 0.5 µm", "table 0.25")),
    ("no pixel size", read_without_size, ("x.png: the file does not say its pixel size", "column `mpp`")),
]:
    add("Images", name, run, *words)


def numbered_elsewhere(_folder: Path) -> Any:
    """Compare a mask of a square with the numbers of one beside it."""
    indices, numbers = np.zeros((2, 30, 30), np.uint8)
    indices[5:15, 5:15], numbers[5:15, 7:17] = 1, 1
    return check_instances("n.png", "m.png", numbers, indices)


def one_number(_folder: Path) -> Any:
    """Number all squares of a mask as one object, as a mask does."""
    indices = np.zeros((30, 60), np.uint8)
    indices[5:15, [*range(5, 15), *range(20, 30), *range(40, 50)]] = 1
    return check_instances("n.png", "m.png", indices * 255, indices)


def mask(save: Callable[[Path], Any], name: str = "m.png", read: Callable = open_labels) -> Callable[[Path], Any]:
    """Return what reads a mask of a good image."""

    def run(folder: Path) -> Any:
        save_png(folder / "i.png")
        save(folder / name)
        view = ResampledSlide(open_slide(folder / "i.png"), 1)
        if read is open_instances:
            return open_instances(str(folder / name), view)
        return open_labels(str(folder / name), view, CLASSES, None, "ignore").read(0, 0, 8, 8)

    return run


def grey(height: int, width: int, value: int = 0) -> Callable[[Path], None]:
    """Return what writes a mask of one value."""
    return lambda path: save_png(path, np.full((height, width), value, np.uint8))


def save_floats(path: Path) -> None:
    """Write a TIFF of fractions."""
    tifffile.imwrite(path, np.full((48, 64), 0.5, np.float32))


def read_text_mask(folder: Path) -> Any:
    """Read a text as a mask."""
    (folder / "m.png").write_text("hello")
    return read_labels(folder / "m.png")


def tissue_of_another_shape(folder: Path) -> Any:
    """Read a square mask as the tissue of an image that is none."""
    save_png(folder / "i.png")
    grey(40, 40)(folder / "tissue.png")
    return read_tissue(folder / "tissue.png", open_slide(folder / "i.png"))


def tissue_of_grandqc(folder: Path) -> Any:
    """Read a mask with a value that GrandQC does not write, named as it names its masks."""
    save_png(folder / "i.png")
    (folder / "mask_qc").mkdir()
    grey(48, 64, 9)(folder / "mask_qc" / "i.png_mask.png")
    return read_tissue(folder / "mask_qc" / "i.png_mask.png", open_slide(folder / "i.png"))


for name, run, words in [
    ("another size than the image", mask(grey(48, 63)), ("has 63 x 48 pixels", "64 x 48")),
    ("a value that no class has", mask(grey(48, 64, 7)), ("has pixels of value 7, which no class has",)),
    ("in colour", mask(save_png), ("is a colour picture",)),
    ("fractions", mask(save_floats, "m.tif"), ("float32",)),
    ("a text", read_text_mask, ("m.png",)),
    ("a stack of masks", mask(save_stack, "m.tif"), ("m.tif: holds 4 pictures",)),
    ("damaged pixels", mask(save_flipped, "m.tif"), ("m.tif: ", "damaged")),
    (
        "tissue of another shape than the slide",
        tissue_of_another_shape,
        ("tissue.png: has 40 x 40 pixels, another shape than", "i.png (64 x 48)"),
    ),
    (
        "a mask of GrandQC with a value that it does not write",
        tissue_of_grandqc,
        ("i.png_mask.png: by its name it is a mask of GrandQC", "pixels of value 9"),
    ),
    ("objects of another size", mask(grey(9, 9), "n.png", open_instances), ("n.png: has 9 x 9 pixels",)),
    ("all objects under one number", one_number, ("n.png: gives 3 separate parts one number, 255",)),
    ("objects that the mask has elsewhere", numbered_elsewhere, ("n.png: does not fit its mask", "have no number")),
]:
    add("Masks", name, run, *words)


SQUARE = shapely.box(2, 2, 20, 20)


def feature(polygon: shapely.Polygon, class_name: str | None = "epithelium") -> dict[str, Any]:
    """Return a feature as QuPath exports it."""
    properties = {"objectType": "annotation"} | ({"classification": {"name": class_name}} if class_name else {})
    return {"type": "Feature", "geometry": mapping(polygon), "properties": properties}


def classified(classification: Any) -> dict[str, Any]:
    """Return a feature whose classification is not as QuPath writes it."""
    return feature(SQUARE, None) | {"properties": {"classification": classification}}


def features(*parts: Any) -> Callable[[Path], Any]:
    """Return what reads annotations as a mask."""
    text = json.dumps({"type": "FeatureCollection", "features": list(parts)})
    return mask(lambda path: path.write_text(text), "a.geojson")


def raw_annotations(content: bytes, name: str = "a.geojson") -> Callable[[Path], Any]:
    """Return what reads a file of annotations."""

    def run(folder: Path) -> Any:
        (folder / name).write_bytes(content)
        return read_annotations(folder / name)

    return run


REGION = shapely.box(1, 1, 30, 30)


def exports(
    *names: str,
    inside: str = "epithelium",
    at: shapely.Polygon = REGION,
    slide: dict[str, Any] | None = None,
    mark: dict[str, Any] | None = None,
    **changes: Any,
) -> Callable[[Path], Any]:
    """Return what takes exports of slides, each with a region and an annotation in it."""

    def run(folder: Path) -> Any:
        cv2.imwrite(str(folder / "S1.png"), PICTURE)
        row = {"slide": "S1", "path": str(folder / "S1.png"), "mpp": 0.5, "patient": "P"} | (slide or {})
        content = {"type": "FeatureCollection", "features": [feature(at, "Region*"), feature(SQUARE, inside)]}
        content |= {"pathseg": mark} if mark else {}
        paths = [folder / f"{name}.geojson" for name in names]
        for path in paths:
            path.write_text(json.dumps(content))
        before = {"samples": [], "placed": {}, "split": {"folds": None, "seed": 1}, "slides": {"S1": row}}
        before |= {"classes": CLASSES, "project": None} | changes
        return refuse(take_all(list(map(str, paths)), Cohort(folder / "samples.tsv", **before))[-1])

    return run


def in_project(folder: Path) -> Any:
    """Take an export of another QuPath project."""
    (folder / "pathseg").mkdir()
    (folder / "pathseg/project.json").write_text(json.dumps({"project": "this"}))
    return exports("S1", mark={"project": "other", "slide": "S1"}, project=str(folder))(folder)


def measured(*features_: dict[str, Any], mpp: float | None = 0.5, margin: str = "epithelium") -> Callable[[Path], Any]:
    """Return what measures a predicted slide of 64 x 48 pixels in regions."""

    def run(folder: Path) -> Any:
        (folder / "r.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features_}))
        sizes = {"width": 64, "height": 48, "model_width": 64, "model_height": 48, "mpp": mpp, "model_mpp": mpp}
        rows = [{"name": class_["name"]} for class_ in CLASSES]
        summary = {"slide": "s", "file": "s.svs", "classes": rows, **sizes}
        regions, margins = str(folder / "r.geojson"), {"class": margin, "widths_um": [9], "min_area_um2": 0}
        return measure(summary, "classes.tif", regions, None, regions, margins, [])

    return run


def point() -> dict[str, Any]:
    """Return a point as QuPath exports it."""
    return feature(SQUARE) | {"geometry": {"type": "Point", "coordinates": [3, 3]}}


def sample(**cells: str) -> dict[str, Any]:
    """Return a row of the sample table."""
    return {"sample": "S1", "patient": "P", "part": None, "image": "old/S1.svs", "mask": "S1.png"} | cells


CROSSED = shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
for name, run, words in [
    ("not JSON", raw_annotations(b"hello"), ("a.geojson: is not JSON",)),
    ("a deep nest of brackets", raw_annotations(b"[" * 100_000), ("a.geojson: is not JSON",)),
    ("a number", raw_annotations(b"5"), ("is not GeoJSON with features",)),
    ("a feature without geometry", raw_annotations(b'[{"type": "Feature"}]'), ("feature 1",)),
    ("an unknown geometry", raw_annotations(b'[{"geometry": {"type": "Blob"}}]'), ("feature 1",)),
    ("a damaged archive", raw_annotations(gzip.compress(b"[]" * 999)[:20], "a.geojson.gz"), ("cannot be read",)),
    ("an outline that crosses itself", features(feature(CROSSED)), ("feature 1", "not simple")),
    ("an unknown class", features(feature(SQUARE, "tumor")), ("class 'tumor'", "stroma, epithelium")),
    ("no class", features(feature(SQUARE, None)), ("annotation without class",)),
    ("a class that is no text", features(classified("epithelium")), ("feature 1", "'epithelium' has no `name`")),
    (
        "coordinates beyond any slide",
        features(feature(shapely.box(0, 0, 1e300, 20))),
        ("feature 1 (epithelium) reaches to 1e+300 pixels", "export the annotations again"),
    ),
    ("of another slide", features(feature(shapely.box(900, 900, 950, 950))), ("lies outside of",)),
    (
        "a region to measure on another slide",
        measured(feature(shapely.box(900, 900, 950, 950), "bed")),
        ("r.geojson: region 'bed' lies outside of the slide, which has 64 x 48 pixels",),
    ),
    ("no region to measure, only points", measured(point()), ("r.geojson: holds no region; draw regions as areas",)),
    ("a region that is the slide", measured(feature(SQUARE, "Whole slide")), ("which stands for the slide; rename",)),
    ("measurements without a pixel size", measured(mpp=None), ("s.svs: its pixel size is not known", "column mpp")),
    ("no class, in a region", exports("S1", inside=None), ("S1.geojson: 1 annotations in its regions have no class",)),
    (
        "a new class, in a region",
        exports("S1", inside="necrosis"),
        ("S1.geojson", "add {name: 'necrosis', mask_value: 256}", "give them another class"),
    ),
    ("a region of another slide", exports("S1", at=shapely.box(900, 9, 950, 50)), ("a region at", "lies outside of")),
    ("two exports of one slide", exports("S1", "copy", mark={"slide": "S1"}), ("are both of slide 'S1'",)),
    ("an export of another project", in_project, ("S1.geojson: was exported from another QuPath project",)),
    ("of a slide that is not there", exports("S2"), ("there is no slide 'S2' among the `slides`",)),
    (
        "of a slide whose patient is not known",
        exports("S1", slide={"patient": None}),
        ("not known which patient slide 'S1' is from", "column `patient`"),
    ),
    ("of a slide that has moved", exports("S1", samples=[sample()]), ("has another image, old/S1.svs", "has moved")),
]:
    add("Annotations", name, run, *words)


class Payload:
    """What a hostile file holds: loading it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def model(change: Callable[[dict[str, Any], Path], Any]) -> Callable[[Path], Any]:
    """Return what saves a changed model file and makes its network."""

    def run(folder: Path) -> Any:
        network = small_unet()
        content = network.architecture | {"model_dict": network.state_dict(), "epoch": 1, "classes": CLASSES}
        change(content, folder)
        torch.save(content, folder / "m.pt")
        return build_network(load_checkpoint(folder / "m.pt"), folder / "m.pt")

    return run


def reference_of_model(folder: Path) -> Any:
    """Read what a model file says of its training images, of which only the version is there."""
    network = small_unet()
    save_checkpoint(
        folder / "m.pt", network.architecture | {"model_dict": network.state_dict(), "reference": {"version": VERSION}}
    )
    return reference_of(load_checkpoint(folder / "m.pt"), str(folder / "m.pt"))


def model_bytes(content: bytes) -> Callable[[Path], Any]:
    """Return what loads a model file of these bytes."""

    def run(folder: Path) -> Any:
        (folder / "m.pt").write_bytes(content)
        return load_checkpoint(folder / "m.pt")

    return run


def bare_pickle(folder: Path) -> Any:
    """Load a pickle without PyTorch's archive around it."""
    (folder / "m.pt").write_bytes(pickle.dumps({"epoch": Payload(folder / "trap")}))
    return load_checkpoint(folder / "m.pt")


def break_weight(content: dict[str, Any], _folder: Path) -> None:
    """Put a NaN into the weights."""
    content["model_dict"]["last.weight"][0] = torch.nan


def other_classes(folder: Path) -> Any:
    """Average models of different classes."""
    network = small_unet()
    content = network.architecture | {"model_dict": network.state_dict(), "mpp": 1.0}
    torch.save(content | {"classes": CLASSES}, folder / "a.pt")
    torch.save(content | {"classes": CLASSES[::-1]}, folder / "b.pt")
    return load_models([str(folder / "a.pt"), str(folder / "b.pt")], CLASSES, {"mpp": None, "resize": None})


def start_of(network: UNet) -> Callable[[Path], Any]:
    """Return what starts a network from a small one."""

    def run(folder: Path) -> Any:
        save_checkpoint(folder / "m.pt", small_unet().architecture | {"model_dict": small_unet().state_dict()})
        return start_from(network, str(folder / "m.pt"), ["a", "b"], {"mpp": 1.0, "resize": None})

    return run


def objects_asked_for(shrinks: tuple[int | None, ...]) -> Callable[[Path], Any]:
    """Return what asks models for objects that have learned such insides, or none."""

    def run(folder: Path) -> Any:
        paths = [str(folder / f"{number}.pt") for number in range(len(shrinks))]
        for path, shrink in zip(paths, shrinks, strict=True):
            network = small_unet(insides=shrink is not None)
            content = network.architecture | {"model_dict": network.state_dict(), "mpp": 1.0, "classes": CLASSES}
            objects = shrink and {"classes": [CLASSES[1]["name"]], "shrink": shrink}
            torch.save(content | {"objects": objects}, path)
        settings = {"mpp": None, "resize": None, "precision": "float32", "tta": False}
        return load_predictor(paths, CLASSES, settings, torch.device("cpu"), [CLASSES[1]["name"]])

    return run


for name, run, words in [
    ("a file that runs code", model(lambda c, f: c.update(epoch=Payload(f / "trap"))), ("m.pt: is refused",)),
    ("a bare pickle that runs code", bare_pickle, ("m.pt: is refused",)),
    ("zero bytes", model_bytes(b""), ("m.pt",)),
    ("a text", model_bytes(b"hello"), ("m.pt",)),
    ("half an archive", model_bytes(b"PK\x03\x04rest"), ("m.pt",)),
    ("a missing file", lambda folder: load_checkpoint(folder / "m.pt"), ("m.pt: is not a file",)),
    ("a key is missing", model(lambda c, _: c.pop("depth")), ("m.pt: lacks depth",)),
    ("weights of another shape", model(lambda c, _: c.update(wf=3)), ("do not fit the architecture",)),
    ("another number of classes", model(lambda c, _: c.update(n_classes=5, classes=None)), ("do not fit the arch",)),
    ("an unknown architecture", model(lambda c, _: c.update(up_mode="magic")), ("its up_mode is 'magic'",)),
    ("four channels", model(lambda c, _: c.update(in_channels=4)), ("takes 4 channels",)),
    ("a depth that is text", model(lambda c, _: c.update(depth="3")), ("its depth is '3', not a whole number",)),
    ("a network that fills the memory", model(lambda c, _: c.update(depth=8, wf=8)), ("do not fit the architecture",)),
    ("a pixel size of -1", model(lambda c, _: c.update(mpp=-1)), ("its mpp is -1, not a number from 0.01 to 100",)),
    ("a pixel size that is text", model(lambda c, _: c.update(mpp="1.0")), ("its mpp is '1.0'",)),
    ("an infinite factor", model(lambda c, _: c.update(resize=float("inf"))), ("its resize is inf",)),
    ("more names than outputs", model(lambda c, _: c.update(classes=named("a", "b", "c"))), ("names 3 classes",)),
    ("a class whose name is none", model(lambda c, _: c.update(classes=named("a", ("b",)))), ("is not a text",)),
    (
        "objects of a class that it has not",
        model(lambda c, _: c.update(objects={"classes": ["x"], "shrink": 3})),
        ("objects are of a class 'x'",),
    ),
    (
        "objects that it has not learned",
        objects_asked_for((None,)),
        ("0.pt: has learned to tell apart the objects of no class",),
    ),
    ("models whose objects differ", objects_asked_for((3, 4)), ("1.pt: its insides are 4 pixels from the rim",)),
    ("classes that are texts", model(lambda c, _: c.update(classes=["a", "b"])), ("not a list of what each class is",)),
    ("weights that are not numbers", model(break_weight), ("weights that are not numbers (in last.weight)",)),
    (
        "a calibration for other classes",
        model(lambda c, _: c.update(calibration={"temperature": 1.0, "bias": [0.0]})),
        ("its calibration (temperature 1.0, 1 biases) does not fit 2 classes",),
    ),
    (
        "a calibration of insides that is none",
        model(lambda c, _: c.update(calibration={"temperature": 1.0, "bias": [0.0, 0.0], "inside": 0.9, "sure": 0.5})),
        ("its calibration of insides (0.9, 0.5) is not two probabilities",),
    ),
    (
        "a description of its training images that is damaged",
        reference_of_model,
        ("m.pt: what it says of its training images (`reference`) is damaged",),
    ),
    ("models of different classes", other_classes, ("its classes",)),
    (
        "a start from a network of another depth",
        start_of(UNet(depth=4, wf=2)),
        ("m.pt: is a network of depth 3, and unet has depth 4", "set unet: {depth: 3, wf: 2, batch_norm: true}"),
    ),
    ("frozen weights that nobody trained", with_config(training={"freeze": "encoder"}), ("in training.init",)),
]:
    add("Models", name, run, *words)


def database(
    folder: Path, name: str, patient: str, pixels: tuple[int, int] = (1, 1), content: str = "", **attributes: Any
) -> Path:
    """Write a database of one tile, of an image with some content."""
    settings = {"classes": ["a", "b"], "mpp": 1.0, "resize": None, "tile_size": 16, "edge_sigma": None} | attributes
    source = dict.fromkeys(("sample", "image", "mask", "image_sha256", "mask_sha256"), patient)
    source["image_sha256"] = content or patient
    with DatabaseWriter(folder / name, 16, 2, complib="none", complevel=1, attributes=settings) as writer:
        writer.add_source(source, np.array(pixels))
        if patient:
            tile = np.zeros((1, 16, 16), np.uint8)
            writer.append(source | {"patient": patient}, [np.dstack([tile[0]] * 3)[None], tile], np.zeros((1, 2)), 1.0)
        writer.close()
    return folder / name


def cut_database(folder: Path) -> Any:
    """Open half a database."""
    path = database(folder, "train.h5", "P")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return TileDatabase(path)


def two_databases(patient: str, pixels: tuple[int, int] = (1, 1), **attributes: Any) -> Callable[[Path], Any]:
    """Return what checks a training database of patient P beside a validation database."""

    def run(folder: Path) -> Any:
        with (
            TileDatabase(database(folder, "train.h5", "P", pixels)) as training,
            TileDatabase(database(folder, "val.h5", patient, **attributes)) as validation,
        ):
            return check_databases([training], validation)

    return run


for name, run, words in [
    ("truncated", cut_database, ("train.h5: is damaged", "delete it")),
    ("without tiles", lambda folder: TileDatabase(database(folder, "train.h5", "")), ("holds no tile",)),
    ("one patient in training and validation", two_databases("P"), ("patient 'P' is in both",)),
    ("all pixels of one class", two_databases("Q", pixels=[9, 0]), ("all pixels are of class 'a'",)),
    ("an image under two names", two_databases("Q", content="P"), ("image of sample 'Q' (Q) is a copy of",)),
    ("other classes", two_databases("Q", classes=["b", "a"]), ("differ in classes",)),
    ("another resolution", two_databases("Q", mpp=0.5), ("differ in mpp",)),
]:
    add("Databases", name, run, *words)


def archive(*members: tarfile.TarInfo, cut: bool = False, digest: str | None = None) -> Callable[[Path], Any]:
    """Return what unpacks an archive of empty members."""

    def run(folder: Path) -> Any:
        path = folder / "epi.txz"
        with tarfile.open(path, "w:xz") as tar:
            for member in members:
                tar.addfile(member)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if cut else content)
        unpack(str(path), digest or hashlib.sha256(path.read_bytes()).hexdigest(), folder / "images")
        return list_samples(folder / "images")

    return run


def link_to(target: str) -> tarfile.TarInfo:
    """Return a link of an archive."""
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


for name, run, words in [
    ("another checksum", archive(digest="0" * 64), ("epi.txz: its SHA-256 is", "the download is incomplete")),
    ("half an archive", archive(tarfile.TarInfo("a.tif"), cut=True), ("epi.txz: cannot be unpacked",)),
    ("a member outside of the folder", archive(tarfile.TarInfo("../evil")), ("would write outside",)),
    ("a link to the outside", archive(link_to("/etc/passwd")), ("would write outside",)),
    ("no image with a mask", archive(tarfile.TarInfo("a.tif")), ("has no image NAME.tif with a mask",)),
]:
    add("Archives", name, run, *words)


def message_of(case: Case, folder: Path) -> str:
    """Run a case in an empty folder and return the message, with the folder left out."""
    before = Path.cwd()
    try:
        case.run(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace(f"{folder}/", "").replace(str(folder), "")
    finally:
        os.chdir(before)
    return ""
