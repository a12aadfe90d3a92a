"""The index of encoded or generated volumes: a row for each, with latents, label, split and radiograph."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.data.cases import TABLE_FILE, case_rows
from xray2ctpa_core.data.cxr_cases import CXR_FILE
from xray2ctpa_core.data.index import INDEX_COLUMNS
from xray2ctpa_core.data.sources.table import Row, csv_text, read_table
from xray2ctpa_core.errors import InputError

#: Written when every volume has its latents.
INDEX_FILE = "index.csv"
LATENTS = "latents"
COLUMNS = (*INDEX_COLUMNS, LATENTS)
_LABELS = {"0": 0, "1": 1, "": None}
_HINT = "Run the recipe's step that encodes or generates them."


@dataclass(frozen=True)
class LatentCase:
    """One volume of an index; several of one scan share id, patient, label and split.

    Attributes:
        row: row of the index, from 0.
        volume: NIfTI of the encoded or the decoded volume.
        id, patient: of the study.
        label: 1 with PE, 0 without, None unknown.
        split: as in the data set, "" where it has none.
        where: file and row, for messages.
        latents: (C, D, H, W) float16 as .npy.
        radiograph: (P, P), or (1 + V, P, P) with V augmented ones after the plain one, as .npy; or None.
        map, findings: files of a virtual patient (`data.sources.study.Study`), else None.
    """

    row: int
    volume: Path
    id: str
    patient: str
    label: int | None
    split: str
    where: str
    latents: Path = Path()
    radiograph: Path | None = None
    map: Path | None = None
    findings: Path | None = None


def read_latent_cases(folder: Path, labelled: bool = False) -> list[LatentCase]:
    """The volumes in ``folder``'s index, in order.

    Args:
        folder: with index.csv.
        labelled: whether each must have a label.

    Raises:
        InputError: no index, one without a column, a label that is not 0 or 1, or missing latents. It names
            file and row.
    """
    folder = Path(folder)
    index = folder / INDEX_FILE
    if not index.is_file():
        raise InputError(f"Expected {INDEX_FILE} in {folder}, found none.", _HINT)
    cases = [_case(folder, number, row) for number, row in enumerate(read_table(index, COLUMNS))]
    for case in cases:
        if labelled and case.label is None:
            raise InputError(f"Expected a label of 0 or 1, got '' in {case.where}.")
        if not case.latents.is_file():
            raise InputError(f"Expected the latents {case.latents} of {case.where}, got no such file.", _HINT)
    return cases


def write_latent_cases(folder: Path, cases: Sequence[LatentCase]) -> None:
    """Writes ``folder``'s index atomically; paths are relative to the folder."""

    def cell(file: Path | None) -> str:
        return "" if file is None else Path(os.path.relpath(file, folder)).as_posix()

    rows = [
        [
            case.patient,
            case.id,
            case.split,
            "" if case.label is None else str(case.label),
            *(cell(file) for file in (case.radiograph, case.volume, case.map, case.findings, case.latents)),
        ]
        for case in cases
    ]
    write_text_atomically(Path(folder) / INDEX_FILE, csv_text(COLUMNS, rows))


def read_latents(case: LatentCase) -> np.ndarray:
    """(C, D, H, W) float32 latents of a case, unscaled.

    Raises:
        InputError: missing, damaged, or not finite; names file and row.
    """
    try:
        latents = np.load(case.latents).astype(np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"Expected the latents of {case.where} in {case.latents}, got {type(error).__name__}: {error}.",
            f"Remove {case.latents.parent}, then run the step that wrote it again.",
        ) from error
    if not np.isfinite(latents).all():
        bad = int((~np.isfinite(latents)).sum())
        raise InputError(
            f"Expected finite latents, got {bad} NaN or infinite in {case.latents} ({case.where}).",
            "Encode the latents anew; if it happens again, at higher precision.",
        )
    return latents


