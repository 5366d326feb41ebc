"""What a statistician would warn of before anything is trained, each in a sentence with its numbers."""

from collections.abc import Iterator, Sequence

import numpy as np

from pathseg.errors import counted
from pathseg.planning.measures import FARTHEST, ImageMeasures

# Patients that a part should have at least.
FEW_PATIENTS = 3
# A patient should not have more of a part's known area, if others are there, nor so many times an even share.
DOMINANT, UNEVEN = 0.5, 1.5
# Pixel sizes that differ by more than this factor are mixed.
MIXED = 1.1
# A patient's colour is strange if the next of those who are learned from is so many times farther away than theirs are
# from each other, as a rule, and so far in optical density.
STRANGE, VISIBLE = 4.0, 0.05
# A patient's masks are off if their outlines fit the images clearly, and better by this factor, somewhere at least so
# many pixels away.
CLEAR_FIT, BETTER_FIT, LEAST_SHIFT = 0.04, 1.3, 4
# Outlines on a smaller area than this, of all images of a patient in the pixels that are looked at, fit anywhere.
LEAST_LOOKED_AT = 1_000_000
# Sentences name so many at most.
NAMED = 5


def doubts(images: Sequence[ImageMeasures], parts: list[str], names: list[str]) -> Iterator[str]:
    """Yield what is doubtful about a cohort.

    Parameters
    ----------
    images
        What was measured, of all parts.
    parts
        Names of the parts.
    names
        Names of the classes.
    """
    for part in parts:
        of_part = [image for image in images if image.part == part]
        yield from _few_patients(part, of_part)
        yield from _missing_classes(part, of_part, names)
        yield from _one_for_all(part, of_part)
    yield from _mixed_pixels(images)
    yield from _strange_colors(images, parts)
    yield from _shifted_masks(images)


def _few_patients(part: str, images: Sequence[ImageMeasures]) -> Iterator[str]:
    count = len({image.patient for image in images})
    if count < FEW_PATIENTS:
        yield f"{part} has {counted(count, 'patient')}: what is learned or scored there says little about the next one"


def _missing_classes(part: str, images: Sequence[ImageMeasures], names: list[str]) -> Iterator[str]:
    areas = np.sum([image.areas for image in images], axis=0) if images else np.zeros(len(names))
    for name in (name for name, area in zip(names, areas, strict=True) if not area):
        yield f"{part} has no pixel of {name}, which cannot be learned or scored there"


def _one_for_all(part: str, images: Sequence[ImageMeasures]) -> Iterator[str]:
    areas: dict[str, float] = {}
    for image in images:
        areas[image.patient] = areas.get(image.patient, 0) + float(image.areas.sum())
    total = sum(areas.values())
    if len(areas) > 1 and max(areas.values()) > max(DOMINANT, UNEVEN / len(areas)) * total:
        patient = max(areas, key=lambda name: areas[name])
        share = 100 * areas[patient] / total
        yield f"{part}: {patient} alone has {share:.0f} % of the known area of its {len(areas)} patients"


def _mixed_pixels(images: Sequence[ImageMeasures]) -> Iterator[str]:
    sizes = np.array([image.mpp for image in images])
    if sizes.max() > MIXED * sizes.min():
        coarse = [image.sample for image in images if image.mpp > MIXED * sizes.min()]
        yield (
            f"pixel sizes mix: from {sizes.min():.3g} to {sizes.max():.3g} µm; {_listed(coarse)} "
            f"{'is' if len(coarse) == 1 else 'are'} coarser than the finest"
        )


def patient_colors(images: Sequence[ImageMeasures]) -> dict[tuple[str, str], np.ndarray]:
    """Return the mean optical density [3] of each patient with stained tissue, by part and patient."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for image in images:
        if np.isfinite(image.color).all():
            found.setdefault((image.part, image.patient), []).append(image.color)
    return {who: np.mean(colors, axis=0) for who, colors in found.items()}


def _strange_colors(images: Sequence[ImageMeasures], parts: list[str]) -> Iterator[str]:
    colors = patient_colors(images)
    grey = [who for who in dict.fromkeys((image.part, image.patient) for image in images) if who not in colors]
    if grey:
        yield f"there is no stained tissue in the images of {_listed([patient for _, patient in grey])}: are they grey?"
    for part in parts:
        own = {patient: color for (of, patient), color in colors.items() if of == part}
        # Of a cross-validation each part is learned from by the others; nobody learns from the test part, or from val.
        others = np.array([color for (of, _), color in colors.items() if of not in (part, "test", "val")])
        if part == "train" or len(others) < FEW_PATIENTS:
            continue
        between = np.linalg.norm(others[:, None] - others, axis=2)
        np.fill_diagonal(between, np.inf)
        usual = float(np.median(between.min(axis=1)))
        distances = {patient: float(np.linalg.norm(others - color, axis=1).min()) for patient, color in own.items()}
        strange = [patient for patient, far in distances.items() if far > max(STRANGE * usual, VISIBLE)]
        if strange:
            farthest = max(distances.values())
            yield (
                f"{part}: the colours of {_listed(strange)} are like nobody's who is learned from: {farthest:.2f} in "
                f"optical density from the next, who are {usual:.2f} from each other"
            )


def _shifted_masks(images: Sequence[ImageMeasures]) -> Iterator[str]:
    """Look at all images of a patient together: outlines of one alone fit by chance elsewhere, too."""
    found = []
    for patient in dict.fromkeys(image.patient for image in images):
        own = [image for image in images if image.patient == patient]
        each = [image.fits for image in own if image.fits is not None]
        looked_at = sum(image.width * image.height / image.fit_step**2 for image in own if image.fits is not None)
        if looked_at < LEAST_LOOKED_AT:
            continue
        fits = np.mean(each, axis=0)
        y, x = np.unravel_index(fits.argmax(), fits.shape)
        far, here = max(abs(x - FARTHEST), abs(y - FARTHEST)), fits[FARTHEST, FARTHEST]
        if LEAST_SHIFT <= far < FARTHEST and fits[y, x] >= CLEAR_FIT and fits[y, x] >= BETTER_FIT * here:
            step = float(np.median([image.fit_step for image in own]))
            # The mask fits where it should be moved to.
            found.append(f"{patient} by {(FARTHEST - x) * step:+.3g}, {(FARTHEST - y) * step:+.3g} µm")
    if found:
        yield f"masks look shifted against their images (to the right, down): {_listed(found)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
