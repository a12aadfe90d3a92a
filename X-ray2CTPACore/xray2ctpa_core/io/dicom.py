"""Radiographs in DICOM files: refused by their header, or read as their maker meant them to be seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_file import read_dicom
from xray2ctpa_core.io.dicom_header import integer, is_projection, photometric_of, text
from xray2ctpa_core.io.dicom_lut import modality_values, p_values, presentation_values, rescaling
from xray2ctpa_core.io.dicom_mask import shutter_mask
from xray2ctpa_core.io.dicom_patient import age_in_years, subject_doubts
from xray2ctpa_core.io.dicom_pixels import stored_pixels
from xray2ctpa_core.io.dicom_size import pixel_aspect, pixel_size
from xray2ctpa_core.io.dicom_view import patient_orientation, view_doubts, view_position
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.greys import luminance
from xray2ctpa_core.io.raw_radiograph import RawRadiograph, check_dimensions

try:
    from pydicom.pixels import apply_color_lut
except ImportError:  # pydicom 2, which Slicer 5.10 brings
    from pydicom.pixel_data_handlers.util import apply_color_lut

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PYDICOM_CONVERTS_YBR = int(pydicom.__version__.split(".")[0]) >= 3


def read_dicom_radiograph(path: Path) -> RawRadiograph:
    """Reads a single-frame projection radiograph (CR, DX, RF, and such images kept as OT or SC).

    The modality LUT or rescaling, then the VOI LUT, or else the first window, then the presentation LUT are
    applied; without the latter MONOCHROME1 and an INVERSE shape are inverted once; PatientOrientation turns
    the image where it says that the stored one is mirrored or lies on its side.

    Raises:
        InputError: no DICOM, another modality, several frames, no or damaged pixels, too small or large.
    """
    check_is_one_projection(read_dicom(path, pixels=False), path.name)
    with reading(path, "DICOM"):
        notes: list[str] = []
        dataset = read_dicom(path, notes=notes)
        if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
            raise InputError(
                f"Expected a DICOM image, got {path.name} without complete pixel data.",
                "The file is truncated, or its archive gave the header alone: export it again.",
            )
        steps: list[str] = []
        values, hidden = _attenuation(path, dataset, notes, steps)
        size = pixel_size(dataset, notes)
        notes.extend([*subject_doubts(dataset), *view_doubts(dataset)])
        aspect = size.spacing_mm[0] / size.spacing_mm[1] if size.spacing_mm else pixel_aspect(dataset)
        radiograph = RawRadiograph(
            values,
            hidden,
            size.spacing_mm,
            size.source,
            size.magnification,
            size.magnification_source,
            aspect,
            text(dataset, "Modality") or "unknown",
            photometric_of(dataset) or "unknown",
            view_position(dataset),
            tuple(steps),
            tuple(notes),
            age_in_years(dataset),
        )
        orientation = patient_orientation(dataset)
        if orientation is None:
            return radiograph
        return _upright(radiograph, orientation)


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
    check_dimensions(rows, columns, name)


def _attenuation(
    path: Path, dataset: Dataset, notes: list[str], steps: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Greys with bright = attenuating, and where the header says that nothing was exposed."""
    stored, hidden = stored_pixels(path, dataset, notes)
    photometric = photometric_of(dataset)
    steps.append(f"{integer(dataset, 'BitsStored', 8 * stored.dtype.itemsize)}-bit {photometric or 'grey'}")
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    size = integer(dataset, "Rows", 0), integer(dataset, "Columns", 0)
    if stored.ndim not in (2, 3) or stored.shape[:2] != size:
        raise InputError(
            f"Expected one image of {size[1]} x {size[0]} pixels, got pixels of shape {stored.shape}.",
            "BitsAllocated or the number of frames is not what the pixels have: export the file again.",
        )
    shutter = shutter_mask(dataset, (stored.shape[0], stored.shape[1]), notes)
    if hidden is not None:
        steps.append(f"{hidden.mean():.0%} padding left out")
    if shutter is not None:
        steps.append(f"{shutter.mean():.0%} outside the display shutter left out")
        hidden = shutter if hidden is None else shutter | hidden
    if stored.ndim == 3:
        steps.append("luminance")
        return _colour(stored, photometric, notes), hidden
    values = modality_values(stored, dataset, notes, steps)
    seen = presentation_values(values, dataset, notes, steps, None if hidden is None else ~hidden)
    if text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        notes.append("The image holds raw detector values (FOR PROCESSING), not the processed image.")
    seen, final = p_values(seen, dataset, notes, steps)
    if not final and _is_negative(dataset, notes):
        steps.append("inverted")
        seen = -seen.astype(np.float64)
    return seen, hidden


def _is_negative(dataset: Dataset, notes: list[str]) -> bool:
    """Whether low values are attenuating: MONOCHROME1 or an INVERSE shape; of raw detector values what
    PixelIntensityRelationshipSign says (PS3.3 C.8.11.3.1.2), with a note where the former disagree."""
    photometric = photometric_of(dataset)
    shown = photometric == "MONOCHROME1" or text(dataset, "PresentationLUTShape") == "INVERSE"
    sign = integer(dataset, "PixelIntensityRelationshipSign", 0)
    is_raw = text(dataset, "PresentationIntentType") == "FOR PROCESSING"
    if not is_raw or sign not in (1, -1) or "ModalityLUTSequence" in dataset:
        return shown
    measured = sign * rescaling(dataset, [])[0] > 0
    if measured != shown:
        notes.append(
            f"Of the raw values PixelIntensityRelationshipSign {sign} says that "
            f"{'low' if measured else 'high'} ones are attenuating, {photometric} the contrary; the former "
            "was believed."
        )
    return measured


def _colour(stored: np.ndarray, photometric: str, notes: list[str]) -> np.ndarray:
    if photometric.startswith("YBR") and not _PYDICOM_CONVERTS_YBR:
        return stored[..., 0]
    full_scale = np.iinfo(stored.dtype).max if np.issubdtype(stored.dtype, np.integer) else stored.max()
    grey, colour_notes = luminance(stored[..., :3], float(full_scale))
    notes.extend(colour_notes)
    return grey


def _upright(radiograph: RawRadiograph, orientation: tuple[str, str]) -> RawRadiograph:
    """Turns the radiograph so that rows run to the feet and columns to the patient's left."""
    said = "\\".join(orientation)
    radiograph = replace(radiograph, sides=f"PatientOrientation {said}")
    if orientation == ("L", "F"):
        return radiograph
    along_columns, along_rows = orientation
    transposed = along_columns in "HF"
    if transposed:
        along_columns, along_rows = along_rows, along_columns
    row_step, column_step = (1 if along_rows == "F" else -1), (1 if along_columns == "L" else -1)

    def turned(array: np.ndarray) -> np.ndarray:
        return (array.T if transposed else array)[::row_step, ::column_step]

    return replace(
        radiograph,
        values=turned(radiograph.values),
        padding=None if radiograph.padding is None else turned(radiograph.padding),
        spacing_mm=radiograph.spacing_mm[::-1]
        if radiograph.spacing_mm and transposed
        else radiograph.spacing_mm,
        aspect=1.0 / radiograph.aspect if transposed else radiograph.aspect,
        notes=(*radiograph.notes, f"The image was turned as PatientOrientation {said} says."),
    )
