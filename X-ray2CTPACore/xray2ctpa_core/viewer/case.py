"""The radiograph and the true CTPA of a result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.samples import SAMPLE_CTPA, SAMPLE_CXR, SAMPLE_FACTS
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.dicom_file import is_dicom
from xray2ctpa_core.io.hounsfield import with_air_around
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.mrml.radiograph import radiograph_in
from xray2ctpa_core.mrml.record import read_record
from xray2ctpa_core.viewer.words import garbled_as_input_error, words_of
from xray2ctpa_core.volume import FrontalFrame, Volume
from xray2ctpa_core.wording import INVERTED_RADIOGRAPH

#: Source of the size in result.json if the radiograph does not determine it.
COHORT_MEAN = "cohort mean"
#: Longest side in pixels of a radiograph for display; of a larger one, squares' means are shown.
_LONGEST_SIDE = 4096
#: A true CTPA that covers a smaller share of the result is doubtful.
_ENOUGH_SHARED = 0.8


@dataclass(frozen=True)
class ShownRadiograph:
    """A radiograph for display.

    Attributes:
        pixels: (H, W) float32 in [0, 1], superior first, the patient's right first.
        name: for display.
        spacing_mm: of a pixel at the middle of the thorax, according to the size of the result's volume; 1 if
            unknown.
        centre: (row, column) in front of the middle of the volume; None if unknown.
    """

    pixels: np.ndarray
    name: str
    spacing_mm: float = 1.0
    centre: tuple[float, float] | None = None


@dataclass(frozen=True)
class Truth:
    """A true CTPA on the grid of a result.

    Attributes:
        array: (D, H, W) float32 in HU, NaN beyond the truth's edge.
        doubts: sentences on limits of a comparison voxel by voxel.
    """

    array: np.ndarray
    doubts: list[str] = field(default_factory=list)


def radiograph_of(
    record: Mapping[str, Any], folder: Path, source: Path | None = None
) -> ShownRadiograph | None:
    """The radiograph of a result: its own file if available, else its picture in preview.png.

    Args:
        record: result.json.
        folder: the result.
        source: the radiograph's file, or None.

    Raises:
        InputError: ``source`` is unreadable, or another radiograph than the result's.
    """
    name, sha256 = record["input"]["name"], record["input"]["sha256"]
    if source is None and SAMPLE_CXR.is_file() and file_sha256(SAMPLE_CXR) == sha256:
        source = SAMPLE_CXR
    if source is None:
        return _radiograph_in_preview(folder, name)
    radiograph = read_radiograph(source)
    if radiograph.sha256 != sha256:
        raise InputError(
            f"Expected the radiograph {name} of this result, got {source.name}, which is another file.",
            "Name the file that the result was made from.",
        )
    pixels = radiograph.pixels
    if INVERTED_RADIOGRAPH in record.get("gate", {}).get("warnings", []):
        pixels = pixels.max() + pixels.min() - pixels
    pixels, times = shrunk(pixels, _LONGEST_SIDE)
    frame = frame_of(record)
    if frame is None:
        return ShownRadiograph(pixels, name)
    geometry, middle = record["geometry"], (frame.side - 1) / 2
    side_mm = geometry["shape"][2] * geometry["spacing_mm"][0]
    centre = [(start + middle + 0.5) / times - 0.5 for start in (frame.top, frame.left)]
    return ShownRadiograph(pixels, name, side_mm / frame.side * times, (centre[0], centre[1]))


def shrunk(pixels: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """An image by the means of squares of its pixels, as few as give at most ``longest`` of them a side.

    Args:
        pixels: (H, W).
        longest: side in pixels.

    Returns:
        (h, w), without what is left over at the lower and right edge, and the pixels along a square's side.
    """
    times = -(-max(pixels.shape) // longest)
    if times == 1 or min(pixels.shape) < times:
        return pixels, 1
    rows, columns = (side // times for side in pixels.shape)
    squares = pixels[: rows * times, : columns * times].reshape(rows, times, columns, times)
    return squares.mean(axis=(1, 3)), times


def check(folder: Path, radiograph: Path | None, truth: Path | None) -> None:
    """Raises InputError unless the result can be shown with this radiograph and this truth."""
    record = read_record(folder)
    with garbled_as_input_error(folder):
        words_of(record)
        radiograph_of(record, folder, radiograph)
        truth_of(record, truth)


def frame_of(record: Mapping[str, Any]) -> FrontalFrame | None:
    """The square of the radiograph that corresponds to a result's volume; None if result.json does not have
    it."""
    frame = record.get("geometry", {}).get("frame_in_film_pixels")
    return None if frame is None else FrontalFrame(**frame)


def are_millimetres_assumed(record: Mapping[str, Any]) -> bool:
    """Whether the result's size is the cohort's mean, because the radiograph has no credible spacing."""
    return record.get("geometry", {}).get("spacing_source", COHORT_MEAN) == COHORT_MEAN


def truth_of(record: Mapping[str, Any], truth: Path | None = None) -> Truth | None:
    """The true CTPA on the result's grid.

    If the truth's frame on the same radiograph is known (the packaged sample patient, a virtual patient's
    folder), the truth is aligned by the two frames, whatever the millimetres; otherwise in patient space.

    Args:
        record: result.json.
        truth: a CTPA, DICOM (a folder, or enhanced), NIfTI, NRRD or MetaImage; None takes that of the
            packaged sample patient for a result of his, else there is none.

    Raises:
        InputError: the file is no volume, or has no overlap with the result.
    """
    if truth is None:
        if not SAMPLE_CXR.is_file() or file_sha256(SAMPLE_CXR) != record["input"]["sha256"]:
            return None
        truth = SAMPLE_CTPA
    is_dicom_ct = truth.is_dir() or (truth.exists() and is_dicom(truth))
    volume = read_ct(truth).volume if is_dicom_ct else read_volume(truth)
    if not is_dicom_ct:  # a mask or resampling may have left another value around the body
        volume = volume.with_array(with_air_around(volume.array)[0])
    true_frame, frame = _true_frame(record, truth), frame_of(record)
    if true_frame is not None and frame is not None and volume.array.shape == _shape(record):
        from xray2ctpa_core.pipelines.geometry import on_frame

        return Truth(on_frame(volume.array, true_frame, frame))
    return _by_patient_space(record, volume)


def _shape(record: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(record["geometry"]["shape"])


def _by_patient_space(record: Mapping[str, Any], volume: Volume) -> Truth:
    """``volume`` resampled to the result's grid; raises InputError if they do not overlap."""
    from scipy import ndimage

    geometry, shape = record["geometry"], _shape(record)
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(geometry["direction"]) * np.asarray(geometry["spacing_mm"])
    affine[:3, 3] = geometry["origin_lps"]
    to_truth = np.linalg.inv(volume.affine) @ affine  # (i, j, k) of the result -> (i, j, k) of the truth
    shared = _shared_part(to_truth, shape, volume.array.shape)
    if shared == 0:
        raise InputError(
            "Expected a true CTPA that overlaps the result in patient space, got one wholly outside it.",
            "Register the true CTPA with the result first, or leave --truth out.",
        )
    doubts = []
    if are_millimetres_assumed(record):
        doubts.append(
            "The result's millimetres are assumed (the cohort's mean size), the true CTPA's are measured: "
            "their anatomy need not coincide, and the difference shows that, too."
        )
    if shared < _ENOUGH_SHARED:
        doubts.append(
            f"The true CTPA covers only {100 * shared:.0f} % of the result; elsewhere no difference is shown."
        )
    array = ndimage.affine_transform(
        volume.array.astype(np.float32),
        to_truth[2::-1, 2::-1],
        to_truth[2::-1, 3],
        output_shape=shape,
        order=1,
        cval=np.nan,
    )
    return Truth(array, doubts)


