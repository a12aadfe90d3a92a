"""Virtual patients of many people as studies on disk: the people are the index's patients, so that splits and
folds by patient are by person."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xray2ctpa_core.config import replacing, write_json
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, DEPTH_FRACTION
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.simulation.build import CTPA_FILE, MAP_FILE, RADIOGRAPH_FILE, RECORD_FILE, read_record
from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients
from xray2ctpa_core.simulation.people.findings import DRAWN, SHOWN
from xray2ctpa_core.simulation.people.person import Person
from xray2ctpa_core.simulation.people.population import load_population
from xray2ctpa_core.simulation.signs import PREVALENCE, sign_probability
from xray2ctpa_core.volume import Volume, axial_affine

#: Patients drawn together.
AT_ONCE = 4


def people_studies(
    out: Path,
    people: Sequence[Person],
    patients: int,
    shape: Shape,
    voxel_mm: float,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[Study]:
    """Draws ``patients`` virtual patients of each person into ``out``, a folder each; those there are left.

    Everyone's tissue and shape are that person's own, varied at random: a person who is left out of training
    has taught neither. The radiograph is the frame itself, (P, P), 16 bits.

    Args:
        out: NAME/000000/{ctpa.nii.gz, cxr.png, template-map.npy, patient.json}.
        people: packed.
        patients: of each person.
        shape: of volume and radiograph.
        voxel_mm: that people are sampled from.
        seed: of the first person; the next has the next.
        progress: called with (done, of) people.

    Returns:
        One study a virtual patient, whose patient is the person.
    """
    studies: list[Study] = []
    for number, person in enumerate(people):
        folders = [Path(out) / person.name / f"{place:06d}" for place in range(patients)]
        if not all((folder / RECORD_FILE).is_file() for folder in folders):
            population = load_population([person], "cpu", voxel_mm)
            generator = torch.Generator().manual_seed(seed + number)
            for first in range(0, patients, AT_ONCE):
                some = folders[first : first + AT_ONCE]
                batch = draw_patients(population, len(some), shape, generator)
                for place, folder in enumerate(some):
                    _write(batch, place, person.name, folder)
        studies += [_study(person.name, folder) for folder in folders]
        progress(number + 1, len(people))
    return studies


def _write(batch: Batch, place: int, person: str, folder: Path) -> None:
    """One patient of the batch, whole or not at all."""
    hu = denormalise_hu(batch.volume[place, 0], DEFAULT_HU_WINDOW).numpy().round()
    side = float(batch.side_mm[place])
    affine = axial_affine(hu.shape, (side, DEPTH_FRACTION * side, side))
    greys = (batch.image[place, 0].numpy() * 65535).round().astype(np.uint16)
    record = {"patient": f"{person}-{folder.name}"} | _record(batch, place, person)
    with replacing(folder) as partial:
        partial.mkdir()
        write_volume(Volume(hu, affine), partial / CTPA_FILE, np.int16)
        Image.fromarray(greys).save(partial / RADIOGRAPH_FILE)
        np.save(partial / MAP_FILE, batch.template_map[place].numpy().astype(np.float16))
        write_json(partial / RECORD_FILE, record)


def _record(batch: Batch, place: int, person: str) -> dict[str, Any]:
    """What `simulation.build` records of a patient of a single person, as far as it is drawn here: signs that
    the radiograph cannot show would raise the ceiling of its readers."""
    signs = {name: bool(batch.signs[place, SHOWN.index(name)]) for name in DRAWN}
    return {
        "person": person,
        "pe": bool(batch.pe[place]),
        "signs": signs,
        "sign_probability": sign_probability(signs, PREVALENCE),
        "frame": {"top": 0.0, "left": 0.0, "side": float(batch.image.shape[-1])},
    }


def _study(person: str, folder: Path) -> Study:
    record = folder / RECORD_FILE
    label = int(read_record(folder)["pe"])
    return Study(
        f"{person}-{folder.name}",
        person,
        folder / CTPA_FILE,
        folder / RADIOGRAPH_FILE,
        label,
        None,
        str(record),
        map=folder / MAP_FILE,
        findings=record,
    )
