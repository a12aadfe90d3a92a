"""Fetched pairs -> the study table that preprocessing, training and evaluation read."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core.config import append_json_line, read_json_lines, write_json_lines, write_text_atomically
from xray2ctpa_core.constants import OTHER_VIEWS
from xray2ctpa_core.data.cxr_cases import lung_locator
from xray2ctpa_core.data.open_pairs.fetch import series_folder
from xray2ctpa_core.data.open_pairs.pairs import Pair
from xray2ctpa_core.data.open_pairs.series import Series
from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.dicom_file import read_dicom
from xray2ctpa_core.io.dicom_folder import choose_frontal_file, dicom_files
from xray2ctpa_core.io.dicom_view import view_position
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.workers import TRIES, in_processes

STUDIES_FILE, ERRORS_FILE = "studies.csv", "prepare-errors.jsonl"
#: A line for each pair that was found usable: a later call does not read it again.
RECORD_FILE = "prepared.jsonl"
COLUMNS = ("id", "patient", "volume", "radiograph", "label", "split")
#: A chest is longer than this from foot to head, mm.
_LEAST_HEIGHT_MM = 150.0
#: Slices lie across the patient: the cosine between their normal and the patient's axis.
_LEAST_COSINE = 0.9

#: Does work for many items, as `workers.in_processes`: (make, items, workers, killed) -> (item, made) of each
#: as it is done. An engine of a cluster has the same signature.
Engine = Callable[..., Iterator[tuple[Pair, dict[str, Any]]]]


@dataclass(frozen=True)
class Prepared:
    """What a run did.

    Attributes:
        studies: in the table; ``former``: those of them that were checked before.
        failed: why each other pair is not in it.
    """

    studies: int
    former: int
    failed: tuple[str, ...]


def prepare_pairs(
    folder: Path,
    pairs: Sequence[Pair],
    locator: Path,
    labels: Mapping[str, int] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    engine: Engine = in_processes,
) -> Prepared:
    """Writes STUDIES_FILE: a row for each pair whose CT is a stack of axial slices of a chest and of whose
    radiographs the gate accepts one, the nearest. A call that was stopped is gone on with.

    Args:
        folder: that the pairs were fetched into; paths in the table are relative to it.
        pairs: selected.
        locator: folder of the gate's lung locator.
        labels: 0 or 1 by patient, where somebody has them; the index has none.
        workers: processes that read images.
        progress: called with (done, of).
        engine: that gives the work to processes.

    Raises:
        InputError: no pair is left.
    """
    usable = {key: found for key, found in _record(folder).items() if _are_there(folder, found)}
    former = [pair for pair in pairs if _key(pair, locator) in usable]
    missing = [pair for pair in pairs if _key(pair, locator) not in usable]
    failed: dict[str, str] = {}
    check = functools.partial(checked, folder, str(locator))
    for done, (pair, found) in enumerate(engine(check, missing, workers, _killed), len(former) + 1):
        if "wrong" in found:
            failed[pair.id] = found["wrong"]
        else:
            usable[_key(pair, locator)] = found
            append_json_line(folder / RECORD_FILE, {"key": _key(pair, locator), **found})
        if progress is not None:
            progress(done, len(pairs))
    wrong = [(pair, failed[pair.id]) for pair in pairs if pair.id in failed]
    lines = ({"id": p.id, "patient": p.ct.patient, "wrong": why} for p, why in wrong)
    write_json_lines(folder / ERRORS_FILE, lines)
    said = tuple(f"{pair.id}: {why}" for pair, why in wrong)
    rows = [
        _row(pair, usable[key], (labels or {}).get(pair.ct.patient))
        for pair in pairs
        if (key := _key(pair, locator)) in usable
    ]
    if not rows:
        raise InputError(
            f"Expected at least one pair with both images, got none of {len(pairs)}.",
            f"{said[0] if said else 'Select pairs first.'} Fetch them: open_pairs.py fetch.",
        )
    write_text_atomically(folder / STUDIES_FILE, csv_text(COLUMNS, rows))
    return Prepared(len(rows), len(former), said)


def checked(folder: Path, locator: str, pair: Pair) -> dict[str, Any]:
    """Where the pair's images lie, relative to ``folder``, or what is wrong with it."""
    try:
        ct = _axial_chest(folder, pair.ct)
        radiograph = _accepted(folder, (pair.radiograph, *pair.others), lung_locator(locator))
    except XRay2CTPAError as error:
        return {"wrong": error.message}
    return {"volume": str(ct.relative_to(folder)), "radiograph": str(radiograph.relative_to(folder))}


