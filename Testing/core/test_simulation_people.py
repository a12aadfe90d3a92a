"""People as templates, and patients drawn from them in batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from people_phantoms import SHAPE, phantom, phantoms

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.frame import equalise
from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients, people_themselves
from xray2ctpa_core.simulation.people.findings import (
    SHOWN,
    Findings,
    frequent_findings,
    opaque_shares,
    with_opacities,
)
from xray2ctpa_core.simulation.people.maps import draw_maps
from xray2ctpa_core.simulation.people.person import SUFFIX, load_person, people_in, save_person
from xray2ctpa_core.simulation.people.population import Population
from xray2ctpa_core.simulation.people.radiographs import equalised, project_batch
from xray2ctpa_core.simulation.people.sheet import people_sheet
from xray2ctpa_core.simulation.people.space import NODES, displaced, lattice
from xray2ctpa_core.simulation.projection import project

SMALL = Shape((32, 32, 32), 64, (1, 1, 1))


@pytest.fixture(scope="module")
def population() -> Population:
    return phantoms()


@pytest.fixture(scope="module")
def batch(population: Population) -> Batch:
    return draw_patients(population, 8, SMALL, torch.Generator().manual_seed(3))


def test_a_packed_person_comes_back_within_half_a_step_of_hu_and_of_a_quarter_millimetre(
    tmp_path: Path,
) -> None:
    person = phantom("a", stretch=1.07)
    save_person(person, tmp_path / f"a{SUFFIX}")
    (back,) = people_in(tmp_path)
    assert (back.name, back.enhanced) == ("a", True)
    assert np.abs(back.hu - person.hu).max() <= 4.0
    assert np.abs(back.displacement - person.displacement).max() <= 0.25
    assert np.array_equal(back.organs, person.organs)
    assert np.array_equal(back.contrast, person.contrast)


def test_a_file_that_is_no_packed_person_is_named(tmp_path: Path) -> None:
    (tmp_path / f"b{SUFFIX}").write_bytes(b"something else")
    with pytest.raises(InputError, match=f"b{SUFFIX}"):
        load_person(tmp_path / f"b{SUFFIX}")
    with pytest.raises(InputError, match="found none"):
        people_in(tmp_path / "nothing")


def test_the_twin_without_contrast_medium_is_at_most_as_dense_as_blood_where_the_medium_was() -> None:
    person = phantom("a")
    assert person.hu[person.contrast].min() >= 250
    assert person.native_hu[person.contrast].max() == 50
    assert np.array_equal(person.native_hu[~person.contrast], person.hu[~person.contrast])


def test_a_map_and_its_inverse_leave_a_point_where_it_was(population: Population) -> None:
    nodes = lattice()[None].expand(len(population.to_person), -1, -1, -1, -1)
    back = displaced(nodes + population.to_reference, population.to_person)
    remains = (back - nodes)[:, :, 10:-10, 10:-10, 10:-10]
    assert remains.norm(dim=1).mean() < 0.05, "mm"


def test_a_stretched_persons_map_leads_to_the_stretched_place(population: Population) -> None:
    point = torch.tensor([100.0, 0.0, 0.0]).view(1, 3, 1, 1, 1)
    there = displaced(point, population.to_person[1:])
    assert there.flatten().tolist() == pytest.approx([110.0, 0.0, 0.0], abs=0.01)


def test_a_patient_says_whose_tissue_and_whose_shapes_it_has(population: Population, batch: Batch) -> None:
    assert batch.shapes.shape == (8, 2)
    assert set(batch.shapes.flatten().tolist()) == set(range(len(population.names)))
    alone = draw_patients(population.only([1]), 3, SMALL, torch.Generator().manual_seed(3))
    assert alone.shapes.unique().tolist() == [0]


def test_patients_are_those_of_the_seed(population: Population, batch: Batch) -> None:
    again = draw_patients(population, 8, SMALL, torch.Generator().manual_seed(3))
    other = draw_patients(population, 8, SMALL, torch.Generator().manual_seed(4))
    assert torch.equal(batch.volume, again.volume)
    assert torch.equal(batch.image, again.image)
    assert not torch.equal(batch.volume, other.volume)


def test_a_batch_has_the_shapes_and_ranges_that_networks_read(batch: Batch) -> None:
    assert batch.volume.shape == (8, 1, 32, 32, 32)
    assert batch.image.shape == (8, 1, 64, 64)
    assert batch.template_map.shape == (8, 3, *MAP_GRID)
    assert batch.signs.shape == (8, len(SHOWN))
    assert -1 <= batch.volume.min() < -0.99
    assert batch.volume.max() <= 1
    assert 0 <= batch.image.min() < batch.image.max() <= 1


def test_the_frame_is_filled_by_the_lungs_and_the_map_leads_to_the_reference(population: Population) -> None:
    drawn = people_themselves(population, SMALL, torch.Generator().manual_seed(0))
    lungs = drawn.lungs[:, 0] > 0.5
    assert 0.06 < lungs.float().mean() < 0.25
    rows = lungs.any(3).any(2).sum(1)
    assert (rows >= 24).all(), "lungs fill 1 / 1.18 of the longer side"
    middle = drawn.template_map[:, :, 15:17, 15:17, 15:17].mean((2, 3, 4)) * 220
    assert middle[:, 0].abs().max() < 6
    assert middle[:, 2].abs().max() < 12
    tall = drawn.template_map[1, 2, -1, 16, 16] - drawn.template_map[1, 2, 0, 16, 16]
    usual = drawn.template_map[0, 2, -1, 16, 16] - drawn.template_map[0, 2, 0, 16, 16]
    sides = drawn.side_mm[1] / drawn.side_mm[0]
    assert float(tall / usual) == pytest.approx(float(sides) / 1.1, rel=0.03)


def test_a_radiograph_does_not_see_contrast_medium(population: Population) -> None:
    brighter = Population(
        population.names,
        population.values * torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0]).view(1, 5, 1, 1, 1),
        population.voxel_mm,
        population.to_person,
        population.to_reference,
    )
    images, hearts = [], []
    for people in (population, brighter):
        drawn = people_themselves(people, SMALL, torch.Generator().manual_seed(0))
        images.append(drawn.image)
        hearts.append(drawn.volume[drawn.heart > 0.9].mean())
    assert torch.equal(*images)
    assert hearts[1] > hearts[0] + 0.1


def test_clots_lie_in_the_arteries_of_patients_with_embolism_alone(population: Population) -> None:
    drawn = draw_patients(population, 12, SMALL, torch.Generator().manual_seed(5))
    clots = drawn.clots.flatten(1).sum(1)
    assert 0 < drawn.pe.sum() < 12
    assert (clots[drawn.pe == 0] == 0).all()
    assert (clots[drawn.pe == 1] > 0).float().mean() > 0.5


def test_fluid_lies_at_the_base_of_its_side_alone() -> None:
    lungs = torch.zeros(1, 1, 20, 10, 20)
    lungs[:, :, 2:18, 2:8, 2:9] = lungs[:, :, 2:18, 2:8, 11:18] = 1
    native = torch.where(lungs > 0, -850.0, 40.0)
    findings = Findings.none(1, torch.device("cpu"))
    findings.effusion[0, 0] = 0.4
    shares = opaque_shares(lungs, findings, torch.full((1, 3), 10.0), torch.Generator().manual_seed(0))
    wet = with_opacities(native, shares)
    change = (wet - native)[0, 0]
    assert change[:, :, 10:].abs().max() == 0, "columns run from the patient's right to the left"
    assert change[2, 2:8, 2:9].min() > 500
    assert change[17].abs().max() == 0


def test_the_filled_lung_along_each_ray_is_known(population: Population) -> None:
    drawn = draw_patients(population, 8, SMALL, torch.Generator().manual_seed(3), draw=frequent_findings)
    lung, filled = drawn.opaque.split((1, 3), 1)
    assert drawn.opaque.shape == (8, 4, SMALL.grid[0], SMALL.grid[2])
    assert (filled.sum(1, keepdim=True) <= 3 * lung + 1e-3).all()
    assert (filled.flatten(2).sum(2) > 0).float().mean(0)[0] > 0.2, "fluid in many"
    without = draw_patients(
        population, 2, SMALL, torch.Generator().manual_seed(3), draw=lambda n, g: Findings.none(n, g.device)
    )
    assert without.opaque[:, 1:].abs().max() == 0
    assert 60 < float(without.opaque[:, 0].amax()) < 300, "mm of lung"


def test_mixed_shapes_fold_nowhere(population: Population) -> None:
    maps = draw_maps(population.to_reference, torch.full((4,), 1.25), torch.Generator().manual_seed(1))
    moved = (lattice()[None] + maps.displacement).double()
    steps = [moved.diff(dim=axis)[..., :50, :50, :50] / 10 for axis in (2, 3, 4)]
    steps = [step[:, :, : NODES - 1, : NODES - 1, : NODES - 1] for step in steps]
    jacobian = torch.linalg.det(torch.stack(steps, -1).permute(0, 2, 3, 4, 1, 5))
    assert jacobian.min() > 0


def test_a_batch_is_projected_as_one_patient_is() -> None:
    values = torch.rand(2, 12, 9, 14, generator=torch.Generator().manual_seed(0))
    depth = torch.linspace(-80, 80, 9)[None].repeat(2, 1)
    ray = torch.tensor([[0.1, -0.2], [0.0, 0.3]])
    together = project_batch(values, depth, ray)
    for case in range(2):
        alone = project(values[case], depth[case], (float(ray[case, 0]), float(ray[case, 1])))
        assert torch.allclose(together[case, 0], alone, atol=1e-3)


def test_greys_are_equalised_as_the_frame_of_a_real_radiograph_is() -> None:
    image = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    everywhere = np.ones((40, 40), bool)
    for case in range(2):
        expected = equalise(image[case, 0].numpy(), everywhere)
        assert np.abs(equalised(image)[case, 0].numpy() - expected).max() < 1e-4


def test_the_sheet_has_a_row_a_person() -> None:
    sheet = people_sheet([phantom("a"), phantom("b")])
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] == 2 * max(SHAPE[0], 190)
    assert sheet.shape[2] == 3
