"""A small Imaging Data Commons: its index as Parquet, and its series as DICOM folders in a store."""

import dataclasses
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from ct_series import phantom, write_series
from io_radiographs import write_dicom

from xray2ctpa_core.data.open_pairs.fetch import fetch_series, needed_series
from xray2ctpa_core.data.open_pairs.prepare import RECORD_FILE, prepare_pairs
from xray2ctpa_core.data.open_pairs.series import Series
from xray2ctpa_core.data.open_pairs.table import read_pairs
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph

SBU = "covid_19_ny_sbu"
ANGIO = "CT CHEST PULMONARY ANGIO WITH IV CON"
PORTABLE = "CHEST AP PORT"


def series(uid: str, modality: str = "CT", **changes: Any) -> Series:
    """A soft CT series of 60 images of patient A's angiography, or a portable radiograph of the same day."""
    one = Series(
        collection=SBU,
        patient="A",
        study=f"study {modality}",
        uid=uid,
        modality=modality,
        date=date(2020, 3, 1),
        study_description=ANGIO if modality == "CT" else PORTABLE,
        description="CHEST 1.25 MM" if modality == "CT" else "AP",
        body_part="CHEST",
        images=60 if modality == "CT" else 1,
        megabytes=30.0 if modality == "CT" else 9.0,
        licence="CC BY 4.0",
        doi="10.7937/tcia.bbag-2923",
    )
    return dataclasses.replace(one, **changes)


def write_index(path: Path, rows: list[Series]) -> Path:
    """The rows as the package's Parquet file has them, with columns that nobody reads and a foreign row."""
    columns = (
        "collection_id, PatientID, StudyInstanceUID, SeriesInstanceUID, Modality, StudyDate, "
        "StudyDescription, SeriesDescription, BodyPartExamined, instanceCount, series_size_MB, "
        "license_short_name, source_DOI, "
        "analysis_result_id, PatientSex"
    )
    values = [
        (
            *(one.collection, one.patient, one.study, one.uid, one.modality),
            None if one.date is None else one.date.isoformat(),
            *(one.study_description or None, one.description or None, one.body_part or None),
            *(one.images, one.megabytes, one.licence, one.doi or None, None, "F"),
        )
        for one in rows
    ]
    values.append((SBU, "A", "s", "1.9", "CT", "2020-03-01", ANGIO, "", "", 60, 1, "CC BY 4.0", "", "x", ""))
    with duckdb.connect() as connection:
        connection.execute(f"create table found ({columns.replace(',', ' varchar,')} varchar)")
        connection.execute("alter table found alter instanceCount type bigint")
        connection.execute("alter table found alter series_size_MB type double")
        connection.executemany(f"insert into found values ({', '.join('?' * 15)})", values)
        connection.execute(f"copy found to '{path}' (format parquet)")
    return path


def write_store(
    folder: Path,
    patients: Sequence[str] = ("P0", "P1", "P2", "P3", "P4", "P5"),
    corrupt: str = "P5",
    no_chest: str = "P4",
) -> list[Series]:
    """The series of ``patients`` in the collections' own layout, each in a folder of its UID: an axial CT, a
    scout and a coronal reformat; a frontal radiograph and a lateral one.

    Of the patient ``corrupt`` a CT slice is cut off; the frontal radiograph of ``no_chest`` is noise.
    """
    chest = np.rint(read_radiograph(SAMPLE_CXR).pixels[::2, ::2] * 4095).astype(np.uint16)
    found = []
    for number, patient in enumerate(patients):
        of = {"patient": patient, "date": date(2020, 3, 1 + number)}
        ct = f"1.2.3.{number}.1"
        paths = write_series(folder / ct, phantom((48, 32, 32), clot_hu=40.0 + 60 * number), uid=ct)
        if patient == corrupt:
            paths[7].write_bytes(paths[7].read_bytes()[:300])
        found.append(series(ct, images=48, description="CHEST 1.25 MM", **of))
        for place, words in enumerate(("SCOUT AP/LAT", "1 25 MM CORONAL")):
            uid = f"1.2.3.{number}.1{place}"
            write_series(folder / uid, phantom((40, 32, 32)), uid=uid)
            found.append(series(uid, images=40, description=words, **of))
        frontal, lateral = f"1.2.3.{number}.2", f"1.2.3.{number}.3"
        noise = np.random.default_rng(number).integers(0, 4095, (256, 256), np.uint16)
        pixels = noise if patient == no_chest else chest
        for uid, description, seen in ((frontal, "AP", pixels), (lateral, "LATERAL", chest[:, ::-1])):
            (folder / uid).mkdir()
            write_dicom(folder / uid / "1.dcm", seen, SeriesInstanceUID=uid, StudyInstanceUID=f"1.2.{number}")
            found.append(series(uid, "CR", description=description, **of))
    return [
        dataclasses.replace(one, study=f"{one.study} {one.patient}", megabytes=size_of(folder / one.uid))
        for one in found
    ]


def fetch_until_killed(out: Path, store: Path, after: int) -> None:
    """Fetches, and is killed amid the series that follows ``after`` whole ones; it has two files or more."""
    whole = 0

    def copy(one: Series, target: Path) -> None:
        nonlocal whole
        for number, file in enumerate(sorted((store / one.uid).iterdir())):
            if whole == after and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            shutil.copy(file, target)
        whole += 1

    fetch_series(out, needed_series(read_pairs(out)), copy)


def prepare_until_killed(out: Path, locator: Path, after: int) -> None:
    """Prepares, and is killed when ``after`` pairs are recorded."""

    def progress(_done: int, _of: int) -> None:
        record = out / RECORD_FILE
        if record.is_file() and len(record.read_text().splitlines()) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare_pairs(out, read_pairs(out), locator, progress=progress)


def exit_code(target: Callable[..., None], *arguments: Any) -> int | None:
    """Runs a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Runs a function in a process of its own; whether that was killed."""
    return exit_code(target, *arguments) == -signal.SIGKILL


def write_zeros(one: Series, target: Path) -> None:
    """A store whose series have as many bytes as their index states, all 0."""
    for number in range(one.images):
        (target / f"{number}.dcm").write_bytes(bytes(round(one.megabytes * 1e6 / one.images)))


def fetch_zeros(out: Path, rows: list[Series]) -> None:
    """Fetches ``rows`` from `write_zeros`."""
    assert not fetch_series(out, rows, write_zeros).failed


def size_of(folder: Path) -> float:
    """MB of a folder's files."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6
