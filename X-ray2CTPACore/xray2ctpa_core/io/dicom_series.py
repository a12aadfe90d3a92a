"""One CT series from DICOM files with one slice or several (enhanced CT), checked slice by slice, in HU and
LPS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_file import frame_header, read_dicom
from xray2ctpa_core.io.dicom_folder import dicom_files
from xray2ctpa_core.io.dicom_header import integer, text
from xray2ctpa_core.io.dicom_pixels import decoded, grey_values
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.volume import Volume

#: Fewer slices are a localiser or a fragment.
MIN_SLICES = 3
#: Slices closer to each other than this lie at the same place.
SAME_PLACE_MM = 0.02
#: A gap may differ from the usual one by this share of it (headers round positions to 0.1 mm); no slice
#: may lie further than half a gap from its place on the even grid.
GAP_TOLERANCE = 0.2
#: Direction cosines and pixel spacings (relative) that differ by less are the same.
SAME_DIRECTION, SAME_SPACING = 1e-3, 1e-3
#: What CT values can be besides HU (RescaleType), as PS3.3 C.11.1.1.2 names it.
_NO_HU = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
#: Gantries tilt by up to 30 degrees; a larger angle is a header error. An angle below that of the note is
#: rounding.
MAX_TILT_DEGREES, NOTED_TILT_DEGREES = 35.0, 0.2


@dataclass(frozen=True)
class DicomSeries:
    """A CT series as read.

    Attributes:
        volume: (D, H, W) float32 HU, k along the slices' normal, j along the columns, i along the rows. A
            series with gantry tilt keeps its true, sheared affine: resampling onto a straight grid
            (`preprocessing.grid.resample_onto`) is the correction.
        files: of the slices, each once, in the order of k.
        series_uid: SeriesInstanceUID.
        notes: changes and doubts, in sentences.
    """

    volume: Volume
    files: tuple[Path, ...]
    series_uid: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Slice:
    """Header of one slice, frame ``frame`` of ``path``; vectors in LPS, spacing (row, column) in mm."""

    path: Path
    frame: int
    name: str
    series_uid: str
    position: np.ndarray
    directions: np.ndarray
    spacing: np.ndarray
    size: tuple[int, int]
    slope: float
    intercept: float


def read_dicom_series(place: Path) -> DicomSeries:
    """Reads the one CT series in ``place``, a folder or a file of several frames.

    Slices are ordered by position, never by name or number; rescale slope and intercept are applied slice by
    slice; PixelPaddingValue becomes air. Gantry tilt is corrected: the affine holds the slices' true shift.
    In enhanced CT, geometry and rescaling come from the functional groups of each frame (PS3.3 A.38.1).

    Raises:
        InputError: no or too few slices, another modality, several series, values that are not HU, a header
            without position, orientation, spacing or rescaling, mixed orientations, spacings or sizes,
            duplicate or missing slices, an uneven or curved stack, or damaged pixels. It names the file.
    """
    place = Path(place)
    with reading(place, "DICOM"):
        files = list(dicom_files(place)) if place.is_dir() else [place]
        slices = [s for path in files for s in _read_slices(path)]
        if len(slices) < MIN_SLICES and not place.is_dir():
            raise InputError(
                f"Expected a CT series, got the single DICOM file {place.name} with {len(slices)} slice(s).",
                "Give the folder that holds it.",
            )
        if len(slices) < MIN_SLICES:
            raise InputError(
                f"Expected a CT series of at least {MIN_SLICES} slices, got {len(slices)} in {place}.",
                "Give the folder that holds the series' DICOM files.",
            )
        _check_one_series(slices, place)
        _check_one_grid(slices)
        slices = _ordered(slices)
        step, notes = _step(slices)
        volume, padded, doubts = _volume(slices, step)
        notes = (*notes, *doubts)
        if padded:
            notes = (*notes, f"{padded} voxels of padding were set to {AIR_HU:.0f} HU.")
        return DicomSeries(volume, tuple(dict.fromkeys(s.path for s in slices)), slices[0].series_uid, notes)


def _read_slices(path: Path) -> list[_Slice]:
    """Every slice of a file."""
    header = read_dicom(path, pixels=False)
    modality = text(header, "Modality")
    if modality != "CT":
        raise InputError(
            f"Expected CT slices, got {path.name} of modality {modality or 'unknown'}.",
            "Give the folder of one CT series alone.",
        )
    count = integer(header, "NumberOfFrames", 1)
    if count <= 1:
        return [_slice(header, path, 0, path.name)]
    return [_slice(frame_header(header, n), path, n, f"{path.name} (frame {n + 1})") for n in range(count)]


def _slice(header: Dataset, path: Path, frame: int, name: str) -> _Slice:
    """One slice from its own header; raises InputError if the header lacks position, spacing or scale."""
    unit = text(header, "RescaleType")
    if unit in _NO_HU:
        raise InputError(
            f"Expected values in HU, got RescaleType {unit} in {name}.",
            "Give the series with the CT itself, not what was computed from it.",
        )
    directions = _numbers(header, "ImageOrientationPatient", 6, name).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if abs(lengths - 1).max() > 0.01 or abs(directions[0] @ directions[1]) > 0.01:
        raise InputError(
            f"Expected two perpendicular unit vectors as ImageOrientationPatient, got "
            f"{directions.ravel().tolist()} in {name}.",
            "The header is damaged: export the series again.",
        )
    spacing = _numbers(header, "PixelSpacing", 2, name)
    if spacing.min() <= 0:
        raise InputError(f"Expected a positive PixelSpacing, got {spacing.tolist()} in {name}.")
    slope = float(_numbers(header, "RescaleSlope", 1, name)[0])
    if slope == 0:
        raise InputError(
            f"Expected a RescaleSlope other than 0, got 0 in {name}.",
            "The series' HU scale is unknown without it: export the series again.",
        )
    return _Slice(
        path,
        frame,
        name,
        str(header.get("SeriesInstanceUID") or ""),
        _numbers(header, "ImagePositionPatient", 3, name),
        directions / lengths[:, None],
        spacing,
        (integer(header, "Rows", 0), integer(header, "Columns", 0)),
        slope,
        float(_numbers(header, "RescaleIntercept", 1, name)[0]),
    )


def _numbers(header: Dataset, keyword: str, count: int, name: str) -> np.ndarray:
    """(count,) float64 value of ``keyword``; raises InputError if it is absent or malformed."""
    try:
        values = np.atleast_1d(np.array(header.get(keyword), dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(
            f"Expected {keyword} of {count} number(s), got {header.get(keyword)!r} in {name}.",
            "The series' geometry or HU scale is unknown without it: export the series again.",
        )
    return values


def _check_one_series(slices: Sequence[_Slice], place: Path) -> None:
    first = slices[0]
    other = next((s for s in slices if s.series_uid != first.series_uid), None)
    if other is not None:
        count = len({s.series_uid for s in slices})
        raise InputError(
            f"Expected one series, got {count} in {place}: {first.path.name} belongs to "
            f"{first.series_uid or 'none'}, {other.path.name} to {other.series_uid or 'none'}.",
            "Give the folder of the one series that is meant.",
        )


def _check_one_grid(slices: Sequence[_Slice]) -> None:
    """Raises InputError if orientation, pixel spacing or size changes within the series."""
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
            f"Expected one {what} in the series, got {here.round(4).tolist()} in {s.name} and "
            f"{there.round(4).tolist()} in {first.name}.",
            "Take localisers and reformatted images out of the folder.",
        )


def _ordered(slices: Sequence[_Slice]) -> list[_Slice]:
    """The slices in order along their normal; raises InputError for duplicate, missing or unevenly spaced
    ones."""
    normal = np.cross(*slices[0].directions)
    ordered = sorted(slices, key=lambda s: (float(s.position @ normal), s.name))
    places = np.array([s.position @ normal for s in ordered])
    gaps = np.diff(places)
    pairs = list(zip(ordered[:-1], ordered[1:], gaps, strict=True))
    for before, after, gap in pairs:
        if gap < SAME_PLACE_MM:
            raise InputError(
                f"Expected one slice at each place, got {before.name} and {after.name} at one.",
                "Remove the copy, or give one phase or reconstruction alone.",
            )
    usual = float(np.median(gaps))
    for before, after, gap in pairs:
        if abs(gap - usual) <= GAP_TOLERANCE * usual:
            continue
        missing = round(gap / usual) - 1
        even = missing >= 1 and abs(gap - (missing + 1) * usual) <= GAP_TOLERANCE * usual
        raise InputError(
            f"Expected slices every {usual:g} mm, got {gap:g} mm between {before.name} and "
            f"{after.name}" + (f": {missing} missing." if even else "."),
            "Get the series again, complete, and alone in its folder.",
        )
    return ordered


def _step(slices: Sequence[_Slice]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shift (3,) in mm from one slice to the next, and a note on gantry tilt."""
    positions = np.array([s.position for s in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    distance = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(slices)), step), axis=1)
    if distance.max() > np.linalg.norm(step) / 2:
        worst = slices[int(distance.argmax())].name
        raise InputError(
            f"Expected slices along one line, got {worst} {distance.max():.2f} mm away from it.",
            "The series was put together from parts: give one acquisition.",
        )
    along = float(step @ np.cross(*slices[0].directions))
    tilt = math.degrees(math.acos(min(1.0, along / float(np.linalg.norm(step)))))
    if tilt > MAX_TILT_DEGREES:
        raise InputError(
            f"Expected slices stacked along their normal, got a shift of {tilt:.0f} degrees away from it in "
            f"the series of {slices[0].name}.",
            "The header's positions are wrong: export the series again.",
        )
    if tilt < NOTED_TILT_DEGREES:
        return step, ()
    return step, (f"The gantry was tilted by {tilt:.1f} degrees; the affine holds the slices' true shift.",)


