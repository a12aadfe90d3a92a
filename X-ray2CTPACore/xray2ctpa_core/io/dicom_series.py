"""One CT series in a folder of DICOM files: checked slice by slice, in HU, with its place in LPS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_file import read_dicom
from xray2ctpa_core.io.dicom_folder import dicom_files
from xray2ctpa_core.io.dicom_header import integer, text
from xray2ctpa_core.io.dicom_pixels import stored_pixels
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.volume import Volume

#: Fewer slices are a localiser or a fragment.
MIN_SLICES = 3
#: Slices nearer to one another than this lie at one place.
SAME_PLACE_MM = 0.02
#: A gap may differ from the usual one by this share of it (headers round positions to 0.1 mm); no slice
#: may lie further than half a gap from its place on the even grid.
GAP_TOLERANCE = 0.2
#: Direction cosines and pixel spacings (relative) that differ by less are the same.
SAME_DIRECTION, SAME_SPACING = 1e-3, 1e-3
#: Gantries tilt by up to 30 degrees; a larger angle is a broken header. Less than the note's is rounding.
MAX_TILT_DEGREES, NOTED_TILT_DEGREES = 35.0, 0.2


@dataclass(frozen=True)
class DicomSeries:
    """A CT series as read.

    Attributes:
        volume: (D, H, W) float32 HU, k along the slices' normal, j along the columns, i along the rows. A
            series with gantry tilt keeps its true, sheared affine: resampling onto a straight grid
            (`preprocessing.grid.resample_onto`) is the correction.
        files: of the slices, in the order of k.
        series_uid: SeriesInstanceUID.
        notes: what was changed or doubted, in sentences.
    """

    volume: Volume
    files: tuple[Path, ...]
    series_uid: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Slice:
    """What the header of one slice says; vectors in LPS, spacing (row, column) in mm."""

    path: Path
    series_uid: str
    position: np.ndarray
    directions: np.ndarray
    spacing: np.ndarray
    size: tuple[int, int]
    slope: float
    intercept: float


def read_dicom_series(folder: Path) -> DicomSeries:
    """Reads the one CT series below ``folder``.

    Slices are ordered by position, never by name or number; rescale slope and intercept are applied slice by
    slice; PixelPaddingValue becomes air. Gantry tilt is corrected: the affine holds the slices' true shift.

    Raises:
        InputError: no or too few slices, another modality, several series, multi-frame files, a header
            without position, orientation, spacing or rescaling, mixed orientations, spacings or sizes,
            duplicate or missing slices, an uneven or curved stack, or damaged pixels. It names the file.
    """
    folder = Path(folder)
    with reading(folder, "DICOM"):
        slices = [_read_slice(path) for path in dicom_files(folder)]
        if len(slices) < MIN_SLICES:
            raise InputError(
                f"Expected a CT series of at least {MIN_SLICES} slices, got {len(slices)} in {folder}.",
                "Give the folder that holds the series' DICOM files.",
            )
        _check_one_series(slices, folder)
        _check_one_grid(slices)
        slices = _ordered(slices)
        step, notes = _step(slices)
        volume, padded, doubts = _volume(slices, step)
        notes = (*notes, *doubts)
        if padded:
            notes = (*notes, f"{padded} voxels of padding were set to {AIR_HU:.0f} HU.")
        return DicomSeries(volume, tuple(s.path for s in slices), slices[0].series_uid, notes)


def _read_slice(path: Path) -> _Slice:
    header = read_dicom(path, pixels=False)
    modality = text(header, "Modality")
    if modality != "CT":
        raise InputError(
            f"Expected CT slices, got {path.name} of modality {modality or 'unknown'}.",
            "Give the folder of one CT series alone.",
        )
    frames = integer(header, "NumberOfFrames", 1)
    if frames > 1:
        raise InputError(
            f"Expected one slice a file, got {frames} frames in {path.name}.",
            "Export the enhanced CT as single-frame files, or as NIfTI.",
        )
    directions = _numbers(header, "ImageOrientationPatient", 6, path).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if abs(lengths - 1).max() > 0.01 or abs(directions[0] @ directions[1]) > 0.01:
        raise InputError(
            f"Expected two perpendicular unit vectors as ImageOrientationPatient, got "
            f"{directions.ravel().tolist()} in {path.name}.",
            "The header is damaged: export the series again.",
        )
    spacing = _numbers(header, "PixelSpacing", 2, path)
    if spacing.min() <= 0:
        raise InputError(f"Expected a positive PixelSpacing, got {spacing.tolist()} in {path.name}.")
    slope = float(_numbers(header, "RescaleSlope", 1, path)[0])
    if slope == 0:
        raise InputError(
            f"Expected a RescaleSlope other than 0, got 0 in {path.name}.",
            "The series' HU scale is unknown without it: export the series again.",
        )
    return _Slice(
        path,
        str(header.get("SeriesInstanceUID") or ""),
        _numbers(header, "ImagePositionPatient", 3, path),
        directions / lengths[:, None],
        spacing,
        (integer(header, "Rows", 0), integer(header, "Columns", 0)),
        slope,
        float(_numbers(header, "RescaleIntercept", 1, path)[0]),
    )


def _numbers(header: Dataset, keyword: str, count: int, path: Path) -> np.ndarray:
    """(count,) float64 value of ``keyword``; raises InputError where it is absent or malformed."""
    try:
        values = np.atleast_1d(np.array(header.get(keyword), dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(
            f"Expected {keyword} of {count} number(s), got {header.get(keyword)!r} in {path.name}.",
            "The series' geometry or HU scale is unknown without it: export the series again.",
        )
    return values


def _check_one_series(slices: Sequence[_Slice], folder: Path) -> None:
    first = slices[0]
    other = next((s for s in slices if s.series_uid != first.series_uid), None)
    if other is not None:
        count = len({s.series_uid for s in slices})
        raise InputError(
            f"Expected one series, got {count} in {folder}: {first.path.name} belongs to "
            f"{first.series_uid or 'none'}, {other.path.name} to {other.series_uid or 'none'}.",
            "Give the folder of the one series that is meant.",
        )


def _check_one_grid(slices: Sequence[_Slice]) -> None:
    """Raises InputError where orientation, pixel spacing or size changes within the series."""
    first = slices[0]
    for s in slices[1:]:
        if np.abs(s.directions - first.directions).max() > SAME_DIRECTION:
            what, here, there = "orientation", s.directions.ravel(), first.directions.ravel()
        elif np.abs(s.spacing / first.spacing - 1).max() > SAME_SPACING:
            what, here, there = "pixel spacing", s.spacing, first.spacing
        elif s.size != first.size:
            what, here, there = "size", np.array(s.size), np.array(first.size)
        else:
            continue
        raise InputError(
            f"Expected one {what} in the series, got {here.round(4).tolist()} in {s.path.name} and "
            f"{there.round(4).tolist()} in {first.path.name}.",
            "Take localisers and reformatted images out of the folder.",
        )


def _ordered(slices: Sequence[_Slice]) -> list[_Slice]:
    """The slices along their normal; raises InputError for duplicates, missing and uneven ones."""
    normal = np.cross(*slices[0].directions)
    ordered = sorted(slices, key=lambda s: (float(s.position @ normal), s.path.name))
    places = np.array([s.position @ normal for s in ordered])
    gaps = np.diff(places)
    pairs = list(zip(ordered[:-1], ordered[1:], gaps, strict=True))
    for before, after, gap in pairs:
        if gap < SAME_PLACE_MM:
            raise InputError(
                f"Expected one slice at each place, got {before.path.name} and {after.path.name} at one.",
                "Remove the copy, or give one phase or reconstruction alone.",
            )
    usual = float(np.median(gaps))
    for before, after, gap in pairs:
        if abs(gap - usual) <= GAP_TOLERANCE * usual:
            continue
        missing = round(gap / usual) - 1
        even = missing >= 1 and abs(gap - (missing + 1) * usual) <= GAP_TOLERANCE * usual
        raise InputError(
            f"Expected slices every {usual:g} mm, got {gap:g} mm between {before.path.name} and "
            f"{after.path.name}" + (f": {missing} missing." if even else "."),
            "Get the series again, complete, and alone in its folder.",
        )
    return ordered


def _step(slices: Sequence[_Slice]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shift (3,) in mm from one slice to the next, and a note on gantry tilt."""
    positions = np.array([s.position for s in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    distance = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(slices)), step), axis=1)
    if distance.max() > np.linalg.norm(step) / 2:
        worst = slices[int(distance.argmax())].path.name
        raise InputError(
            f"Expected slices along one line, got {worst} {distance.max():.2f} mm away from it.",
            "The series was put together from parts: give one acquisition.",
        )
    along = float(step @ np.cross(*slices[0].directions))
    tilt = math.degrees(math.acos(min(1.0, along / float(np.linalg.norm(step)))))
    if tilt > MAX_TILT_DEGREES:
        raise InputError(
            f"Expected slices stacked along their normal, got a shift of {tilt:.0f} degrees away from it in "
            f"the series of {slices[0].path.name}.",
            "The header's positions are wrong: export the series again.",
        )
    if tilt < NOTED_TILT_DEGREES:
        return step, ()
    return step, (f"The gantry was tilted by {tilt:.1f} degrees; the affine holds the slices' true shift.",)


