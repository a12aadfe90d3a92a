"""Stored pixels of a DICOM file, decoded without the GPL-licensed plugin that pydicom would need for some."""

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from xray2ctpa_core.io.dicom_header import text

#: Transfer syntaxes that pydicom decodes only through pylibjpeg-libjpeg (GPL), or not at 12 bit.
_GDCM_SYNTAXES = (
    "1.2.840.10008.1.2.4.51",  # JPEG Extended, 12 bit
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, process 14
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, process 14, selection value 1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
)
_IMAGE_ELEMENTS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def stored_pixels(path: Path, dataset: Dataset) -> np.ndarray:
    """Pixels as stored, before any lookup table: (H, W) or (H, W, 3).

    Args:
        path: the file that ``dataset`` was read from.
        dataset: the whole data set, pixels included.

    Raises:
        Exception: whatever the decoder raises on damaged pixels; callers wrap it in ``reading``.
    """
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    if dataset.file_meta.TransferSyntaxUID in _GDCM_SYNTAXES:
        return _decoded_by_gdcm(path)
    return np.asarray(dataset.pixel_array)


def _decoded_by_gdcm(path: Path) -> np.ndarray:
    """Decodes a copy of the image's elements alone, since ITK rescales and turns MONOCHROME1 where it can."""
    image = pydicom.dcmread(path, specific_tags=list(_IMAGE_ELEMENTS), force=True)
    if text(image, "PhotometricInterpretation") == "MONOCHROME1":
        image.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "image.dcm"
        image.save_as(copy)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(copy), imageIO="GDCMImageIO")).squeeze(axis=0)