def _killed(pair: Pair) -> dict[str, Any]:
    return {"wrong": f"Expected the CT {pair.ct.uid} to be read, its process was killed {TRIES} times."}


def _key(pair: Pair, locator: Path) -> str:
    """Names the pair's images and the gate: another choice is checked anew."""
    return " ".join(
        (pair.ct.uid, *(one.uid for one in (pair.radiograph, *pair.others)), Path(locator).parent.name)
    )


def _record(folder: Path) -> dict[str, dict[str, Any]]:
    """What earlier calls found usable, by key."""
    path = folder / RECORD_FILE
    try:
        return {
            one["key"]: {name: one[name] for name in ("volume", "radiograph")}
            for one in read_json_lines(path)
        }
    except KeyError as error:
        raise InputError(
            f"Expected pairs that were checked in {path}, got a line without {error}.",
            "Remove the file: the pairs are then checked again.",
        ) from error


def _are_there(folder: Path, found: Mapping[str, Any]) -> bool:
    return (folder / found["volume"]).exists() and (folder / found["radiograph"]).exists()


def _row(pair: Pair, found: Mapping[str, Any], label: int | None) -> tuple[str, ...]:
    known = "" if label is None else str(label)
    return pair.id, pair.ct.patient, found["volume"], found["radiograph"], known, pair.split


def _axial_chest(folder: Path, series: Series) -> Path:
    """The CT's folder; raises InputError where it is not fetched, unreadable, or no axial stack of a
    chest."""
    place = series_folder(folder, series)
    if not place.is_dir():
        raise InputError(f"Expected the CT {series.uid}, which is not fetched.")
    volume = read_ct(place).volume
    height = volume.array.shape[0] * volume.spacing[2]
    if abs(volume.direction[2, 2]) < _LEAST_COSINE:
        raise InputError(f"Expected axial slices in {series.uid}, got others.")
    if height < _LEAST_HEIGHT_MM:
        raise InputError(f"Expected a whole chest in {series.uid}, got {height:.0f} mm of it.")
    return place


def _accepted(folder: Path, series: Sequence[Series], locator: LungLocator) -> Path:
    """The first radiograph that the gate accepts: the folder of a series, or a file in it where the header
    does not say which of its images is the frontal one; raises InputError where it accepts none."""
    reasons = []
    for one in series:
        place = series_folder(folder, one)
        if not place.is_dir():
            continue
        for path in _images(place):
            try:
                gate = frame_radiograph(locator, read_radiograph(path)).gate
            except XRay2CTPAError as error:
                reasons.append(error.message.rstrip("."))
                continue
            if gate.accepted:
                return path
            reasons.append(f"the gate refuses it ({gate.is_frontal_cxr:.2f})")
    raise InputError(
        f"Expected a frontal chest radiograph, got none: {'; '.join(reasons) or 'none is fetched'}."
    )


def _images(place: Path) -> list[Path]:
    """The folder of a series itself, or those of its files that no header calls a side view, where several
    may be the frontal one."""
    with reading(place, "DICOM"):
        try:
            choose_frontal_file(place)
        except InputError:
            files = [file for file in dicom_files(place) if _may_be_frontal(file)]
            return files if len(files) > 1 else [place]
    return [place]


def _may_be_frontal(file: Path) -> bool:
    try:
        return view_position(read_dicom(file, pixels=False)) not in OTHER_VIEWS
    except InputError:
        return False
