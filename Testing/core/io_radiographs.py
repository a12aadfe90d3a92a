"""Writes one asymmetric picture as a radiograph in every file form, for tests of readers."""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    generate_uid,
)

#: Writes the picture into a folder and says which file it is.
Writer = Callable[[Path], Path]

ROWS, COLUMNS = 160, 128
#: Bright block near the corner that is superior and on the patient's right: the first rows and columns.
MARKER = (slice(6, 30), slice(4, 24))
#: (row, column) mm of the picture where a form carries a spacing: a radiograph of 352 x 282 mm.
SPACING = (2.2, 2.2)


def picture() -> np.ndarray:
    """(160, 128) float32 in [0, 1], bright = attenuating: unequal lungs, a heart on the left, a marker."""
    v, u = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
    radiograph = 0.55 + 0.25 * v / ROWS
    for row, column, height, width, depth in (
        (75, 40, 45, 20, 0.5),
        (85, 92, 35, 16, 0.4),
        (105, 74, 22, 14, -0.3),
    ):
        radiograph -= depth * np.exp(-(((v - row) / height) ** 2) - ((u - column) / width) ** 2)
    radiograph[MARKER] = 1.0
    return np.clip(radiograph, 0.0, 1.0).astype(np.float32)


def expected_pixels() -> np.ndarray:
    """What reading ``picture()`` gives: scaled between its own percentiles 0.5 and 99.5."""
    radiograph = picture()
    low, high = np.percentile(radiograph, (0.5, 99.5))
    return np.clip((radiograph - low) / (high - low), 0.0, 1.0)


def quantised(bits: int) -> np.ndarray:
    """``picture()`` in whole numbers 0 .. 2**bits - 1."""
    return np.rint(picture() * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def write_dicom(
    path: Path,
    stored: np.ndarray | None = None,
    syntax: str = ExplicitVRLittleEndian,
    bits: int = 12,
    **elements: Any,
) -> Path:
    """Writes a CR image with the pixels ``stored`` and more or other elements (None leaves one out)."""
    stored = quantised(bits) if stored is None else stored
    dataset = FileDataset(path, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CR"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    _set_syntax(dataset, stored, syntax)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    big_endian = syntax == ExplicitVRBigEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not big_endian)
    return path


def without_gaps(stored: np.ndarray, depth: int, big_endian: bool = False) -> bytes:
    """uint16 pixels that follow one another in ``depth`` bits, from the lowest bit of each word on."""
    bits = np.unpackbits(stored.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    words = np.packbits(bits[:, :depth], bitorder="little").view("<u2")
    return words.astype(">u2" if big_endian else "<u2").tobytes()


def with_decimal_commas(path: Path, *numbers: str) -> Path:
    """Replaces the points in ``numbers``, which stand in the file, by commas."""
    content = path.read_bytes()
    for number in numbers:
        assert number.encode() in content
        content = content.replace(number.encode(), number.replace(".", ",").encode())
    path.write_bytes(content)
    return path


def _set_syntax(dataset: FileDataset, stored: np.ndarray, syntax: str) -> None:
    """Puts the pixels into the data set in the given transfer syntax."""
    if syntax == JPEGBaseline8Bit:
        jpeg = io.BytesIO()
        Image.fromarray(stored).save(jpeg, "JPEG", quality=95)
        dataset.PixelData = encapsulate([jpeg.getvalue()])
        dataset["PixelData"].VR = "OB"
    elif syntax == JPEGLosslessSV1:
        dataset.PixelData = _lossless_jpeg(stored)
        dataset["PixelData"].VR = "OB"
    elif pydicom.uid.UID(syntax).is_compressed and pydicom.uid.UID(syntax).is_encapsulated:
        quality = {"j2k_cr": [10]} if syntax == pydicom.uid.JPEG2000 else {}
        dataset.compress(syntax, generate_instance_uid=False, **quality)
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    if "PixelData" in dataset and not pydicom.uid.UID(syntax).is_encapsulated:
        dataset["PixelData"].VR = "OW"


def _lossless_jpeg(stored: np.ndarray) -> bytes:
    """Encapsulated lossless JPEG, which pydicom cannot make; GDCM can."""
    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(Path(folder) / "lossless.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(stored))
        return bytes(pydicom.dcmread(Path(folder) / "lossless.dcm").PixelData)


def write_raster(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    """Writes an array or image through Pillow, in the format of the suffix."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def write_wide_colour(path: Path, channels: np.ndarray) -> Path:
    """Writes (H, W, C) uint16 through ITK, which Pillow cannot."""
    sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(path))
    return path


def set_orientation(path: Path, orientation: int) -> None:
    """Writes an EXIF orientation into a PNG or little-endian TIFF that ITK wrote."""
    content = path.read_bytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    if path.suffix == ".png":
        exif = b"II*\0" + struct.pack("<IH", 8, 1) + turned + struct.pack("<I", 0)
        end_of_header = 33
        content = content[:end_of_header] + _png_chunk(b"eXIf", exif) + content[end_of_header:]
    else:
        assert content.count(entry) == 1
        content = content.replace(entry, turned)
    path.write_bytes(content)


def write_itk(
    path: Path, stored: np.ndarray, direction: tuple[float, ...], spacing: tuple[float, ...]
) -> Path:
    """Writes ``stored`` (axes reversed, as ITK's arrays are) with a direction matrix (row by row) in LPS."""
    image = sitk.GetImageFromArray(stored)
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def write_nifti(path: Path, stored: np.ndarray, ras: np.ndarray | None) -> Path:
    """Writes voxels (i, j, k) with an affine to RAS, or with neither of both codes."""
    nib.save(nib.Nifti1Image(stored, ras), path)
    return path


def png_header(columns: int, rows: int) -> bytes:
    """A PNG that announces its size and holds no pixels."""
    size = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", size) + _png_chunk(b"IDAT", b"")


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def radiograph_png() -> bytes:
    """The content of a PNG of 8 bits."""
    packed = io.BytesIO()
    Image.fromarray(quantised(8)).save(packed, "PNG")
    return packed.getvalue()
