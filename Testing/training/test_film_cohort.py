"""Films without volumes: the patients are the cohort's, their frames and maps move together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from xray2ctpa_core.constants import DEFAULT_GRID, FRAME_PIXELS, MAP_GRID
from xray2ctpa_core.data.radiograph_cohort import (
    DESCRIPTION_FILE,
    FILMS_FILE,
    JITTERS_FILE,
    LABELS_FILE,
    MAPS_FILE,
    SHADOWS_FILE,
    Jitter,
    write_film_cohort,
)
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.patient import film_patient, make_patient
from xray2ctpa_core.simulation.sign_map import sign_masks
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.volume import FrontalFrame

FILES = (FILMS_FILE, MAPS_FILE, JITTERS_FILE, SHADOWS_FILE, LABELS_FILE)


def quiet(done: int, of: int) -> None:
    assert 0 < done <= of


def test_the_film_is_of_the_patient_that_the_cohort_would_make() -> None:
    whole, film = make_patient(load_template(), 5, 2), film_patient(load_template(), 5, 2)
    assert film.record == whole.record
    assert film.frame == whole.frame
    assert np.array_equal(film.template_map, whole.template_map)
    assert film.radiograph.spacing_mm == whole.radiograph.spacing_mm
    # Exposures differ, anatomy does not.
    pair = np.stack([film.radiograph.pixels.ravel(), whole.radiograph.pixels.ravel()])
    assert np.corrcoef(pair)[0, 1] > 0.95


def linear_map(frame: FrontalFrame) -> torch.Tensor:
    """A map whose x is the film column, whose z is minus the film row, and whose y is the depth in pixels."""
    axes = [torch.linspace(-0.5, 0.5, n) * (1 - 1 / v) for n, v in zip(MAP_GRID, DEFAULT_GRID, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    middle_x, middle_y = frame.left + frame.side / 2, frame.top + frame.side / 2
    return torch.stack([middle_x + x * frame.side, y * frame.side, -middle_y + z * frame.side])


@pytest.mark.parametrize(
    "jitter", [Jitter(0.0, 0.0, 1.0), Jitter(0.03, -0.02, 0.94), Jitter(-0.03, 0.03, 1.07)]
)
def test_a_jittered_frame_has_the_map_of_its_own_place_on_the_film(jitter: Jitter) -> None:
    frame = FrontalFrame(top=30.0, left=40.0, side=256.0)
    moved = jitter.map(linear_map(frame))
    assert torch.allclose(moved, linear_map(jitter.frame(frame)), atol=1e-2)  # hundredths of a pixel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("films")
    write_film_cohort(out, 3, 2, seed=5, workers=1, progress=quiet)
    return out


def test_a_film_cohort_is_the_same_however_often_it_was_stopped(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "films"
    shutil.copytree(made, out)
    (out / DESCRIPTION_FILE).unlink()
    for name in FILES:  # as a kill after the first patient leaves it
        array = np.lib.format.open_memmap(out / name, "r+")
        array[1:] = 0
        array.flush()
    reported = []
    write_film_cohort(out, 3, 2, 5, 2, lambda done, of: reported.append((done, of)))
    assert reported == [(2, 3), (3, 3)]
    for name in FILES:
        assert np.array_equal(np.load(out / name), np.load(made / name)), name


def test_its_films_are_frames_and_its_labels_those_of_the_patients(made: Path) -> None:
    films, labels = np.load(made / FILMS_FILE), np.load(made / LABELS_FILE)
    assert films.shape == (3, 2, FRAME_PIXELS, FRAME_PIXELS)
    assert films.min() >= 0
    assert films.max() <= 1
    assert not np.array_equal(films[:, 0], films[:, 1])
    for number, row in enumerate(labels):
        record = film_patient(load_template(), 5, number).record
        assert row.tolist() == [1.0, record["pe"], *record["signs"].values()]
        seen = sign_masks(np.bitwise_or.reduce(np.load(made / SHADOWS_FILE)[number], 0)).any((1, 2))
        assert not (seen & ~row[2:].astype(bool)).any()
        organs = [name in ("cardiomegaly", "fleischner", "hilum") for name in record["signs"]]
        assert seen[organs].tolist() == row[2:][organs].astype(bool).tolist()


def test_a_folder_with_other_films_is_refused_and_kept(made: Path) -> None:
    before = {name: (made / name).read_bytes() for name in FILES}
    with pytest.raises(InputError, match="to hold the films"):
        write_film_cohort(made, 3, 2, seed=6, workers=1, progress=quiet)
    assert {name: (made / name).read_bytes() for name in FILES} == before
