"""Write whole slides as DICOM has them, a file for each level in a folder, and read them back with pydicom."""

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

# Of a compression: the transfer syntax, what the numbers of a pixel are, and how a frame is encoded.
CODERS = {
    "none": (ExplicitVRLittleEndian, "RGB", lambda tile: tile.tobytes()),
    # Half the colours from left to right, as most scanners do.
    "jpeg": (JPEGBaseline8Bit, "YBR_FULL_422", lambda tile: imagecodecs.jpeg8_encode(tile, 90, subsampling="422")),
    "jpeg rgb": (JPEGBaseline8Bit, "RGB", lambda tile: imagecodecs.jpeg8_encode(tile, 90, outcolorspace="rgb")),
    "jpeg2000": (JPEG2000, "RGB", lambda tile: imagecodecs.jpeg2k_encode(tile, 45, codecformat="j2k", mct=False)),
}

# The finest level and those made of it; what is no level.
KINDS = (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"])
LABEL = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]


def write_dicom(folder, levels, compression, tile, mpp):
    """Write levels uint8 [H, W, 3], the finest first, as a series: full tiles, a file for each level and the label.

    Parameters
    ----------
    folder : Path
        Where they go; made if it is not there.
    levels : list of np.ndarray
        Of any sides.
    compression : str
        One of `CODERS`.
    tile : int
        Side of a frame.
    mpp : float
        µm per pixel of the finest level.

    Returns
    -------
    Path
        The finest level's file.
    """
    folder.mkdir(exist_ok=True)
    series = {f"{name}InstanceUID": generate_uid() for name in ("Study", "Series")}
    series |= {"FrameOfReferenceUID": generate_uid(), "DimensionOrganizationUID": generate_uid()}
    # As of a scanner's files, the names do not tell the order.
    paths = [folder / f"DCM_{len(levels) - number}.dcm" for number in range(len(levels))]
    for number, (path, image) in enumerate(zip(paths, levels, strict=True)):
        spacing = mpp / 1000 * levels[0].shape[1] / image.shape[1]
        data = _described(series, KINDS[min(number, 1)], spacing)
        _fill(data, image, compression, tile, spacing)
        data.save_as(path, enforce_file_format=True)
    label = _described(series, LABEL, 0.05)
    _fill(label, levels[-1][:64, :64], compression, 64, 0.05)
    label.save_as(folder / "label.dcm", enforce_file_format=True)
    return paths[0]


def _fill(data, image, compression, tile, spacing):
    """Add the pixels; `spacing` is the side of one in mm."""
    syntax, photometric, encode = CODERS[compression]
    data.file_meta.TransferSyntaxUID = syntax
    height, width = image.shape[:2]
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows, data.TotalPixelMatrixFocalPlanes = width, height, 1
    data.ImagedVolumeWidth, data.ImagedVolumeHeight, data.ImagedVolumeDepth = width * spacing, height * spacing, 0.001
    data.Rows = data.Columns = tile
    data.SamplesPerPixel, data.PlanarConfiguration, data.PhotometricInterpretation = 3, 0, photometric
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    frames = [encode(pixels) for pixels in _frames(image, tile)]
    data.NumberOfFrames = len(frames)
    if syntax.is_encapsulated:
        data.LossyImageCompression = "01"
        data.LossyImageCompressionMethod = "ISO_15444_1" if syntax == JPEG2000 else "ISO_10918_1"
        data.PixelData = encapsulate(frames)
    else:
        data.LossyImageCompression = "00"
        data.PixelData = b"".join(frames)
    data["PixelData"].VR = "OB"


def _described(series, kind, spacing):
    """Say what belongs together, what kind of picture it is, how large a pixel is and in which order frames are."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = series["StudyInstanceUID"], series["SeriesInstanceUID"]
    data.FrameOfReferenceUID, data.Modality, data.PatientID = series["FrameOfReferenceUID"], "SM", "nobody"
    data.SeriesNumber, data.ContainerIdentifier = 1, "slide"
    data.ImageType, data.VolumetricProperties = kind, "VOLUME"
    data.DimensionOrganizationType = "TILED_FULL"
    data.DimensionOrganizationSequence = _item(DimensionOrganizationUID=series["DimensionOrganizationUID"])
    data.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    data.TotalPixelMatrixOriginSequence = _item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
    data.OpticalPathSequence = _item(OpticalPathIdentifier="1", ObjectiveLensPower=20)
    data.NumberOfOpticalPaths = 1
    measures = _item(PixelSpacing=[f"{spacing:.10f}"] * 2, SliceThickness=0.001)
    frame_type = _item(FrameType=kind)
    data.SharedFunctionalGroupsSequence = _item(
        PixelMeasuresSequence=measures, WholeSlideMicroscopyImageFrameTypeSequence=frame_type
    )
    return data


def _item(**values):
    """Return a sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def _frames(image, side):
    """Cut whole tiles, row by row, the last ones filled up with white."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % side), (0, -width % side), (0, 0)), constant_values=255)
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield np.ascontiguousarray(padded[y : y + side, x : x + side])


def read_dicom(folder):
    """Return the levels of a folder as pydicom reads them, the finest first: uint8 [H, W, 3] each."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    levels = [data for data in files if data.ImageType[2] == "VOLUME"]
    return [_assembled(data) for data in sorted(levels, key=lambda data: -data.TotalPixelMatrixColumns)]


def _assembled(data):
    frames = data.pixel_array if data.NumberOfFrames > 1 else data.pixel_array[None]
    across = -(-data.TotalPixelMatrixColumns // data.Columns)
    rows = [np.concatenate(frames[first : first + across], axis=1) for first in range(0, len(frames), across)]
    return np.concatenate(rows)[: data.TotalPixelMatrixRows, : data.TotalPixelMatrixColumns]