def first_volumes(cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The first volume of each study, in order, for comparisons with one volume per study."""
    first: dict[str, LatentCase] = {}
    for case in cases:
        first.setdefault(case.id, case)
    return list(first.values())


def checked_cases(cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The cases as a list; raises InputError where there are none, or one has no label."""
    if not cases:
        raise InputError("Expected at least one case, got none.", "Is its split empty?")
    for case in cases:
        if case.label is None:
            raise InputError(f"Expected a label of 0 or 1, got none in {case.where}.")
    return list(cases)


def radiograph_files(folder: Path | None, cases: Sequence[LatentCase]) -> list[Path]:
    """The radiograph of each case: that of the index, or with a ``folder`` of the step radiographs that of
    the study with the same id, else the only one of the same patient.

    Raises:
        InputError: no radiograph of a case, or several of its patient; names files and row.
    """
    if folder is None:
        for case in cases:
            if case.radiograph is None:
                raise InputError(f"Expected a radiograph in {case.where}, got none.", "Name their folder.")
        return [case.radiograph for case in cases if case.radiograph is not None]
    return radiographs_of([(case.id, case.patient, case.where) for case in cases], folder)


def radiographs_of(studies: Sequence[tuple[str, str, str]], folder: Path) -> list[Path]:
    """The preprocessed radiograph of each (id, patient, where); see `radiograph_files`."""
    by_id: dict[str, Path] = {}
    by_patient: dict[str, list[Path]] = {}
    for row in case_rows(folder):
        path = Path(folder) / row["folder"] / CXR_FILE
        by_id[row["id"]] = path
        by_patient.setdefault(row["patient"], []).append(path)
    files = []
    for study, patient, where in studies:
        of_patient = by_patient.get(patient, [])
        if study not in by_id and len(of_patient) != 1:
            raise InputError(
                f"Expected one radiograph of study {study} or patient {patient} ({where}) in "
                f"{Path(folder) / TABLE_FILE}, got {len(of_patient) or 'none'}.",
                "Preprocess the missing radiograph, or leave the study out of the latents.",
            )
        files.append(by_id.get(study) or of_patient[0])
    return files


def read_encoder_input(path: Path, where: str, variant: int = 0) -> torch.Tensor:
    """(1, P, P) float32, from a file of the step radiographs.

    Args:
        path: (P, P), or (1 + V, P, P) with V augmented ones.
        where: file and row of the case, for messages.
        variant: number of the augmented one, modulo V; 0 and every number where V is 0 give the plain one.

    Raises:
        InputError: missing, not square, or not finite; names the file and ``where``.
    """
    if not path.is_file():
        raise InputError(f"Expected the radiograph {path} of {where}, got no such file.")
    stored = np.load(path, mmap_mode="r")
    if stored.ndim == 3:
        stored = stored[1 + (variant - 1) % (len(stored) - 1) if variant and len(stored) > 1 else 0]
    radiograph = torch.from_numpy(np.array(stored, dtype=np.float32))
    if radiograph.ndim != 2 or radiograph.shape[0] != radiograph.shape[1] or not radiograph.isfinite().all():
        doubt = "" if radiograph.isfinite().all() else " with NaN or infinite values"
        raise InputError(
            f"Expected a square radiograph of finite values in {path} ({where}), got shape "
            f"{tuple(radiograph.shape)}{doubt}."
        )
    return radiograph[None]


def _case(folder: Path, number: int, row: Row) -> LatentCase:
    where = f"{folder / row.table}, row {row.number}"

    def file(column: str) -> Path | None:
        name = row.optional(column)
        return Path(os.path.normpath(folder / name)) if name else None

    if row.cells["label"] not in _LABELS:
        raise InputError(f"Expected a label of 0 or 1, got {row.cells['label']!r} in {where}.")
    return LatentCase(
        number,
        file("volume") or Path(),
        row.text("study"),
        row.text("patient"),
        _LABELS[row.cells["label"]],
        row.cells["split"],
        where,
        file(LATENTS) or Path(),
        file("radiograph"),
        file("map"),
        file("findings"),
    )
