"""A CT in Hounsfield units from DICOM, enhanced or not, NIfTI, Analyze, NRRD or MetaImage."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_file import is_dicom
from xray2ctpa_core.io.dicom_series import MIN_SLICES, read_dicom_series
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.grid_file import grid_sha256
from xray2ctpa_core.io.hounsfield import broken_rule, check_body, check_hounsfield, with_air_around
from xray2ctpa_core.io.lung_extent import extent_doubts
from xray2ctpa_core.io.provenance import files_sha256
from xray2ctpa_core.io.volumes import read_volume_with_notes
from xray2ctpa_core.volume import Volume


@dataclass(frozen=True)
class HeaderCorrection:
    """What a data set keeps in a table because its files do not hold it (CT-RATE's first release).

    Attributes:
        slope, intercept: HU = slope * stored + intercept.
        spacing_mm: true spacing along (i, j, k), or None where the file's holds.
    """

    slope: float = 1.0
    intercept: float = 0.0
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class CtScan:
    """A CT as read.

    Attributes:
        volume: (D, H, W) float32 HU, finite, axes and place as stored.
        path: what was read.
        files: how many files it came from.
        sha256: of the file, or over the digests of a header and its data file, or of the slices in order.
        notes: what was changed or doubted, in sentences.
    """

    volume: Volume
    path: Path
    files: int
    sha256: str
    notes: tuple[str, ...] = ()


def read_ct(path: Path, correction: HeaderCorrection | None = None) -> CtScan:
    """Reads the CT in ``path``: a folder with one DICOM series, an enhanced (multi-frame) DICOM file, or a
    .nii, .nii.gz, .hdr with .img, .nrrd, .nhdr, .mha, .mhd.

    Args:
        path: file or folder.
        correction: of a file whose header is known to lack scale or spacing.

    Raises:
        InputError: missing, damaged, no volume, NaN or infinite voxels, or values that are not HU.
        DeviceError: it does not fit in memory.
    """
    path = Path(path)
    with reading(path, "CT"):
        if path.is_dir() or (path.exists() and is_dicom(path)):
            series = read_dicom_series(path)
            scan = CtScan(series.volume, path, len(series.files), files_sha256(series.files), series.notes)
        else:
            volume, notes = read_volume_with_notes(path)
            volume = Volume(volume.array.astype(np.float32), volume.affine)
            scan = CtScan(_corrected(volume, correction, path), path, 1, grid_sha256(path), notes)
        return _checked(scan)


def _checked(scan: CtScan) -> CtScan:
    """``scan`` with air around the body; raises InputError where it is no person's chest in HU and mm."""
    name = scan.path.name
    if min(scan.volume.array.shape) < MIN_SLICES:
        size = " x ".join(str(n) for n in reversed(scan.volume.array.shape))
        raise InputError(
            f"Expected a CT of at least {MIN_SLICES} slices, got {size} voxels in {name}.",
            "Give the whole volume, not a slice of it.",
        )
    check_hounsfield(scan.volume.array, name)
    array, notes = with_air_around(scan.volume.array)
    if notes:
        check_hounsfield(array, f"{name} without its filler")  # which may have passed for soft tissue
        scan = replace(scan, volume=scan.volume.with_array(array), notes=(*scan.notes, *notes))
    check_body(array, scan.volume.spacing, name)
    return replace(scan, notes=(*scan.notes, *extent_doubts(scan.volume, name)))


def _corrected(volume: Volume, correction: HeaderCorrection | None, path: Path) -> Volume:
    if correction is None:
        return volume
    changes = (correction.slope, correction.intercept) != (1.0, 0.0)
    if changes and np.isfinite(volume.array).all() and not broken_rule(volume.array):
        raise InputError(
            f"Expected stored values to scale by {correction.slope:g} and {correction.intercept:g}, got "
            f"Hounsfield units already in {path.name}.",
            "The table's scale is of another release: leave the metadata out, or take that release's files.",
        )
    array = volume.array * np.float32(correction.slope) + np.float32(correction.intercept)
    affine = volume.affine.copy()
    if correction.spacing_mm is not None:
        affine[:3, :3] = volume.direction * np.asarray(correction.spacing_mm)
    return Volume(array, affine)
