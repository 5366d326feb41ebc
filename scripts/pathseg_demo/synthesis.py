"""Draw fields of tissue that look like H&E, with the truth known: nests of epithelium in a stroma.

Amounts of haematoxylin and eosin are drawn first (nuclei, cytoplasm, fibres), and turned into light by the
Beer-Lambert law with the stain vectors of `pathseg.images.stains`. Colour alone does not tell the classes: round dark
lymphocytes lie in the stroma, nests differ in how dark they are, and each patient has stains of their own.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from skimage import measure

from pathseg.images.stains import OD_FROM_HED

# µm per pixel of everything drawn here; lengths below are in pixels of this size.
MPP = 0.5

ORIENTATIONS = 8
# Share of the tissue that is epithelium, over patients.
MEAN_EPITHELIUM = 0.425
# Of a nucleus that others hide so that fewer pixels are seen, nobody could say that it is one.
SMALLEST_NUCLEUS = 20
# Nor where a crack leaves less of the stain.
HARDLY_SEEN = 0.5


@dataclass(frozen=True)
class Patient:
    """What is common to all images of a patient.

    Attributes
    ----------
    stains : numpy.ndarray
        Optical density in red, green and blue of haematoxylin and eosin [2, 3].
    strengths : tuple of float
        Factors on the amounts of haematoxylin and eosin.
    nucleus : float
        Typical radius of an epithelial nucleus, in pixels.
    nest : float
        Typical size of nests, in pixels.
    epithelium : float
        Share of the tissue that is epithelium.
    inflammation : float
        Share of the stroma that is crowded with lymphocytes.
    """

    stains: np.ndarray
    strengths: tuple[float, float]
    nucleus: float
    nest: float
    epithelium: float
    inflammation: float


class Field(NamedTuple):
    """A field of tissue and what is true of it.

    Attributes
    ----------
    image : numpy.ndarray
        uint8 [height, width, 3], RGB.
    epithelium : numpy.ndarray
        bool [height, width].
    nuclei : numpy.ndarray
        uint16 [height, width], the number of each nucleus, 0 for none. Of nuclei that overlap the upper one hides the
        other.
    """

    image: np.ndarray
    epithelium: np.ndarray
    nuclei: np.ndarray


def draw_patient(rng: np.random.Generator, epithelium: float | None = None) -> Patient:
    """Draw a patient's stain strength, hue and tissue.

    Parameters
    ----------
    rng
        Source of all randomness.
    epithelium
        Share of the tissue that is epithelium, of the patients' mean; None for 0.3 to 0.55.
    """
    stains = OD_FROM_HED[:2] + rng.normal(0, 0.045, (2, 3))
    stains = np.clip(stains, 0.02, None)
    return Patient(
        stains=stains / np.linalg.norm(stains, axis=1, keepdims=True),
        strengths=(float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.65, 1.35))),
        nucleus=float(rng.uniform(7.0, 9.0)),
        nest=float(rng.uniform(34, 52)),
        epithelium=float(rng.uniform(0.3, 0.55) * (1 if epithelium is None else epithelium / MEAN_EPITHELIUM)),
        inflammation=float(rng.uniform(0.08, 0.3)),
    )


def draw_field(
    patient: Patient, height: int, width: int, rng: np.random.Generator, tissue: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a field of tissue: image and epithelium of `draw_whole_field`, without the time that its nuclei take."""
    return _draw(patient, height, width, rng, tissue)[:2]


def draw_whole_field(
    patient: Patient, height: int, width: int, rng: np.random.Generator, tissue: np.ndarray | None = None
) -> Field:
    """Draw a field of tissue, with its nuclei numbered.

    Parameters
    ----------
    patient
        Whose tissue it is.
    height, width
        Size in pixels.
    rng
        Source of all randomness.
    tissue
        bool [height, width], where there is tissue rather than glass; None for everywhere.
    """
    image, epithelium, nuclei = _draw(patient, height, width, rng, tissue)
    return Field(image, epithelium, _whole(nuclei))


def _draw(patient: Patient, height: int, width: int, rng: np.random.Generator, tissue: np.ndarray | None) -> Field:
    tissue = np.ones((height, width), bool) if tissue is None else tissue
    nests = _nests(patient, height, width, rng) & tissue
    direction = np.pi * _smooth_noise(height, width, 90, rng)
    haematoxylin, eosin = _background(nests, direction, rng)
    crowded, numbers = _epithelial_nuclei(patient, nests, rng)
    loose, other_numbers = _stromal_nuclei(patient, nests, direction, rng)
    haematoxylin = np.maximum(np.maximum(haematoxylin, crowded), loose)
    numbers = np.where(other_numbers > 0, other_numbers + numbers.max(), numbers)
    eosin *= 1 - 0.6 * np.clip(haematoxylin, 0, 1)
    for amount in (haematoxylin, eosin):
        left = _fissures(nests, rng) * cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), 1.5)
        amount *= left
        if amount is haematoxylin:
            numbers[left < HARDLY_SEEN] = 0
    return Field(_to_light(haematoxylin, eosin, patient, rng), nests, numbers)


