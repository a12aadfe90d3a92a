"""Radiographs without volumes: the patients are the cohort's, their frames and maps move together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from xray2ctpa_core.constants import DEFAULT_GRID, FRAME_PIXELS, MAP_GRID
from xray2ctpa_core.data.radiograph_cohort import (
    DESCRIPTION_FILE,
    JITTERS_FILE,
    LABELS_FILE,
    MAPS_FILE,
    RADIOGRAPHS_FILE,
    SHADOWS_FILE,
    Jitter,
    write_radiograph_cohort,
)
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.patient import make_patient, radiograph_patient
from xray2ctpa_core.simulation.sign_map import sign_masks
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.volume import FrontalFrame

FILES = (RADIOGRAPHS_FILE, MAPS_FILE, JITTERS_FILE, SHADOWS_FILE, LABELS_FILE)


def quiet(done: int, of: int) -> None:
    assert 0 < done <= of


def test_the_radiograph_is_of_the_patient_that_the_cohort_would_make() -> None:
    whole, radiograph = make_patient(load_template(), 5, 2), radiograph_patient(load_template(), 5, 2)
    assert radiograph.record == whole.record
    assert radiograph.frame == whole.frame
    assert np.array_equal(radiograph.template_map, whole.template_map)
    assert radiograph.radiograph.spacing_mm == whole.radiograph.spacing_mm
    # Exposures differ, anatomy does not.
    pair = np.stack([radiograph.radiograph.pixels.ravel(), whole.radiograph.pixels.ravel()])
    assert np.corrcoef(pair)[0, 1] > 0.95


def linear_map(frame: FrontalFrame) -> torch.Tensor:
    """A map: x is the radiograph's column, z is minus its row, and y is the depth in pixels."""
    axes = [torch.linspace(-0.5, 0.5, n) * (1 - 1 / v) for n, v in zip(MAP_GRID, DEFAULT_GRID, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    middle_x, middle_y = frame.left + frame.side / 2, frame.top + frame.side / 2
    return torch.stack([middle_x + x * frame.side, y * frame.side, -middle_y + z * frame.side])


@pytest.mark.parametrize(
    "jitter", [Jitter(0.0, 0.0, 1.0), Jitter(0.03, -0.02, 0.94), Jitter(-0.03, 0.03, 1.07)]
)
def test_a_jittered_frame_has_the_map_of_its_own_place_on_the_radiograph(jitter: Jitter) -> None:
    frame = FrontalFrame(top=30.0, left=40.0, side=256.0)
    moved = jitter.map(linear_map(frame))
    assert torch.allclose(moved, linear_map(jitter.frame(frame)), atol=1e-2)  # hundredths of a pixel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("radiographs")
    write_radiograph_cohort(out, 3, 2, seed=5, workers=1, progress=quiet)
    return out


@pytest.mark.slow
def test_a_radiograph_cohort_is_the_same_however_often_it_was_stopped(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "radiographs"
    shutil.copytree(made, out)
    (out / DESCRIPTION_FILE).unlink()
    for name in FILES:  # as a kill after the first patient leaves it
        array = np.lib.format.open_memmap(out / name, "r+")
        array[1:] = 0
        array.flush()
    reported = []
    write_radiograph_cohort(out, 3, 2, 5, 2, lambda done, of: reported.append((done, of)))
    assert reported == [(2, 3), (3, 3)]
    for name in FILES:
        assert np.array_equal(np.load(out / name), np.load(made / name)), name


def test_its_radiographs_are_frames_and_its_labels_those_of_the_patients(made: Path) -> None:
    radiographs, labels = np.load(made / RADIOGRAPHS_FILE), np.load(made / LABELS_FILE)
    assert radiographs.shape == (3, 2, FRAME_PIXELS, FRAME_PIXELS)
    assert radiographs.min() >= 0
    assert radiographs.max() <= 1
    assert not np.array_equal(radiographs[:, 0], radiographs[:, 1])
    for number, row in enumerate(labels):
        record = radiograph_patient(load_template(), 5, number).record
        assert row.tolist() == [1.0, record["pe"], *record["signs"].values()]
        seen = sign_masks(np.bitwise_or.reduce(np.load(made / SHADOWS_FILE)[number], 0)).any((1, 2))
        assert not (seen & ~row[2:].astype(bool)).any()
        organs = [name in ("cardiomegaly", "fleischner", "hilum") for name in record["signs"]]
        assert seen[organs].tolist() == row[2:][organs].astype(bool).tolist()


def test_a_folder_with_other_radiographs_is_refused_and_kept(made: Path) -> None:
    before = {name: (made / name).read_bytes() for name in FILES}
    with pytest.raises(InputError, match="to hold the radiographs"):
        write_radiograph_cohort(made, 3, 2, seed=6, workers=1, progress=quiet)
    assert {name: (made / name).read_bytes() for name in FILES} == before
