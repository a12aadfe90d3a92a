"""Fetched pairs -> the study table that preprocessing, training and evaluation read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.data.open_pairs.fetch import series_folder
from xray2ctpa_core.data.open_pairs.pairs import Pair
from xray2ctpa_core.data.open_pairs.series import Series
from xray2ctpa_core.data.sources.table import ZERO_OR_ONE, csv_text, read_table
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph

STUDIES_FILE, ERRORS_FILE = "studies.csv", "prepare-errors.jsonl"
COLUMNS = ("id", "patient", "volume", "radiograph", "label", "split")
#: A chest is longer than this from foot to head, mm.
_LEAST_HEIGHT_MM = 150.0
#: Slices lie across the patient: the cosine between their normal and the patient's axis.
_LEAST_COSINE = 0.9


@dataclass(frozen=True)
class Prepared:
    """What a run did: studies in the table, and why each other pair is not in it."""

    studies: int
    failed: tuple[str, ...]


def prepare_pairs(
    folder: Path, pairs: Sequence[Pair], locator: LungLocator, labels: Mapping[str, int] | None = None
) -> Prepared:
    """Writes STUDIES_FILE: a row for each pair whose CT is a stack of axial slices of a chest and of whose
    radiographs the gate accepts one, the nearest.

    Args:
        folder: that the pairs were fetched into; paths in the table are relative to it.
        pairs: selected.
        locator: of the gate.
        labels: 0 or 1 by patient, where somebody has them; the index has none.

    Raises:
        InputError: no pair is left.
    """
    rows, failed = [], []
    for pair in pairs:
        try:
            ct = _axial_chest(folder, pair.ct)
            radiograph = _accepted(folder, (pair.radiograph, *pair.others), locator)
        except XRay2CTPAError as error:
            failed.append({"id": pair.id, "patient": pair.ct.patient, "wrong": error.message})
            continue
        label = (labels or {}).get(pair.ct.patient)
        rows.append(
            (
                pair.id,
                pair.ct.patient,
                str(ct.relative_to(folder)),
                str(radiograph.relative_to(folder)),
                "" if label is None else str(label),
                pair.split,
            )
        )
    write_text_atomically(folder / ERRORS_FILE, "".join(json.dumps(entry) + "\n" for entry in failed))
    said = tuple(f"{entry['id']}: {entry['wrong']}" for entry in failed)
    if not rows:
        raise InputError(
            f"Expected at least one pair with both images, got none of {len(pairs)}.",
            f"{said[0] if said else 'Select pairs first.'} Fetch them: open_pairs.py fetch.",
        )
    write_text_atomically(folder / STUDIES_FILE, csv_text(COLUMNS, rows))
    return Prepared(len(rows), said)


def read_labels(path: Path) -> dict[str, int]:
    """PE by patient, of a table with the columns patient and label (0 or 1); raises InputError for others, or
    for two labels of one patient."""
    labels: dict[str, int] = {}
    for row in read_table(path, ("patient", "label")):
        label = int(row.label("label", ZERO_OR_ONE) or 0)
        if labels.setdefault(row.text("patient"), label) != label:
            raise InputError(
                f"Expected one label a patient, got two of {row.text('patient')} in {row.where}."
            )
    return labels


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
    """The folder of the first radiograph that the gate accepts; raises InputError where it accepts none."""
    reasons = []
    for one in series:
        place = series_folder(folder, one)
        if not place.is_dir():
            continue
        try:
            gate = frame_radiograph(locator, read_radiograph(place)).gate
        except XRay2CTPAError as error:
            reasons.append(error.message.rstrip("."))
            continue
        if gate.accepted:
            return place
        reasons.append(f"the gate refuses it ({gate.is_frontal_cxr:.2f})")
    raise InputError(
        f"Expected a frontal chest radiograph, got none: {'; '.join(reasons) or 'none is fetched'}."
    )
