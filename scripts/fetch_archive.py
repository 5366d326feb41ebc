"""Check an archive of images with masks, unpack it, and list what it holds.

Outputs
-------
images : folder
    What was in the archive.
samples : TSV
    The sample table: a row for each image with a mask; the patient is what stands before the first underscore.
"""

import tarfile
from pathlib import Path

from pathseg.errors import ArchiveError
from pathseg.files import atomic_path, file_digest
from pathseg.logs import start_log

MASK_ENDING = "_mask.png"


def unpack(archive: str, sha256: str, folder: Path) -> None:
    """Unpack an archive into a new folder, and nothing outside of it.

    Raises
    ------
    ArchiveError
        If it is not the archive that was meant, is damaged, or has members that are links, devices or lie elsewhere.
    """
    found = file_digest(archive)
    if found != sha256:
        raise ArchiveError(
            f"{archive}: its SHA-256 is {found} and not {sha256}: the download is incomplete, or the file is another. "
            "Run again; if it stays so, check archive.url and archive.sha256"
        )
    folder.mkdir()
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise ArchiveError(f"{archive}: is refused: it would write outside of its folder ({error})") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{archive}: cannot be unpacked ({error}); is it a tar archive?") from error


def list_samples(folder: Path) -> list[tuple[str, str, Path, Path]]:
    """Return sample, patient, image and mask of what was unpacked, paths within the folder.

    Raises
    ------
    ArchiveError
        If there is no image with a mask.
    """
    rows = []
    for mask in sorted(folder.rglob(f"masks/*{MASK_ENDING}")):
        name = mask.name.removesuffix(MASK_ENDING)
        image = mask.parent.parent / f"{name}.tif"
        if image.is_file():
            rows.append((name, name.split("_")[0], image.relative_to(folder), mask.relative_to(folder)))
    if not rows:
        raise ArchiveError("the archive has no image NAME.tif with a mask masks/NAME_mask.png; it is another one")
    return rows


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    with atomic_path(snakemake.output.samples) as table:
        with atomic_path(snakemake.output.images) as folder:
            unpack(snakemake.input.archive, snakemake.params.sha256, folder)
            rows = list_samples(folder)
        inside = Path(snakemake.output.images).name
        lines = [f"{sample}\t{patient}\t{inside}/{image}\t{inside}/{mask}" for sample, patient, image, mask in rows]
        table.write_text("\n".join(["sample\tpatient\timage\tmask", *lines]) + "\n", encoding="utf-8")
    patients = len({patient for _, patient, _, _ in rows})
    log.info("%d images of %d patients are there; run Snakemake again", len(rows), patients)
