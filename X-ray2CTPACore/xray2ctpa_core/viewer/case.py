"""What belongs to a result beside its folder: the radiograph it was made from, and a true CTPA."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.samples import SAMPLE_CTPA, SAMPLE_CXR, SAMPLE_FACTS
from xray2ctpa_core.io import preview, result_files
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.mrml.record import read_record
from xray2ctpa_core.volume import FrontalFrame
from xray2ctpa_core.wording import INVERTED_FILM


@dataclass(frozen=True)
class Film:
    """A radiograph as it is shown.

    Attributes:
        pixels: (H, W) float32 in [0, 1], superior first, the patient's right first.
        name: shown to people.
        spacing_mm: of a pixel at the middle of the thorax, as the result's volume was sized; 1 where no
            result says so.
        centre: (row, column) in front of the middle of the volume; None where that is not known.
    """

    pixels: np.ndarray
    name: str
    spacing_mm: float = 1.0
    centre: tuple[float, float] | None = None


def film_of(record: Mapping[str, Any], folder: Path, source: Path | None = None) -> Film | None:
    """The radiograph of a result: its own file where that is at hand, else what preview.png shows of it.

    Args:
        record: result.json.
        folder: the result.
        source: the radiograph's file, or None.

    Raises:
        InputError: ``source`` is unreadable or another radiograph than the result's.
    """
    name, sha256 = record["input"]["name"], record["input"]["sha256"]
    if source is None and SAMPLE_CXR.is_file() and file_sha256(SAMPLE_CXR) == sha256:
        source = SAMPLE_CXR
    if source is None:
        return _film_in_preview(folder / result_files.PREVIEW, name)
    radiograph = read_radiograph(source)
    if radiograph.sha256 != sha256:
        raise InputError(
            f"Expected the radiograph {name} of this result, got {source.name}, which is another file.",
            "Name the file that the result was made from.",
        )
    pixels = radiograph.pixels
    if INVERTED_FILM in record["gate"]["warnings"]:
        pixels = pixels.max() + pixels.min() - pixels
    frame, geometry = frame_of(record), record["geometry"]
    if frame is None:
        return Film(pixels, name)
    side_mm = geometry["shape"][2] * geometry["spacing_mm"][0]
    middle = (frame.side - 1) / 2
    return Film(pixels, name, side_mm / frame.side, (frame.top + middle, frame.left + middle))


def check(folder: Path, film: Path | None, truth: Path | None) -> None:
    """Raises InputError unless the result can be shown with this film and this truth."""
    record = read_record(folder)
    film_of(record, folder, film)
    truth_of(record, truth)


def frame_of(record: Mapping[str, Any]) -> FrontalFrame | None:
    """The square of the film that a result's volume corresponds to; None where result.json lacks it."""
    frame = record.get("geometry", {}).get("frame_in_film_pixels")
    return None if frame is None else FrontalFrame(**frame)


def truth_of(record: Mapping[str, Any], truth: Path | None = None) -> np.ndarray | None:
    """(D, H, W) float32 in HU: the true CTPA on the result's grid, air beyond its edge.

    Args:
        record: result.json.
        truth: a CTPA in the patient space of the result, NIfTI, NRRD or MetaImage; None takes that of the
            packaged sample patient if the result is his, else there is none.

    Raises:
        InputError: the file is no volume.
    """
    from scipy import ndimage

    if truth is None:
        return _sample_truth(record)
    volume, geometry = read_volume(truth), record["geometry"]
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(geometry["direction"]) * np.asarray(geometry["spacing_mm"])
    affine[:3, 3] = geometry["origin_lps"]
    to_truth = np.linalg.inv(volume.affine) @ affine  # (i, j, k) of the result -> (i, j, k) of the truth
    return ndimage.affine_transform(
        volume.array.astype(np.float32),
        to_truth[2::-1, 2::-1],
        to_truth[2::-1, 3],
        output_shape=tuple(geometry["shape"]),
        order=1,
        cval=AIR_HU,
    )


def _sample_truth(record: Mapping[str, Any]) -> np.ndarray | None:
    """The sample patient's CTPA in the frame of the result, whose film it shares."""
    frame = frame_of(record)
    if not SAMPLE_CXR.is_file() or frame is None or file_sha256(SAMPLE_CXR) != record["input"]["sha256"]:
        return None
    from xray2ctpa_core.pipelines.geometry import on_frame

    true_frame = FrontalFrame(**json.loads(SAMPLE_FACTS.read_text(encoding="utf-8"))["frame"])
    truth = on_frame(read_volume(SAMPLE_CTPA).array, true_frame, frame)
    return truth if truth.shape == tuple(record["geometry"]["shape"]) else None


def _film_in_preview(path: Path, name: str) -> Film | None:
    """The radiograph as the result's own picture shows it; None where there is no such picture."""
    try:
        with Image.open(path) as picture:
            tile = preview.radiograph_in(picture)
    except (OSError, ValueError):
        return None
    return Film(np.asarray(tile, dtype=np.float32) / 255, name)