def _shared_part(to_truth: np.ndarray, shape: tuple[int, ...], true_shape: tuple[int, ...]) -> float:
    """The share of a result's grid (D, H, W) that is within the truth's, 0..1, computed at up to 32 places
    along each axis."""
    axes = [np.linspace(0, n - 1, min(n, 32)) for n in shape[::-1]]
    places = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    there = to_truth[:3, :3] @ places + to_truth[:3, 3:]
    limits = np.asarray(true_shape[::-1])[:, None] - 0.5
    return float(np.all((there >= -0.5) & (there <= limits), axis=0).mean())


def _true_frame(record: Mapping[str, Any], truth: Path) -> FrontalFrame | None:
    """The frame of the truth's volume on the result's radiograph; None if unknown."""
    sha256 = record["input"]["sha256"]
    folder = truth.resolve().parent
    for radiograph, facts in ((SAMPLE_CXR, SAMPLE_FACTS), (folder / "cxr.png", folder / "patient.json")):
        if (
            facts.parent == folder
            and facts.is_file()
            and radiograph.is_file()
            and file_sha256(radiograph) == sha256
        ):
            return FrontalFrame(**json.loads(facts.read_text(encoding="utf-8"))["frame"])
    return None


def _radiograph_in_preview(folder: Path, name: str) -> ShownRadiograph | None:
    """The radiograph in the result's preview.png, in the proportions of a map that lies on it; None if there
    is no such file."""
    drawn = folder / result_files.RADIOGRAPH_GRADCAM
    try:
        shape = read_volume(drawn).array.shape[1:] if drawn.is_file() else (1, 1)
        return ShownRadiograph(radiograph_in(folder / result_files.PREVIEW, shape), name)
    except InputError:
        return None
