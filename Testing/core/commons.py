"""A small Imaging Data Commons: its index as Parquet, and its series as DICOM folders in a store."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from ct_series import phantom, write_series
from io_radiographs import write_dicom

from xray2ctpa_core.data.open_pairs.series import Series
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


def write_store(folder: Path, patients: int = 6) -> list[Series]:
    """The series of ``patients`` in the collections' own layout, each in a folder of its UID: an axial CT, a
    scout and a coronal reformat; a frontal radiograph and a lateral one, which is nearer in time.

    Patient 4's frontal radiograph is no chest; of patient 5's CT a slice is corrupt.
    """
    chest = np.rint(read_radiograph(SAMPLE_CXR).pixels[::2, ::2] * 4095).astype(np.uint16)
    found = []
    for number in range(patients):
        of = {"patient": f"P{number}", "date": date(2020, 3, 1 + number)}
        ct = f"1.2.3.{number}.1"
        volume = phantom((48, 32, 32))
        paths = write_series(folder / ct, volume, uid=ct)
        if number == 5:
            paths[7].write_bytes(paths[7].read_bytes()[:300])
        found.append(series(ct, images=48, description="CHEST 1.25 MM", **of))
        for place, words in enumerate(("SCOUT AP/LAT", "1 25 MM CORONAL")):
            uid = f"1.2.3.{number}.1{place}"
            write_series(folder / uid, phantom((40, 32, 32)), uid=uid)
            found.append(series(uid, images=40, description=words, **of))
        frontal, lateral = f"1.2.3.{number}.2", f"1.2.3.{number}.3"
        pixels = (
            np.random.default_rng(number).integers(0, 4095, (256, 256), np.uint16) if number == 4 else chest
        )
        for uid, description, seen in ((frontal, "AP", pixels), (lateral, "LATERAL", chest[:, ::-1])):
            (folder / uid).mkdir()
            write_dicom(folder / uid / "1.dcm", seen, SeriesInstanceUID=uid, StudyInstanceUID=f"1.2.{number}")
            found.append(series(uid, "CR", description=description, **of))
    return [
        dataclasses.replace(one, study=f"{one.study} {one.patient}", megabytes=size_of(folder / one.uid))
        for one in found
    ]


def size_of(folder: Path) -> float:
    """MB of a folder's files."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6
