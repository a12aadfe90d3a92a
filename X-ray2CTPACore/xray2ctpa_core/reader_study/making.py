"""A study made from a cohort of virtual patients: real and generated volumes that differ in nothing but that.

Unfair cues are removed: every volume is brought to one grid, one resolution, one noise, one range of HU and
one field of view, and stored as int16. A generated volume takes the patient's own millimetres: a radiograph
without spacing gives it the cohort's mean size, and that alone would tell it apart.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.patients import CohortPatient
from xray2ctpa_core.io.result_folder import ResultFolder
from xray2ctpa_core.io.volumes import read_axial_volume, write_volume
from xray2ctpa_core.preprocessing.grid import resample_onto
from xray2ctpa_core.reader_study.protocol import (
    SEQUENTIAL,
    TRUTH_FILE,
    Phase,
    Protocol,
    StudyCase,
    sha256,
    write_protocol,
)
from xray2ctpa_core.simulation.build import CTPA_FILE, RADIOGRAPH_FILE
from xray2ctpa_core.volume import Volume, axial_affine

#: Name of the folder with the cases' files.
CASES_FOLDER = "cases"


@dataclass(frozen=True)
class Equaliser:
    """What every volume of a study is made alike in.

    Attributes:
        extent_mm: (z, y, x) of the field of view, about the volume's middle.
        spacing_mm: (z, y, x) of the voxels.
        blur: standard deviation of a Gaussian in voxels, wide against what either kind resolves.
        noise_hu: standard deviation of the noise in soft tissue, as ``noise_of`` measures it; what a volume
            has less of its own is added after the blur, a volume that has more gets no more.
        window: (lower, upper) HU.
    """

    extent_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    blur: float = 0.5
    noise_hu: float = 20.0
    window: tuple[float, float] = (-1000.0, 900.0)

    def __call__(self, volume: Volume, seed: int) -> Volume:
        """The volume as int16 HU on the study's grid, centred at the origin."""
        counts = [max(1, round(e / step)) for e, step in zip(self.extent_mm, self.spacing_mm, strict=True)]
        depth, rows, columns = counts
        shape = (depth, rows, columns)
        z, y, x = (count * step for count, step in zip(shape, self.spacing_mm, strict=True))
        middle = volume.affine @ [*((np.array(volume.array.shape[::-1]) - 1) / 2), 1.0]
        target = axial_affine(shape, (z, y, x), (middle[0], middle[1], middle[2]))
        lower, upper = self.window
        inside = Volume(np.clip(volume.array.astype(np.float32), lower, upper), volume.affine)
        array = resample_onto(inside, target, shape, AIR_HU).array
        array = ndimage.gaussian_filter(array, self.blur, mode="nearest")
        lacking = max(0.0, self.noise_hu**2 - noise_of(array) ** 2) ** 0.5
        noise = np.random.default_rng(seed).normal(0.0, lacking, array.shape)
        array = np.clip(np.round(array + noise), lower, upper).astype(np.int16)
        return Volume(array, axial_affine(shape, (z, y, x)))


def noise_of(array: np.ndarray) -> float:
    """Standard deviation of the noise in soft tissue, HU: from second differences along a row, robustly.

    Args:
        array: (D, H, W) HU; 0 where it shows no soft tissue (0 to 100 HU).
    """
    values = array.astype(np.float64)
    bend = (values[..., 2:] - 2 * values[..., 1:-1] + values[..., :-2]) / 6**0.5  # of white noise: its own sd
    tissue = bend[(values[..., 1:-1] > 0) & (values[..., 1:-1] < 100)]
    return float(1.4826 * np.median(np.abs(tissue - np.median(tissue)))) if tissue.size else 0.0


def sized_like(generated: Volume, real: Volume) -> Volume:
    """``generated`` with the extent and place of ``real``: both fill the same frame of one radiograph."""
    depth, height, width = (n * step for n, step in zip(real.array.shape, real.spacing[::-1], strict=True))
    middle = real.affine @ [*((np.array(real.array.shape[::-1]) - 1) / 2), 1.0]
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    return Volume(generated.array, axial_affine(generated.array.shape, (depth, height, width), centre))


def equaliser_for(volumes: Sequence[Volume]) -> Equaliser:
    """What the coarsest of ``volumes`` can show, over the field of view that all of them have."""
    spacings = np.array([volume.spacing[::-1] for volume in volumes])
    coarsest, extents = spacings.max(axis=0), (spacings * [v.array.shape for v in volumes]).min(axis=0)
    (d, h, w), (z, y, x) = extents.tolist(), coarsest.tolist()
    return Equaliser((d, h, w), (z, y, x))


