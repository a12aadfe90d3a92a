"""Stored pixels of a DICOM file, decoded without the GPL-licensed plugin that pydicom would need for some."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage
from scipy import ndimage

from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.io.dicom_header import integer, is_little_endian, photometric_of, text
from xray2ctpa_core.io.dicom_mask import padding_mask
from xray2ctpa_core.io.dicom_stream import fragments
from xray2ctpa_core.io.greys import FEW_GREYS

#: Transfer syntaxes that pydicom decodes only through pylibjpeg-libjpeg (GPL), or not at 12 bit.
_GDCM_SYNTAXES = (
    "1.2.840.10008.1.2.4.51",  # JPEG Extended, 12 bit
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, process 14
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, process 14, selection value 1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
)
#: Syntax of pixels in fragments that are not compressed (PS3.5, A.4.11).
_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_EIGHT_BIT_JPEG = "1.2.840.10008.1.2.4.50"
#: Those whose values may lie a little outside the range of BitsStored, for they were stored with a loss.
_LOSSY_SYNTAXES = (
    _EIGHT_BIT_JPEG,
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
)
#: Lossy compression exceeds the range by no more than this; beyond it, BitsStored is wrong.
OVERSHOOT = 1.05
#: Pixels whose neighbours differ by less than this share of what another reading gives are read the one way.
FAR_SMOOTHER = 0.6
#: Across the border of an overlay the pixels beneath it differ by at most this many of the usual steps within
#: so many pixels around it, or by this step.
OVERLAY_STEPS, NEAR_OVERLAY, LEAST_STEP = 3.0, 6, 2.0
_COMPARED_ROWS = 128
_IMAGE_ELEMENTS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)
#: What grey pixels are where the header has lost the element that says so.
_LOST = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


def stored_pixels(path: Path, dataset: Dataset, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels as stored, before any lookup table, and where they are padding.

    Grey pixels lie in the BitsStored bits below HighBit; what other bits hold (overlays, rubbish) is left
    out, values beyond the range by lossy compression are clipped, and where the header's bits cannot be
    those of the values, the values are believed.

    Args:
        path: the file that ``dataset`` was read from.
        dataset: the whole data set, pixels included.
        notes: takes a sentence on every doubt.

    Returns:
        (H, W) or (H, W, 3), and (H, W) bool or None.

    Raises:
        Exception: whatever the decoder raises on damaged pixels; callers wrap it in ``reading``.
    """
    if "PixelData" not in dataset:
        values = np.asarray(dataset.pixel_array)
        return values, padding_mask(dataset, (values, 0))
    if integer(dataset, "SamplesPerPixel", 1) != 1:
        colour = decoded(path, dataset)
        wide = np.issubdtype(colour.dtype, np.integer) and colour.dtype.itemsize > 1
        return (_meant(colour, None, dataset, notes) if wide else colour), None
    lost = [f"{keyword} ({value})" for keyword, value in _LOST.items() if text(dataset, keyword) == ""]
    if lost:
        notes.append(f"The header lacks what says how pixels are stored; taken were {', '.join(lost)}.")
    container = decoded(path, dataset)
    if not np.issubdtype(container.dtype, np.integer) or container.ndim != 2:
        return container, None
    return grey_values(container, dataset, notes)


