"""Radiographs saved as single-slice NIfTI, Analyze, NRRD or MetaImage."""

from pathlib import Path

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.greys import luminance
from xray2ctpa_core.io.grid_file import GridHeader, read_grid_array, read_grid_header
from xray2ctpa_core.io.raw_radiograph import RawRadiograph, check_dimensions, radiograph_of_channels

_X, _Y, _Z = range(3)
#: Cosine of the angle between the columns' axis and the patient's left-right axis below which the slice is
#: not seen from the front.
_LEAST_FRONTAL_COSINE = 0.5


def read_grid_radiograph(path: Path) -> RawRadiograph:
    """Reads the one slice of ``path`` as a radiograph seen from the front.

    The header's directions decide: the axis along the patient's left-right becomes the columns; the other
    one becomes the rows, from superior to inferior where the slice is coronal. A radiograph has no position
    in the patient, so ITK (and Slicer) lay it into an axial plane: there the rows run from anterior to
    posterior.
    A header without orientation (NIfTI, Analyze) is taken as stored, i along the columns, j along the rows.

    Raises:
        InputError: more than one slice, a sagittal slice, or a damaged file.
    """
    header = read_grid_header(path)
    wide = [axis for axis, length in enumerate(header.size) if length > 1]
    if len(wide) > 2 or any(axis > _Z for axis in wide):
        size = " x ".join(str(n) for n in header.size)
        raise InputError(
            f"Expected one slice, got {path.name} with {size} voxels, a volume.",
            "Give a projection radiograph; a CT cannot be the input.",
        )
    first, second = wide if len(wide) == 2 else (0, 1)
    check_dimensions(header.size[second], header.size[first], path.name)
    row_axis, column_axis, flips = _axes(header, first, second, path.name)
    array = read_grid_array(path)
    stored = _slice(array, header, row_axis, column_axis)
    notes, turned = (*header.notes, *stored.notes), np.s_[:: flips[0], :: flips[1]]
    changed = flips != (1, 1) or row_axis < column_axis
    if changed:
        notes = (*notes, "The image was turned as its header's directions say.")
    spacing, spacing_note = _spacing(header, row_axis, column_axis)
    return RawRadiograph(
        stored.values[turned],
        padding=None if stored.padding is None else stored.padding[turned],
        spacing_mm=None if spacing_note else spacing,
        spacing_source="unknown" if spacing_note else "header",
        aspect=spacing[0] / spacing[1],
        steps=(f"{array.dtype.name} {header.form}", *stored.steps),
        notes=(*notes, *spacing_note),
        sides="header's directions" if header.oriented and _has_lengths(header) else "",
    )


def _axes(header: GridHeader, first: int, second: int, name: str) -> tuple[int, int, tuple[int, int]]:
    """Voxel axes of rows and columns, and the step (1 or -1) along each that makes the radiograph upright."""
    if not header.oriented or not _has_lengths(header):
        return second, first, (1, 1)
    vectors = header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0)
    row_axis, column_axis = (
        (second, first) if abs(vectors[_X, first]) >= abs(vectors[_X, second]) else (first, second)
    )
    left = vectors[_X, column_axis]
    if abs(left) < _LEAST_FRONTAL_COSINE:
        raise InputError(
            f"Expected a frontal radiograph, got {name}, whose header lays it into a sagittal plane.",
            "Give the frontal view, or correct the directions in the header.",
        )
    posterior, superior = vectors[_Y, row_axis], vectors[_Z, row_axis]
    down = -superior if abs(superior) > abs(posterior) else posterior
    return row_axis, column_axis, (1 if down > 0 else -1, 1 if left > 0 else -1)


def _slice(array: np.ndarray, header: GridHeader, row_axis: int, column_axis: int) -> RawRadiograph:
    """The one slice as stored, colour turned to grey, four whole-number channels taken as RGBA."""
    array = np.moveaxis(array, (row_axis, column_axis), (0, 1))
    rows, columns = array.shape[:2]
    if header.channels == 1:
        return RawRadiograph(array.reshape(rows, columns))
    channels = array.reshape(rows, columns, header.channels)
    if header.channels < 3:
        return RawRadiograph(channels[..., 0], notes=("Only the first of the file's two channels was read.",))
    integer = np.issubdtype(channels.dtype, np.integer)
    full_scale = float(np.iinfo(channels.dtype).max if integer else np.nanmax(np.abs(channels)))
    if integer and header.channels == 4:
        return radiograph_of_channels(channels, full_scale)
    values, notes = luminance(channels[..., :3], full_scale)
    return RawRadiograph(values, steps=("luminance",), notes=notes)


def _has_lengths(header: GridHeader) -> bool:
    """Whether all three voxel axes have a length that can be divided by."""
    lengths = np.linalg.norm(header.affine[:3, :3], axis=0)
    return bool(np.isfinite(lengths).all() and (lengths > 0).all())


def _spacing(
    header: GridHeader, row_axis: int, column_axis: int
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """(row, column) spacing, and a note where it is unusable or the 1 mm that stands for an unknown one."""
    if not _has_lengths(header):
        return (1.0, 1.0), ("The header's spacing is not positive; it was ignored.",)
    lengths = np.linalg.norm(header.affine[:3, :3], axis=0)
    spacing = float(lengths[row_axis]), float(lengths[column_axis])
    if spacing == (1.0, 1.0):
        return spacing, ("The header's spacing of exactly 1 mm stands for an unknown one; it was ignored.",)
    return spacing, ()