def require_new(out: Path) -> None:
    """Raises InputError unless a study can be written to the folder ``out``."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"Expected a new folder for the study, got {out}, which exists.", "Choose another.")


def make_study(
    patients: Sequence[CohortPatient],
    generate: Callable[[CohortPatient], Volume],
    out: Path,
    seed: int = 0,
    on_patient: Callable[[int, int], None] = lambda _done, _of: None,
) -> Protocol:
    """Writes a study of ``patients`` into the new folder ``out``, which appears complete or not at all.

    Half of the patients, half of each class, show their real volume in "real-or-synthetic", the others the
    generated one; all are read for PE, from the radiograph alone and then with the generated volume.

    Args:
        patients: 4 or more, as many with as without PE.
        generate: makes the CTPA of a patient from his radiograph, on the frame of his real volume.
        out: must not exist, or be empty.
        seed: of the cases' names, of the noise and of the readers' orders.
        on_patient: called with (done, of).
    """
    with_pe = [patient for patient in patients if patient.pe]
    without = [patient for patient in patients if not patient.pe]
    if len(patients) < 4 or len(with_pe) != len(without) or len(with_pe) % 2:
        raise InputError(
            f"Expected an even number of patients with PE and as many without, got {len(with_pe)} and "
            f"{len(without)}.",
            "Choose patients by their patient.json, or make a larger cohort.",
        )
    out = Path(out)
    require_new(out)
    with ResultFolder(out) as folder:
        protocol = _write_study(patients, generate, folder.path, seed, on_patient)
        folder.publish()
    return protocol


def _write_study(
    patients: Sequence[CohortPatient],
    generate: Callable[[CohortPatient], Volume],
    out: Path,
    seed: int,
    on_patient: Callable[[int, int], None],
) -> Protocol:
    """Fills the folder ``out``; the arguments are those of ``make_study``, checked."""
    with_pe = [patient for patient in patients if patient.pe]
    without = [patient for patient in patients if not patient.pe]
    names = _Names(seed, 3 * len(patients))
    shows_real = {p.name for group in (with_pe, without) for p in group[: len(group) // 2]}
    cases: list[StudyCase] = []
    truth: dict[str, dict[str, bool]] = {}
    members: dict[str, list[str]] = {"turing": [], "ratings": [], "pe": []}
    volumes = []
    for number, patient in enumerate(patients):
        real = read_axial_volume(patient.folder / CTPA_FILE)
        volumes.append((real, sized_like(generate(patient), real)))
        on_patient(number + 1, len(patients))
    equalise = equaliser_for([volume for pair in volumes for volume in pair])
    (out / CASES_FOLDER).mkdir()
    for patient, (real, generated) in zip(patients, volumes, strict=True):
        synthetic = patient.name not in shows_real
        parts = [("turing", generated if synthetic else real, synthetic), ("pe", generated, True)]
        parts += [("ratings", generated, True)] if synthetic else []
        for kind, volume, is_generated in parts:
            name = names.next()
            file = f"{CASES_FOLDER}/{name}.nii.gz"
            write_volume(equalise(volume, names.noise_seed(name)), out / file, np.int16)
            radiograph = None
            if kind == "pe":
                radiograph = f"{CASES_FOLDER}/{name}.png"
                (out / radiograph).write_bytes((patient.folder / RADIOGRAPH_FILE).read_bytes())
            cases.append(StudyCase(name, file, radiograph))
            truth[name] = {"pe": patient.pe, "generated": is_generated}
            members[kind].append(name)
    content = json.dumps(truth, indent=1, sort_keys=True).encode()
    (out / TRUTH_FILE).write_bytes(content)
    cases.sort(key=lambda case: case.name)  # not in the patients' order
    protocol = Protocol(
        title=f"Demo study of {len(patients)} virtual patients",
        seed=seed,
        design=SEQUENTIAL,
        washout_days=0.0,
        truth_sha256=sha256(content),
        cases=tuple(cases),
        phases=_phases({kind: tuple(sorted(group)) for kind, group in members.items()}),
    )
    write_protocol(protocol, out)
    return protocol


def _phases(members: dict[str, tuple[str, ...]]) -> tuple[Phase, ...]:
    """The parts of X-ray2CTPA's study; a tenth of the cases of the first is shown twice."""
    turing, ratings, pe = members["turing"], members["ratings"], members["pe"]
    sure = "confidence"
    return (
        Phase("real-or-synthetic", "Real or synthetic?", ("real", sure), ("volume",), turing,
              max(1, len(turing) // 10), blinded=True),
        Phase("ratings", "Anatomy and slices", ("anatomy", "consistency"), ("volume",), ratings),
        Phase("radiograph", "PE, from the radiograph alone", ("pe", sure), ("radiograph",), pe),
        Phase("radiograph-and-ctpa", "PE, with the generated CTPA", ("pe", sure),
              ("radiograph", "volume"), pe),
    )  # fmt: skip


class _Names:
    """Opaque names of cases, and a seed of noise for each."""

    def __init__(self, seed: int, count: int) -> None:
        draw = np.random.default_rng(seed)
        self._names = [f"{number:06x}" for number in draw.choice(16**6, count, replace=False)]

    def next(self) -> str:
        return self._names.pop()

    @staticmethod
    def noise_seed(name: str) -> int:
        return int(name, 16)