def grey_values(
    container: np.ndarray, dataset: Dataset, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and padding, as ``stored_pixels``, of one frame of ``decoded``, (H, W) whole numbers."""
    whole = container, container.dtype.itemsize * 8
    container = _ordered_bytes(container, padding_mask(dataset, whole), dataset, notes)
    whole = container, whole[1]
    padding = padding_mask(dataset, whole)
    values = _meant(container, padding, dataset, notes)
    values = _signed(values, container, padding, dataset, notes)
    stored = integer(dataset, "BitsStored", whole[1])
    return values, padding_mask(dataset, whole, (values, stored if 0 < stored <= whole[1] else whole[1]))


def decoded(path: Path, dataset: Dataset) -> np.ndarray:
    """Grey pixels (H, W), of several frames (F, H, W), or colour (H, W, 3), in whole numbers of BitsAllocated
    bits.

    They are decoded as if all bits were stored, so that no decoder masks, shifts or extends a sign by itself.
    """
    image = _image_alone(path)
    image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    if image.file_meta.TransferSyntaxUID == _ENCAPSULATED_UNCOMPRESSED:
        image.PixelData = b"".join(fragments(image.PixelData))
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    allocated = integer(dataset, "BitsAllocated", 16)
    if image.file_meta.TransferSyntaxUID == _EIGHT_BIT_JPEG:
        allocated = image.BitsAllocated = 8  # whatever the header says
    if allocated in (8, 16, 32):
        image.BitsStored, image.HighBit = allocated, allocated - 1
    if not image.file_meta.TransferSyntaxUID.is_encapsulated and 8 < allocated < 16:
        _unpack(image, allocated)
    if image.file_meta.TransferSyntaxUID not in _GDCM_SYNTAXES:
        return np.asarray(image.pixel_array)
    image.PixelRepresentation = 0
    try:
        unsigned = _by_gdcm(image)
    except RuntimeError:  # a code stream that GDCM does not decode into more bits than it announces
        return _by_gdcm(_image_alone(path))
    signed = integer(dataset, "PixelRepresentation", 0) == 1
    return unsigned.view(unsigned.dtype.str.replace("u", "i")) if signed else unsigned


def _unpack(image: Dataset, allocated: int) -> None:
    """Gives pixels that follow one another without a gap in ``allocated`` bits, from the lowest bit of each
    word on (older modalities; PS3.5-2004, annex D), words of their own."""
    words = np.frombuffer(image.PixelData, "<u2" if is_little_endian(image) else ">u2").astype("<u2")
    count = image.Rows * image.Columns * max(integer(image, "NumberOfFrames", 1), 1)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: count * allocated].reshape(
        count, allocated
    )
    pixels = np.packbits(np.pad(bits, ((0, 0), (0, 16 - allocated))), axis=1, bitorder="little").view("<u2")
    image.PixelData = (pixels if is_little_endian(image) else pixels.byteswap()).tobytes()
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15


def _meant(
    container: np.ndarray, padding: np.ndarray | None, dataset: Dataset, notes: list[str]
) -> np.ndarray:
    """The values that BitsStored and HighBit cut out of ``container``, (H, W) whole numbers."""
    allocated = container.dtype.itemsize * 8
    stored = integer(dataset, "BitsStored", allocated)
    if not 0 < stored <= allocated:
        notes.append(f"BitsStored of {stored} does not fit {allocated} allocated bits; all were read.")
        return container
    shift = integer(dataset, "HighBit", stored - 1) + 1 - stored
    used = container if padding is None else container[~padding]
    if not used.size or (stored == allocated and shift == 0):
        return container
    signed = container.dtype.kind == "i"
    if shift < 0 or shift + stored > allocated:
        notes.append("HighBit does not fit BitsStored; the lowest bits were read.")
        shift = 0
    if shift and not signed and int(used.max()) < 1 << stored and np.any(used & ((1 << shift) - 1)):
        notes.append("HighBit says that the upper bits hold the pixels, which are in the lower ones.")
        shift = 0
    brightest = (1 << stored) - 1
    lossy = dataset.file_meta.TransferSyntaxUID in _LOSSY_SYNTAXES
    if lossy and shift == 0 and not signed and int(used.max()) <= brightest * OVERSHOOT:
        return np.clip(container, 0, brightest)
    values = _cut_out(container, stored, shift)
    exceeding = np.count_nonzero((values if padding is None else values[~padding]) != used)
    extended = signed and used.min() < 0  # the sign stands in all bits: a value beyond the range is one
    if shift or (signed and not extended) or not exceeding:
        return values
    if not _overlay_bits(dataset, stored) and (
        extended or _roughness(container) < _roughness(values) or not _hides_beneath(values, container)
    ):
        notes.append(f"The pixels use more than the {stored} bits of BitsStored; all bits were read.")
        return container
    notes.append(f"Bits above the {stored} of BitsStored (an overlay) were left out.")
    return values


def _hides_beneath(values: np.ndarray, container: np.ndarray) -> bool:
    """Whether the lower bits ``values`` of pixels that use upper bits, too, go on with what is around them,
    as they do below an overlay and not where metal is beyond the range."""
    exceeds = values != container
    around = ndimage.binary_dilation(exceeds, iterations=NEAR_OVERLAY)
    across, beside = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(values.astype(np.float32), axis=axis))
        (first, last), (near, _) = (
            [np.delete(mask, end, axis=axis) for end in (-1, 0)] for mask in (exceeds, around)
        )
        across.append(steps[first != last])
        beside.append(steps[~first & ~last & near])
    border, usual = np.concatenate(across), np.concatenate(beside)
    if not border.size or not usual.size:
        return False
    return bool(np.median(border) <= max(OVERLAY_STEPS * float(np.median(usual)), LEAST_STEP))


def _ordered_bytes(
    container: np.ndarray, padding: np.ndarray | None, dataset: Dataset, notes: list[str]
) -> np.ndarray:
    """``container`` with the bytes of its words exchanged, where the pixels are far smoother so: some writers
    keep one order in the header and the other one in the pixels."""
    if container.dtype.itemsize != 2 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return container
    if not _is_far_smoother(np.ndarray.byteswap, container, padding):
        return container
    notes.append("The pixels' bytes stand in the other order than the header says; they were exchanged.")
    return container.byteswap()


def _signed(
    values: np.ndarray,
    container: np.ndarray,
    padding: np.ndarray | None,
    dataset: Dataset,
    notes: list[str],
) -> np.ndarray:
    """``values``, read with the other sign than PixelRepresentation says where they are far smoother so: they
    wrap around then in the middle of a radiograph's greys."""
    bits = container.dtype.itemsize * 8
    stored = integer(dataset, "BitsStored", bits)
    if values is container or not 0 < stored <= bits:
        stored = bits
    half, span = 1 << (stored - 1), 1 << stored
    is_signed = values.dtype.kind == "i"

    def other(part: np.ndarray) -> np.ndarray:
        wide = part.astype(np.int64)
        return wide % span if is_signed else (wide + half) % span - half

    crosses = values.min() < 0 if is_signed else values.max() >= half
    if not crosses or not _is_far_smoother(other, values, padding):
        return values
    said, meant = ("signed", "unsigned") if is_signed else ("unsigned", "signed")
    notes.append(f"PixelRepresentation says {said} pixels; they were read as {meant} ones, which they are.")
    return other(values)


def _cut_out(container: np.ndarray, stored: int, shift: int) -> np.ndarray:
    """Bits ``shift`` to ``shift`` + ``stored`` of every pixel, with their sign if ``container`` has one."""
    bits = container.dtype.itemsize * 8
    up = bits - stored - shift
    unsigned = container.view(container.dtype.str.replace("i", "u"))
    raised = (unsigned << up).astype(unsigned.dtype).view(container.dtype)
    return (raised >> (bits - stored)).astype(container.dtype)


def _is_far_smoother(
    read: Callable[[np.ndarray], np.ndarray], values: np.ndarray, padding: np.ndarray | None
) -> bool:
    """Whether ``read`` of ``values`` is what the pixels mean, by some of their rows: not where they have so
    few greys that chance may say so."""
    rows = slice(None, None, max(1, len(values) // _COMPARED_ROWS))
    some, hidden = values[rows], None if padding is None else padding[rows]
    return (
        _roughness(read(some), hidden) < FAR_SMOOTHER * _roughness(some, hidden)
        and len(np.unique(some if hidden is None else some[~hidden])) >= FEW_GREYS
    )


def _roughness(values: np.ndarray, padding: np.ndarray | None = None) -> float:
    """Sum of the steps between neighbours that are no padding: values that wrap around are far rougher than
    those that do not."""
    total = 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(values.astype(np.float32), axis=axis))
        if padding is not None:
            first, last = (np.delete(padding, end, axis=axis) for end in (-1, 0))
            steps = steps[~(first | last)]
        total += float(steps.sum())
    return total


def _overlay_bits(dataset: Dataset, stored: int) -> bool:
    """Whether an overlay is kept in the pixels' bits above ``stored``."""
    for group in _OVERLAY_GROUPS:
        element = dataset.get((group, 0x0102))
        if element is not None and (group, 0x3000) not in dataset and int(element.value or 0) >= stored:
            return True
    return False


def _image_alone(path: Path) -> Dataset:
    """The elements of the image alone, read again, to be changed at will; what was lost is filled in."""
    image = pydicom.dcmread(path, specific_tags=list(_IMAGE_ELEMENTS), force=True)
    for keyword, value in _LOST.items():
        if text(image, keyword) == "":
            setattr(image, keyword, value)
    image.PhotometricInterpretation = photometric_of(image)
    return image


def _by_gdcm(image: Dataset) -> np.ndarray:
    """Decodes the image's elements alone, since ITK rescales and turns MONOCHROME1 where it can."""
    if integer(image, "NumberOfFrames", 1) > 1:  # GDCM would look for functional groups
        image.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    if text(image, "PhotometricInterpretation") == "MONOCHROME1":
        image.PhotometricInterpretation = "MONOCHROME2"
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "image.dcm"
            image.save_as(copy)
            frames = sitk.GetArrayFromImage(sitk.ReadImage(str(copy), imageIO="GDCMImageIO"))
    except OSError as error:
        raise OutputError(
            f"Expected a folder for temporary files with room for {len(image.PixelData) >> 20} MB, got none: "
            f"{error.strerror or error}.",
            "Name one that can be written: set TMPDIR (on Windows TEMP) to it.",
        ) from error
    return frames[0] if len(frames) == 1 else frames
