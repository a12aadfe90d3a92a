"""One person's CT in the form that virtual patients are drawn from, and the small file that holds it."""

import io
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.space import NODES

#: Voxel edge in mm, and HU of a step and of the zero of the stored 8 bits (-1024 to 1016 HU).
VOXEL_MM = 2.0
HU_STEP, HU_ZERO = 8.0, -1024.0
#: What unenhanced blood and soft tissue are lowered to in the twin without contrast medium.
BLOOD_HU = 50.0
SUFFIX = ".person.xz"


@dataclass(frozen=True)
class Person:
    """A CT in axis order (D, H, W) = (superior, posterior, left), cubic voxels of VOXEL_MM.

    Attributes:
        name: of the person; folds are by it.
        enhanced: whether the CT shows contrast medium in the heart.
        hu: (D, H, W) float32, air outside the body.
        organs: (D, H, W) uint8, values of simulation.labels.
        contrast: (D, H, W) bool, voxels that hold contrast medium.
        centre: (3,) index of the middle of the lungs' bounding box.
        displacement: (3, NODES, NODES, NODES) float32 in mm, from the reference's space to this person's.
    """

    name: str
    enhanced: bool
    hu: np.ndarray
    organs: np.ndarray
    contrast: np.ndarray
    centre: np.ndarray
    displacement: np.ndarray

    @property
    def lungs(self) -> np.ndarray:
        """(D, H, W) bool, with the vessels inside."""
        vessels = np.isin(self.organs, (labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS))
        return ((self.organs >= 1) & (self.organs <= labels.RIGHT_LOWER_LOBE)) | (vessels & (self.hu < 0))

    @property
    def native_hu(self) -> np.ndarray:
        """(D, H, W) float32: the twin without contrast medium."""
        return np.where(self.contrast, np.minimum(self.hu, BLOOD_HU), self.hu)


def quantised(hu: np.ndarray) -> np.ndarray:
    """HU -> uint8 steps of HU_STEP from HU_ZERO."""
    return np.clip(np.round((hu - HU_ZERO) / HU_STEP), 0, 255).astype(np.uint8)


def save_person(person: Person, path: Path) -> None:
    """Writes ``person`` as an xz of an npz: HU in 8 bits, displacements in half millimetres."""
    steps = np.clip(np.round(2 * person.displacement), -32000, 32000).astype(np.int16)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        name=np.array(person.name),
        enhanced=np.array(person.enhanced),
        hu=quantised(person.hu),
        organs=person.organs,
        contrast=np.packbits(person.contrast),
        centre=person.centre,
        displacement=np.diff(steps, axis=3, prepend=np.int16(0)),
    )
    Path(path).write_bytes(lzma.compress(buffer.getvalue(), preset=6))


def load_person(path: Path) -> Person:
    """Reads what `save_person` wrote. Raises InputError for another file."""
    try:
        with np.load(io.BytesIO(lzma.decompress(Path(path).read_bytes()))) as data:
            fields = {key: data[key] for key in data.files}
        hu = fields["hu"].astype(np.float32) * HU_STEP + HU_ZERO
        contrast = np.unpackbits(fields["contrast"])[: hu.size].reshape(hu.shape).astype(bool)
        displacement = np.cumsum(fields["displacement"], axis=3, dtype=np.int32).astype(np.float32) / 2
    except (OSError, lzma.LZMAError, ValueError, KeyError) as error:
        raise InputError(
            f"Expected a packed person in {path}, got: {error}.",
            "Pack it again: the step people of the recipe people.",
        ) from error
    if displacement.shape != (3, NODES, NODES, NODES):
        raise InputError(
            f"Expected displacements on {NODES} nodes an edge in {path}, got shape {displacement.shape}.",
            "Pack it again: the step people of the recipe people.",
        )
    return Person(
        str(fields["name"]),
        bool(fields["enhanced"]),
        hu,
        fields["organs"],
        contrast,
        fields["centre"],
        displacement,
    )


def people_in(folder: Path) -> list[Person]:
    """The packed people of a folder, by name. Raises InputError where there is none."""
    files = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not files:
        raise InputError(
            f"Expected packed people (*{SUFFIX}) in {folder}, found none.",
            "Pack them: python Training/train.py people --only people --set run.templates=CTS.",
        )
    return [load_person(file) for file in files]
