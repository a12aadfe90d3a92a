"""Writes virtual patients as a hospital would hand them over: a DICOM series, a DICOM radiograph and a row a
patient.

python Testing/training/virtual_study.py --out build/paper-smoke/data --patients 12
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from ct_series import phantom, write_rows, write_series
from io_radiographs import write_dicom

COLUMNS = ("id", "patient", "volume", "radiograph", "label", "split")
#: Of six phantoms: both labels are in every split.
SPLITS = ("train", "train", "valid", "valid", "test", "test")
#: Of the virtual patients of one label, in turn: four of them put two into the test.
DEALT = ("test", "train", "valid")


def write_virtual_study(out: Path, patients: int) -> Path:
    """Virtual patients of a cohort whose seed gives six of twelve PE, dealt out over the splits by label;
    returns the table. Patients whose files are there are left as they are."""
    from xray2ctpa_core.data.virtual_radiographs import read_virtual_radiograph
    from xray2ctpa_core.io.volumes import read_volume
    from xray2ctpa_core.simulation.build import CTPA_FILE, build_cohort, patient_folders, read_record

    build_cohort(out / "cohort", patients, seed=7)
    rows, seen = [], {0: 0, 1: 0}
    for number, folder in enumerate(patient_folders(out / "cohort")[:patients]):
        label = int(read_record(folder)["pe"])
        name = f"patient-{number}"
        if not (out / f"{name}.dcm").is_file():
            write_series(out / name, read_volume(folder / CTPA_FILE))
            pixels, _ = read_virtual_radiograph(folder)
            write_dicom(out / f"{name}.dcm", (pixels * 4095).round().astype(np.uint16))
        rows.append((name, name, name, f"{name}.dcm", label, DEALT[seen[label] % 3]))
        seen[label] += 1
    return write_rows(out / "studies.csv", COLUMNS, rows)


def write_phantom_study(out: Path, patients: int) -> Path:
    """The same of phantoms, in a second: those with a "clot" are labelled 1."""
    rows = []
    for number in range(patients):
        label, name = number % 2, f"patient-{number}"
        volume = phantom(clot_hu=60.0 + 20 * number + 400 * label)
        write_series(out / name, volume)
        radiograph = np.rint(volume.array[::-1].mean(1).clip(-1000, 200) + 1000).astype(np.uint16)
        write_dicom(out / f"{name}.dcm", np.kron(radiograph, np.ones((8, 4), np.uint16)))
        rows.append((name, name, name, f"{name}.dcm", label, SPLITS[number % 6]))
    return write_rows(out / "studies.csv", COLUMNS, rows)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=12)
    args = parser.parse_args()
    sys.stdout.write(f"{write_virtual_study(args.out, args.patients)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
