"""Reads one frontal chest radiograph from any supported file into a Radiograph."""

import math
import stat
from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io import grid_file
from xray2ctpa_core.io.dicom import read_dicom_radiograph
from xray2ctpa_core.io.dicom_file import is_dicom, is_marked
from xray2ctpa_core.io.dicom_folder import choose_frontal_file
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.greys import SQUARE_TOLERANCE, few_greys, scale_to_unit, with_square_pixels
from xray2ctpa_core.io.grid_radiograph import read_grid_radiograph
from xray2ctpa_core.io.names import FOREIGN_BYTES, GZIP, foreign_form
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.raster import is_raster, read_raster_radiograph
from xray2ctpa_core.io.raw_radiograph import MAX_ASPECT, RawRadiograph, check_dimensions, size_doubt
from xray2ctpa_core.volume import Radiograph

_FORMS = "DICOM, PNG, JPEG, TIFF, NIfTI, Analyze, NRRD and MetaImage"


def read_radiograph(path: Path) -> Radiograph:
    """Reads the radiograph in ``path``.

    Args:
        path: DICOM file, or folder with the DICOM files of an examination (CR, DX, RF; MONOCHROME1 and 2,
            compressed too); PNG, JPEG or TIFF (8 or 16 bit, grey or colour, with or without alpha); or
            single-slice NIfTI, Analyze, NRRD or MetaImage (.nii, .nii.gz, .hdr with .img, .nrrd, .nhdr,
            .mha, .mhd).

    Returns:
        Pixels on a square grid, scaled to [0, 1] between percentiles of the image; spacing where the file
        states a credible one; in ``notes``, what was changed or doubted. ``sha256`` is that of the file's
        bytes (of the chosen file of a folder), or over the digests of a header and its data file.

    Raises:
        InputError: the path is missing, unreadable, no image of these forms, damaged, blank, too small or
            too large, a volume, several frames, or not a projection radiograph.
        DeviceError: the image does not fit in memory.
    """
    path = Path(path)
    with reading(path, "image"):
        if _is_folder(path):
            path = choose_frontal_file(path)
        radiograph = _read_raw(path)
        return _to_radiograph(radiograph, path.name, _digest(path))


def radiographs_below(folder: Path) -> list[Path]:
    """The files below ``folder``, in order: each is taken for a radiograph; hidden ones and the data files of
    headers are left out.

    Raises:
        InputError: there is none.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name[0] != ".")
    files = grid_file.without_data_files(files)
    if not files:
        raise InputError(f"Expected radiographs below {folder}, found none.", "Name another folder.")
    return files


def _is_folder(path: Path) -> bool:
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InputError(f"Expected a file or a folder, got {path}, which is neither.", "Give an image file.")
    return stat.S_ISDIR(mode)


def _read_raw(path: Path) -> RawRadiograph:
    """Finds the form by content first, by suffix where content has no mark, and reads it."""
    with path.open("rb") as file:
        head = file.read(FOREIGN_BYTES)
    foreign = None if is_marked(head) else foreign_form(head)
    if foreign and not (head.startswith(GZIP) and grid_file.is_grid_file(path)):
        raise InputError(f"Expected {_FORMS}, got {path.name}, which is {foreign[0]}.", foreign[1])
    if is_dicom(path):
        return read_dicom_radiograph(path)
    if is_raster(path):
        return read_raster_radiograph(path)
    if grid_file.is_grid_file(path):
        return read_grid_radiograph(path)
    raise InputError(
        f"Expected {_FORMS}, got {path.name} of an unknown form.", "Export the radiograph as DICOM or PNG."
    )


def _digest(path: Path) -> str:
    """SHA-256 of what ``_read_raw`` reads: pairs of one scanner have equal headers, so that their data files
    count, too."""
    is_grid = grid_file.is_grid_file(path) and not (is_dicom(path) or is_raster(path))
    return grid_file.grid_sha256(path) if is_grid else file_sha256(path)


def _to_radiograph(radiograph: RawRadiograph, name: str, digest: str) -> Radiograph:
    """Brings greys to [0, 1] and pixels to squares."""
    rows, columns = radiograph.values.shape
    check_dimensions(rows, columns, name)
    notes = list(radiograph.notes)
    spacing, source = _credible_spacing(radiograph, notes)
    pixels = scale_to_unit(radiograph.values, radiograph.padding, name)
    notes.extend(few_greys(pixels))
    aspect = _credible_aspect(radiograph.aspect, notes)
    if abs(aspect - 1.0) > SQUARE_TOLERANCE:
        check_dimensions(round(rows * max(aspect, 1.0)), round(columns / min(aspect, 1.0)), name)
        pixels = with_square_pixels(pixels, aspect)
        notes.append(f"Pixels {aspect:.3g} times as high as wide were resampled to squares.")
        if spacing is not None:
            spacing = (min(spacing), min(spacing))
    return Radiograph(
        pixels,
        spacing,
        source,
        name,
        digest,
        radiograph.modality,
        radiograph.photometric,
        radiograph.view,
        tuple(notes),
        None if spacing is None else radiograph.magnification,
        "" if spacing is None else radiograph.magnification_source,
        ", ".join(radiograph.steps),
        radiograph.age_years,
        radiograph.sides,
    )


def _credible_spacing(radiograph: RawRadiograph, notes: list[str]) -> tuple[tuple[float, float] | None, str]:
    """The spacing, unless it makes the radiograph smaller or larger than any is; adds a note then."""
    if radiograph.spacing_mm is None:
        return None, "unknown"
    doubt = size_doubt(
        (radiograph.values.shape[0], radiograph.values.shape[1]),
        radiograph.spacing_mm,
        radiograph.spacing_source,
    )
    if doubt:
        notes.append(doubt)
        return None, "unknown"
    return radiograph.spacing_mm, radiograph.spacing_source


def _credible_aspect(aspect: float, notes: list[str]) -> float:
    if not math.isfinite(aspect) or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        notes.append(
            f"Pixels {aspect:.3g} times as high as wide are not credible; they were taken as square."
        )
        return 1.0
    return aspect
