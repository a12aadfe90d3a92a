"""A cohort on disk: one folder for each patient, written atomically, resumable, by any number of workers."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from xray2ctpa_core.config import replacing, write_json, write_text_atomically
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.simulation.patient import Patient, make_patient
from xray2ctpa_core.simulation.signs import PREVALENCE, SIGNS, ceiling_auroc
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.workers import in_processes

CTPA_FILE, ORGANS_FILE, CLOTS_FILE = "ctpa.nii.gz", "organs.nii.gz", "clots.nii.gz"
RADIOGRAPH_FILE, MAP_FILE = "cxr.png", "template-map.npy"
RECORD_FILE, COHORT_FILE = "patient.json", "cohort.json"


@dataclass(frozen=True)
class CohortSummary:
    """Summary of a cohort.

    Attributes:
        n: number of patients.
        n_pe: number of patients with embolism.
        ceiling_auroc: AUROC of the best possible reader of the signs.
        observed_auroc: AUROC of that reader on this cohort; NaN where only one class occurs.
        sign_counts: for each sign, numbers of patients with and without embolism who show it.
    """

    n: int
    n_pe: int
    ceiling_auroc: float
    observed_auroc: float
    sign_counts: dict[str, tuple[int, int]]

    def summary_lines(self) -> list[str]:
        """The summary as lines of text."""
        lines = [
            f"{self.n} virtual patients, {self.n_pe} with pulmonary embolism.",
            f"Ceiling of the signs: AUROC {self.ceiling_auroc:.3f} in the population, "
            f"{self.observed_auroc:.3f} on this cohort. A model far above it has found a shortcut.",
        ]
        without = max(self.n - self.n_pe, 1)
        for sign in (sign for sign in SIGNS if sign.name in self.sign_counts):
            shown, shown_without = self.sign_counts[sign.name]
            lines.append(
                f"  {sign.name:13s} {shown / max(self.n_pe, 1):.2f} of patients with PE "
                f"(published {sign.sensitivity:.2f}), {shown_without / without:.2f} without "
                f"({1 - sign.specificity:.2f})"
            )
        return lines


def patient_folders(cohort: Path) -> list[Path]:
    """The complete patients' folders of a cohort, patients/NUMBER or, of many people, NAME/NUMBER, in order.
    Raises InputError where there is none."""
    folders = sorted(p.parent for p in Path(cohort).glob(f"*/[!.]*/{RECORD_FILE}"))
    if not folders:
        raise InputError(
            f"Expected a cohort with */*/{RECORD_FILE} in {cohort}, found none.",
            "Make one with: xray2ctpa cohort --n N --seed S --out DIR.",
        )
    return folders


def read_record(folder: Path) -> dict[str, Any]:
    """A patient's parameters."""
    return json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))


def build_cohort(
    out: Path,
    n: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CohortSummary:
    """Writes patients 0..n-1 of cohort ``seed`` into ``out``, skipping those already there.

    Args:
        out: folder of the cohort; a cohort of another seed there is refused.
        n: patients.
        seed: seed and patient's number determine every voxel, independently of the number of workers.
        workers: processes.
        progress: called with (done, total) after each patient.

    Raises:
        InputError: for n < 1, a negative seed, or a folder that holds another cohort.
    """
    if n < 1 or seed < 0 or workers < 1:
        raise InputError(f"Expected n >= 1, seed >= 0 and workers >= 1, got {n}, {seed}, {workers}.")
    out = Path(out)
    _claim(out, seed)
    missing = [number for number in range(n) if not (_folder(out, number) / RECORD_FILE).is_file()]
    write = functools.partial(_write_patient, out, seed)
    said = progress or (lambda *_: None)
    said(n - len(missing), n)
    for done, _ in enumerate(in_processes(write, missing, workers), n - len(missing) + 1):
        said(done, n)
    summary = summarise([read_record(_folder(out, number)) for number in range(n)])
    description = {
        "seed": seed,
        "prevalence": PREVALENCE,
        "n": n,
        "sign_ceiling_auroc": summary.ceiling_auroc,
    }
    write_json(out / COHORT_FILE, description)
    return summary


def summarise(records: list[dict[str, Any]]) -> CohortSummary:
    """Counts patients and signs and computes the AUROC of the signs from the records, which name all or some
    of SIGNS."""
    pe = np.array([record["pe"] for record in records])
    posterior = np.array([record["sign_probability"] for record in records])
    counts = {}
    for name in records[0]["signs"]:
        shown = np.array([record["signs"][name] for record in records])
        counts[name] = (int((shown & pe).sum()), int((shown & ~pe).sum()))
    observed = float(roc_auc_score(pe, posterior)) if 0 < pe.sum() < len(pe) else float("nan")
    return CohortSummary(len(records), int(pe.sum()), ceiling_auroc(counts), observed, counts)


def _claim(out: Path, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    described = out / COHORT_FILE
    if described.is_file():
        found = json.loads(described.read_text(encoding="utf-8")).get("seed")
        if found != seed:
            raise InputError(
                f"Expected {out} to hold the cohort of seed {seed}, it holds that of seed {found}.",
                "Choose another --out or the same --seed.",
            )
    else:
        write_text_atomically(described, json.dumps({"seed": seed}) + "\n")


def _folder(out: Path, number: int) -> Path:
    return out / "patients" / f"{number:06d}"


def _write_patient(out: Path, seed: int, number: int) -> None:
    patient = make_patient(load_template(), seed, number)
    with replacing(_folder(out, number)) as partial:
        partial.mkdir()
        save_patient(patient, partial)


def save_patient(patient: Patient, folder: Path) -> None:
    """Writes a patient's files into an existing folder, the record last."""
    write_volume(patient.ctpa, folder / CTPA_FILE, np.int16)
    write_volume(patient.organs, folder / ORGANS_FILE, np.uint8)
    write_volume(patient.clots, folder / CLOTS_FILE, np.uint8)
    radiograph = (patient.radiograph.pixels * 65535).round().astype(np.uint16)
    Image.fromarray(radiograph).save(folder / RADIOGRAPH_FILE)
    np.save(folder / MAP_FILE, patient.template_map)
    write_json(folder / RECORD_FILE, patient.record)