def draw_tissue_outline(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw where a slide's tissue lies on the glass, one large piece and a small one: bool [height, width]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wobble = 0.35 * _smooth_noise(height, width, min(height, width) / 9, rng)
    large = np.hypot((x / width - 0.45) / 0.33, (y / height - 0.47) / 0.36) + wobble < 1
    small = np.hypot((x / width - 0.86) / 0.07, (y / height - 0.84) / 0.09) + wobble < 1
    return large | small


def _smooth_noise(height: int, width: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise with structures of `scale` pixels, mean 0 and standard deviation 1: float32 [height, width].

    Blurred noise is drawn on a coarser grid and enlarged, which costs little at any scale.
    """
    step = max(1.0, scale / 4)
    margin = 4
    shape = (int(height / step) + 2 * margin, int(width / step) + 2 * margin)
    coarse = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), scale / step / 2)
    coarse = (coarse - coarse.mean()) / coarse.std()
    matrix = np.array([[1 / step, 0, margin], [0, 1 / step, margin]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(coarse, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def _nests(patient: Patient, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    relief = _smooth_noise(height, width, patient.nest * 1.6, rng) + 0.35 * _smooth_noise(height, width, 22, rng)
    nests = (relief > np.quantile(relief, 1 - patient.epithelium)).astype(np.uint8)
    return cv2.morphologyEx(nests, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))) > 0


def _background(nests: np.ndarray, direction: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return haematoxylin and eosin of cytoplasm and fibres, before any nucleus: float32 [H, W] each."""
    height, width = nests.shape
    inside = cv2.GaussianBlur(nests.astype(np.float32), (0, 0), 1.2)
    grain = _smooth_noise(height, width, 3, rng)
    shade = _smooth_noise(height, width, 60, rng)
    fibres = _fibres(direction, rng)
    cytoplasm_h, cytoplasm_e = 0.13 + 0.025 * grain + 0.05 * shade, 0.42 + 0.05 * grain + 0.07 * shade
    stroma_h, stroma_e = 0.05 + 0.03 * fibres, 0.44 + 0.2 * fibres + 0.07 * shade
    haematoxylin = inside * cytoplasm_h + (1 - inside) * stroma_h
    eosin = inside * cytoplasm_e + (1 - inside) * stroma_e
    return np.clip(haematoxylin, 0, None), np.clip(eosin, 0.03, None)


def _fibres(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return noise drawn out along a field of directions (radians), mean 0 and spread 1: float32 [H, W].

    It is drawn at half the resolution: fibres are wider than a pixel, and the filters are the dearest part of a slide.
    """
    height, width = direction.shape
    coarse = cv2.resize(direction, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_LINEAR)
    noise = rng.standard_normal(coarse.shape, dtype=np.float32)
    fibres = np.zeros_like(noise)
    reach = 8
    for number in range(ORIENTATIONS):
        angle = np.pi * number / ORIENTATIONS
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        dx, dy = round(reach * np.cos(angle)), round(reach * np.sin(angle))
        cv2.line(kernel, (reach - dx, reach - dy), (reach + dx, reach + dy), 1.0)
        kernel = cv2.GaussianBlur(kernel, (0, 0), 0.6)
        drawn_out = cv2.filter2D(noise, -1, kernel / np.sqrt((kernel**2).sum()))
        # Only orientations near the wanted one count.
        fibres += drawn_out * np.cos(coarse - angle) ** 8
    return cv2.resize(fibres / fibres.std(), (width, height), interpolation=cv2.INTER_CUBIC)


def _scatter(where: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Return points (x, y) about `spacing` apart, on a shaken hexagonal grid, where a mask is set: float [n, 2]."""
    height, width = where.shape
    rows = np.arange(-spacing, height + spacing, spacing * 0.866)
    columns = np.arange(-spacing, width + spacing, spacing, dtype=float)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += spacing / 2
    points = np.column_stack([x.ravel(), y.ravel()]) + rng.normal(0, spacing * 0.2, (x.size, 2))
    inside = (points >= 0).all(axis=1) & (points < (width, height)).all(axis=1)
    points = points[inside]
    return points[where[points[:, 1].astype(int), points[:, 0].astype(int)]]


def _draw_nuclei(
    shape: tuple[int, int],
    points: np.ndarray,
    radii: np.ndarray,
    aspect: np.ndarray,
    angles: np.ndarray,
    darkness: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw elliptic nuclei with a dark membrane, uneven chromatin and, some, a nucleolus.

    Returns
    -------
    haematoxylin : numpy.ndarray
        float32 [H, W].
    numbers : numpy.ndarray
        uint16 [H, W], which of the nuclei is uppermost, counted from 1.
    """
    canvas, numbers = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    shift = 3
    sub = 2**shift
    nuclei = zip(points, radii, aspect, angles, darkness, strict=True)
    for number, ((x, y), radius, long, angle, dark) in enumerate(nuclei, start=1):
        centre = (round(x * sub), round(y * sub))
        axes = (max(1, round(radius * long * sub)), max(1, round(radius / long * sub)))
        ellipse = (centre, axes, float(np.degrees(angle)), 0.0, 360.0)
        value = int(np.clip(160 * dark, 20, 235))
        cv2.ellipse(canvas, *ellipse, value, -1, cv2.LINE_AA, shift)
        cv2.ellipse(canvas, *ellipse, min(value + 40, 255), 1, cv2.LINE_AA, shift)
        cv2.ellipse(numbers, *ellipse, number, -1, cv2.LINE_8, shift)
        if radius > 6 and dark < 0.95:
            cv2.circle(
                canvas, (centre[0] + sub, centre[1] - sub), int(1.3 * sub), min(value + 60, 255), -1, cv2.LINE_AA, shift
            )
    chromatin = 1 + 0.16 * _smooth_noise(*shape, 3.5, rng)
    return cv2.GaussianBlur(canvas.astype(np.float32) / 200, (0, 0), 0.8) * chromatin, numbers


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Return numbered nuclei without the slivers that are left of those under others, numbered anew: uint16 [H, W]."""
    found = np.zeros(numbers.shape, np.uint16)
    count = 0
    for nucleus in measure.regionprops(numbers):
        parts = measure.regionprops(measure.label(nucleus.image, connectivity=1))
        largest = max(parts, key=lambda part: part.area)
        if largest.area >= SMALLEST_NUCLEUS:
            count += 1
            top, left = nucleus.bbox[:2]
            rows, columns = largest.coords.T
            found[rows + top, columns + left] = count
    return found


def _epithelial_nuclei(patient: Patient, nests: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Crowded round nuclei; how dark and how dense they are changes slowly from nest to nest."""
    points = _scatter(nests, patient.nucleus * 2.45, rng)
    density = _smooth_noise(*nests.shape, 70, rng)
    at = (points[:, 1].astype(int), points[:, 0].astype(int))
    kept = rng.uniform(size=len(points)) < 0.86 + 0.1 * density[at]
    points, count = points[kept], int(kept.sum())
    darkness = 0.72 + 0.12 * density[at][kept] + rng.normal(0, 0.1, count)
    return _draw_nuclei(
        nests.shape,
        points,
        patient.nucleus * rng.normal(1, 0.12, count).clip(0.6, 1.4),
        rng.uniform(1.0, 1.18, count),
        rng.uniform(0, np.pi, count),
        darkness,
        rng,
    )


def _stromal_nuclei(
    patient: Patient, nests: np.ndarray, direction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Spindle nuclei along the fibres, and clusters of small round dark lymphocytes."""
    stroma = cv2.erode((~nests).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    spindles = _scatter(stroma, 30, rng)
    spindles = spindles[rng.uniform(size=len(spindles)) < 0.75]
    crowd = _smooth_noise(*nests.shape, 55, rng)
    crowded = stroma & (crowd > np.quantile(crowd, 1 - patient.inflammation))
    lymphocytes = _scatter(crowded, 14, rng)
    n_spindles, n_lymphocytes = len(spindles), len(lymphocytes)
    along = direction[spindles[:, 1].astype(int), spindles[:, 0].astype(int)]
    return _draw_nuclei(
        nests.shape,
        np.concatenate([spindles, lymphocytes]),
        np.concatenate([rng.normal(5.0, 0.8, n_spindles), rng.normal(4.8, 0.4, n_lymphocytes)]).clip(2.5, 8),
        np.concatenate([rng.uniform(1.5, 2.3, n_spindles), rng.uniform(1.0, 1.1, n_lymphocytes)]),
        np.concatenate([along + rng.normal(0, 0.2, n_spindles), rng.uniform(0, np.pi, n_lymphocytes)]),
        np.concatenate([rng.normal(0.78, 0.12, n_spindles), rng.normal(1.0, 0.1, n_lymphocytes)]),
        rng,
    )


def _fissures(nests: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how much tissue is left by the cracks that cutting and shrinking leave, mostly beside nests: 0..1."""
    relief = np.abs(_smooth_noise(*nests.shape, 45, rng))
    place = _smooth_noise(*nests.shape, 120, rng) + 0.6 * (cv2.blur(nests.astype(np.float32), (15, 15)) < 0.3)
    crack = ((relief < 0.05) & (place > 0.7)).astype(np.float32)
    return 1 - 0.95 * cv2.GaussianBlur(crack, (0, 0), 1.0)


def _to_light(haematoxylin: np.ndarray, eosin: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Turn amounts of stain into an image: Beer-Lambert law, a slightly soft lens, and the noise of a camera."""
    amounts = np.stack([1.55 * patient.strengths[0] * haematoxylin, 0.95 * patient.strengths[1] * eosin], axis=-1)
    light = 243 * np.exp(-amounts.astype(np.float32) @ patient.stains.astype(np.float32))
    light = cv2.GaussianBlur(light, (0, 0), 0.6)
    light += rng.standard_normal(light.shape, dtype=np.float32) * (0.12 * np.sqrt(light))
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)
