"""Radiographs in DICOM files: refused by their header, or read as their maker meant them to be seen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_header import (
    film_spacing,
    integer,
    is_projection,
    patient_orientation,
    pixel_aspect,
    text,
    view_position,
)
from xray2ctpa_core.io.dicom_pixels import stored_pixels
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.film import Film, check_film_size
from xray2ctpa_core.io.greys import has_contrast, luminance

try:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
except ImportError:  # pydicom 2, which Slicer 5.10 brings
    from pydicom.pixel_data_handlers.util import apply_color_lut, apply_modality_lut, apply_voi_lut

_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_PREAMBLE_BYTES = 128
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MALFORMED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
_PYDICOM_CONVERTS_YBR = int(pydicom.__version__.split(".")[0]) >= 3


def is_dicom(path: Path) -> bool:
    """Whether the bytes after the preamble or the suffix say DICOM."""
    with path.open("rb") as file:
        head = file.read(_PREAMBLE_BYTES + 4)
    return head[_PREAMBLE_BYTES:] == b"DICM" or path.suffix.lower() in _SUFFIXES


def read_dicom_header(path: Path) -> Dataset:
    """The data set before the pixels; raises InputError where the file is no DICOM."""
    with reading(path, "DICOM"):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if "SOPClassUID" not in header and "Rows" not in header:
            raise InputError(
                f"Expected a DICOM file, got {path.name}, which has no DICOM header.",
                "Check that the file is complete and that its name fits its content.",
            )
        return header


def read_dicom_film(path: Path) -> Film:
    """Reads a single-frame projection radiograph (CR, DX, RF, and such images kept as OT or SC).

    The modality LUT or rescaling and then the VOI LUT, or else the first window, are applied; MONOCHROME1
    and an INVERSE presentation LUT are inverted once; PatientOrientation turns the picture where it says
    that the stored one is mirrored or lies on its side.

    Raises:
        InputError: no DICOM, another modality, several frames, no or damaged pixels, too small or large.
    """
    check_is_one_projection(read_dicom_header(path), path.name)
    with reading(path, "DICOM"):
        dataset = pydicom.dcmread(path, force=True)
        if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
            raise InputError(
                f"Expected a DICOM image, got {path.name} without complete pixel data.",
                "The file is truncated, or its archive gave the header alone: export it again.",
            )
        stored = stored_pixels(path, dataset)
        notes: list[str] = []
        values, padding = _attenuation(stored, dataset, notes)
        spacing, source = film_spacing(dataset, notes)
        aspect = spacing[0] / spacing[1] if spacing else pixel_aspect(dataset)
        film = Film(
            values,
            padding,
            spacing,
            source,
            aspect,
            text(dataset, "Modality") or "unknown",
            text(dataset, "PhotometricInterpretation") or "unknown",
            view_position(dataset),
            tuple(notes),
        )
        return _upright(film, patient_orientation(dataset))


def check_is_one_projection(header: Dataset, name: str) -> None:
    """Raises InputError where the header is not that of one readable projection radiograph."""
    modality = text(header, "Modality")
    if not is_projection(header):
        raise InputError(
            f"Expected a projection radiograph (CR, DX or RF), got {name} of modality {modality}.",
            "Give the patient's chest radiograph.",
        )
    frames = integer(header, "NumberOfFrames", 1)
    if frames > 1:
        raise InputError(
            f"Expected one frame, got {frames} in {name}.", "Export the frontal view as a single-frame image."
        )
    rows, columns = integer(header, "Rows", 0), integer(header, "Columns", 0)
    if not rows or not columns:
        raise InputError(
            f"Expected a DICOM image, got {name} without pixel data.",
            "Give the image, not its report or directory.",
        )
    check_film_size(rows, columns, name)


def _attenuation(
    stored: np.ndarray, dataset: Dataset, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Greys with bright = attenuating, and where the header says that no film is."""
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        return _colour(stored, photometric, notes), None
    if stored.ndim != 2:
        raise InputError(f"Expected one grey or colour picture, got pixels of shape {stored.shape}.")
    values = _applied(apply_modality_lut, stored, dataset, "modality LUT", notes)
    seen = _applied(apply_voi_lut, values, dataset, "VOI LUT or window", notes)
    if seen is not values and not has_contrast(seen) and has_contrast(values):
        notes.append("The VOI LUT or window leaves one grey; the full range was read instead.")
        seen = values
    if text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        notes.append("The image holds raw detector values (FOR PROCESSING), not the processed film.")
    if photometric == "MONOCHROME1" or text(dataset, "PresentationLUTShape") == "INVERSE":
        seen = -seen.astype(np.float64)
    return seen, padding_mask(stored, dataset)


def _colour(stored: np.ndarray, photometric: str, notes: list[str]) -> np.ndarray:
    if photometric.startswith("YBR") and not _PYDICOM_CONVERTS_YBR:
        return stored[..., 0]
    full_scale = np.iinfo(stored.dtype).max if np.issubdtype(stored.dtype, np.integer) else stored.max()
    grey, colour_notes = luminance(stored[..., :3], float(full_scale))
    notes.extend(colour_notes)
    return grey


def _applied(
    apply: Callable[[np.ndarray, Dataset], np.ndarray],
    values: np.ndarray,
    dataset: Dataset,
    what: str,
    notes: list[str],
) -> np.ndarray:
    """``apply(values, dataset)``, or the untouched values and a note where the header is malformed."""
    try:
        return apply(values, dataset)
    except _MALFORMED as error:
        notes.append(f"The {what} is malformed ({error}); it was not applied.")
        return values


def padding_mask(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """(H, W) bool: PixelPaddingValue (up to its range limit); None if no or every pixel holds it."""
    value = integer(dataset, "PixelPaddingValue", None)
    if value is None:
        return None
    limit = integer(dataset, "PixelPaddingRangeLimit", value)
    padding = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return padding if padding.any() and not padding.all() else None


def _upright(film: Film, orientation: tuple[str, str] | None) -> Film:
    """Turns the film so that rows run to the feet and columns to the patient's left."""
    if orientation is None or orientation == ("L", "F"):
        return film
    said = "\\".join(orientation)
    along_columns, along_rows = orientation
    transposed = along_columns in "HF"
    if transposed:
        along_columns, along_rows = along_rows, along_columns
    row_step, column_step = (1 if along_rows == "F" else -1), (1 if along_columns == "L" else -1)

    def turned(array: np.ndarray) -> np.ndarray:
        return (array.T if transposed else array)[::row_step, ::column_step]

    return Film(
        turned(film.values),
        None if film.padding is None else turned(film.padding),
        film.spacing_mm[::-1] if film.spacing_mm and transposed else film.spacing_mm,
        film.spacing_source,
        1.0 / film.aspect if transposed else film.aspect,
        film.modality,
        film.photometric,
        film.view,
        (*film.notes, f"The picture was turned as PatientOrientation {said} says."),
    )