def _volume(slices: Sequence[_Slice], step: np.ndarray) -> tuple[Volume, int, tuple[str, ...]]:
    """The voxels in HU with their affine, the number of padding voxels, and the doubts, each once."""
    first = slices[0]
    array = np.empty((len(slices), *first.size), dtype=np.float32)
    padded = 0
    doubts: list[str] = []
    of_file: dict[Path, list[int]] = {}
    for k, s in enumerate(slices):
        of_file.setdefault(s.path, []).append(k)
    for path, places in of_file.items():
        with reading(path, "DICOM"):
            dataset, frames = _frames(path, first.size, doubts)
            for k in places:
                array[k], padding = _hounsfield(frames[slices[k].frame], dataset, slices[k], doubts)
                padded += padding
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return Volume(array, affine), padded, tuple(dict.fromkeys(doubts))


def _frames(path: Path, size: tuple[int, int], notes: list[str]) -> tuple[Dataset, np.ndarray]:
    """The data set of a file and its pixels, (frames, H, W) as stored."""
    dataset = read_dicom(path, notes=notes)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise InputError(
            f"Expected a CT with whole numbers as pixels, got floating-point ones in {path.name}.",
            "Give the series as the scanner wrote it, or convert it to NIfTI.",
        )
    if "PixelData" not in dataset:
        raise InputError(
            f"Expected a DICOM image, got {path.name} without complete pixel data.",
            "The file is truncated: get it again.",
        )
    frames = decoded(path, dataset)
    frames = frames[None] if frames.ndim == 2 else frames
    expected = (max(integer(dataset, "NumberOfFrames", 1), 1), *size)
    if frames.shape != expected:
        raise InputError(f"Expected pixels of shape {expected}, got {frames.shape} in {path.name}.")
    return dataset, frames


def _hounsfield(frame: np.ndarray, dataset: Dataset, s: _Slice, notes: list[str]) -> tuple[np.ndarray, int]:
    """(H, W) HU of one slice and its number of padding pixels."""
    stored, padding = grey_values(frame, dataset, notes)
    if dataset.get("ModalityLUTSequence"):
        notes.append("The series has a modality LUT beside its rescale slope and intercept; it was ignored.")
    hu = stored.astype(np.float32) * np.float32(s.slope) + np.float32(s.intercept)
    if padding is None:
        return hu, 0
    hu[padding] = AIR_HU
    return hu, int(np.count_nonzero(padding))