def _volume(slices: Sequence[_Slice], step: np.ndarray) -> tuple[Volume, int, tuple[str, ...]]:
    """The voxels in HU with their affine, how many of them were padding, and the doubts, each once."""
    first = slices[0]
    array = np.empty((len(slices), *first.size), dtype=np.float32)
    padded = 0
    doubts: list[str] = []
    for k, s in enumerate(slices):
        with reading(s.path, "DICOM"):
            array[k], padding = _hounsfield(s, doubts)
            padded += padding
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return Volume(array, affine), padded, tuple(dict.fromkeys(doubts))


def _hounsfield(s: _Slice, notes: list[str]) -> tuple[np.ndarray, int]:
    """(H, W) HU of one slice and its number of padding pixels."""
    dataset = read_dicom(s.path)
    if "PixelData" not in dataset:
        raise InputError(
            f"Expected a DICOM image, got {s.path.name} without complete pixel data.",
            "The file is truncated: get it again.",
        )
    stored, padding = stored_pixels(s.path, dataset, notes)
    if stored.shape != s.size:
        raise InputError(f"Expected pixels of shape {s.size}, got {stored.shape} in {s.path.name}.")
    hu = stored.astype(np.float32) * np.float32(s.slope) + np.float32(s.intercept)
    if padding is None:
        return hu, 0
    hu[padding] = AIR_HU
    return hu, int(np.count_nonzero(padding))
