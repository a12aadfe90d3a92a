"""The papers' chain on virtual patients: their table, what is generated for whom, and the arms beside it."""

import csv
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from diffusers import AutoencoderKL
from evaluation_cohort import write_patient
from latent_data import read_all, write_latents, write_radiographs
from stage_scripts import read, stage, step, with_steps
from tiny_bundle import write_tiny_pipeline

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.cohort_studies import cohort_studies, patient_folder, study_name
from xray2ctpa_core.data.index import write_index
from xray2ctpa_core.data.latent_cases import LatentCase, first_volumes, read_latent_cases
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, save_scaling
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.patients import CohortPatient, seed_of
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.conditioned import ConditionedDenoiser, LabelEmbedding, guided
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.training.settings.generation import GenerateSettings
from xray2ctpa_core.volume import Volume, axial_affine

SHAPE = (8, 32, 32)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def write_cohorts(root: Path) -> Path:
    """Two patients a cohort, the second of them with PE and a probability of 0.8 by its signs."""
    for cohort in ("train", "calibration", "test"):
        for number in range(2):
            folder = root / cohort / "patients" / f"{number:06d}"
            folder.mkdir(parents=True)
            record = {"pe": number == 1, "sign_probability": 0.8 if number else 0.5}
            (folder / "patient.json").write_text(json.dumps(record))
            for file in ("ctpa.nii.gz", "cxr.png"):
                (folder / file).touch()
    return root


def test_a_cohort_says_the_split_and_the_table_is_one_that_the_chain_reads(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohorts, out = write_cohorts(tmp_path / "cohorts"), tmp_path / "data"
    sets = [f"cohort={cohorts}", "train=0", "calibration=1", "test=0"]
    assert step(repository, "virtual", "data", tmp_path, *sets) == 0
    studies = read_folder(out)
    assert [(s.patient, s.label, s.split) for s in studies] == [
        ("train-000000", 0, "train"), ("train-000001", 1, "train"), ("calibration-000000", 0, "valid"),
        ("test-000000", 0, "test"), ("test-000001", 1, "test"),
    ]  # fmt: skip
    volume = studies[-1].volume
    assert volume is not None
    assert volume.resolve() == (cohorts / "test/patients/000001/ctpa.nii.gz").resolve()
    assert [s.findings for s in studies] == [s.volume.parent / "patient.json" for s in studies if s.volume]
    assert step(repository, "virtual", "data", tmp_path, *sets[:-1], "test=3") == 2
    assert "0 to 2 patients of the cohort test, got 3" in capsys.readouterr().err


def test_a_study_is_called_by_cohort_and_number_and_found_by_that(tmp_path: Path) -> None:
    cohorts = write_cohorts(tmp_path)
    folder = cohorts / "test" / "patients" / "000001"
    assert study_name("test", folder) == "test-000001"
    assert patient_folder(cohorts, "test-000001") == folder
    with pytest.raises(InputError, match="test-000007"):
        patient_folder(cohorts, "test-000007")


def test_the_signs_arm_scores_by_log_odds(repository: Path, tmp_path: Path) -> None:
    cohorts = write_cohorts(tmp_path / "cohorts")
    names = ["calibration-000000", "calibration-000001", "test-000000", "test-000001"]
    changes = {
        row: {
            "study": name,
            "patient": name,
            "label": name[-1],
            "split": "test" if name[0] == "t" else "valid",
        }
        for number, name in enumerate(names)
        for row in (2 * number, 2 * number + 1)
    }
    latents = write_latents(tmp_path / "latents", changes, cases=4)
    index = cohorts / "studies.csv"
    write_index(index, cohort_studies(cohorts, {}))
    sets = [f"studies={index}", f"latents={latents}", "dataset=virtual"]
    assert stage(repository, "signs-arm", tmp_path / "signs", *sets) == 0
    rows = rows_of(tmp_path / "signs" / "predictions.csv")
    assert [(row["patient"], row["split"]) for row in rows] == [
        (name, "validation" if name[0] == "c" else "test") for name in names
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([0, math.log(4), 0, math.log(4)])


def case(row: int, study: str, split: str) -> LatentCase:
    return LatentCase(row, Path(), study, study, 0, split, "")


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"only": ("test",)}, [2, 3, 4, 5]),
        ({"only": ("test",), "volumes": 1}, [2, 4]),
        ({"only": ("valid", "test"), "studies": 1}, [2, 3, 6]),
        ({"only": ("test",), "skip": 1}, [4, 5]),
        ({"studies": 1, "skip": 1}, [4, 5]),
    ],
)
def test_volumes_are_generated_for_the_chosen_studies_alone(
    sets: dict[str, Any], expected: list[int], repository: Path
) -> None:
    with_steps(repository)
    module = importlib.import_module("steps.generate")
    cases = [
        case(0, "a", "train"), case(1, "a", "train"), case(2, "b", "test"), case(3, "b", "test"),
        case(4, "c", "test"), case(5, "c", "test"), case(6, "d", "valid"),
    ]  # fmt: skip
    assert [c.row for c in module.chosen_cases(GenerateSettings(**sets), cases)] == expected
    with pytest.raises(InputError, match="splits other, got cases of test, train, valid"):
        module.chosen_cases(GenerateSettings(only=("other",)), cases)


def test_the_first_volume_stands_for_its_study() -> None:
    cases = [case(3, "b", ""), case(5, "a", ""), case(6, "b", "")]
    assert [c.row for c in first_volumes(cases)] == [3, 5]


class Counting(torch.nn.Module):
    """Calls of a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, *arguments: Any) -> torch.Tensor:
        self.calls += 1
        return self.network(*arguments)


@pytest.mark.parametrize(
    ("label", "scale", "label_scale", "calls"),
    [
        (None, 2.0, 1.0, 2),
        (torch.tensor([1]), 1.0, 2.0, 2),
        (torch.tensor([1]), 2.0, 3.0, 3),
        (torch.tensor([1]), 1.0, 0.0, 1),
        (torch.tensor([1]), 2.0, 0.0, 2),
    ],
)
def test_guidance_makes_no_prediction_that_it_does_not_need(
    label: torch.Tensor | None, scale: float, label_scale: float, calls: int
) -> None:
    torch.manual_seed(0)
    labels = LabelEmbedding(16)
    torch.nn.init.normal_(labels.table.weight)
    plain = ConditionedDenoiser(PaperDenoiser(4, 16, 8, (1, 2), 2, 4), labels).eval()
    counted: Any = Counting(plain)
    sample, time, radiograph = torch.randn(1, 4, 4, 8, 8), torch.tensor([300]), torch.randn(1, 16)
    with torch.no_grad():
        made = guided(counted, radiograph, label, scale, label_scale, sample, time)
        nothing, told = plain(sample, time, None), plain(sample, time, radiograph)
        full = plain(sample, time, radiograph, None, label)
    assert counted.calls == calls
    expected = nothing + scale * (told - nothing) + label_scale * (full - told)
    assert torch.allclose(made, expected, atol=1e-5)


def test_a_trained_classifier_reads_latents_that_it_did_not_learn_from(
    repository: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    classifier = PEClassifier(4, 8, 4, (2, 2), 0.0, "group").eval()
    classifier.save_pretrained(tmp_path / "pe")
    save_scaling(LatentScaling((1.0,) * 4, (2.0,) * 4), tmp_path / "pe")
    latents = write_latents(tmp_path / "latents")
    sets = [f"classifier={tmp_path / 'pe'}", f"latents={latents}", "name=loss-l1", "dataset=d"]
    assert step(repository, "virtual", "generated-pe", tmp_path, *sets) == 0
    rows = rows_of(tmp_path / "generated-pe" / "predictions.csv")
    assert [(r["patient"], r["split"], r["label"]) for r in rows] == [
        ("p2", "validation", "0"), ("p3", "validation", "1"), ("p4", "test", "0"), ("p5", "test", "1"),
    ]  # fmt: skip
    values = torch.from_numpy(read_all(latents)[[4, 5]])
    with torch.no_grad():
        expected = classifier((values - 1) / 2).sigmoid().mean()
    assert float(rows[0]["score"]) == pytest.approx(float(expected), abs=1e-5)
    assert json.loads((tmp_path / "generated-pe" / "arm.json").read_text())["name"] == "loss-l1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents, radiographs and volumes of six cases. Volume n is 10 n HU; the test's radiographs p4 and p5
    are those of the training's p1 and p0."""
    place = tmp_path_factory.mktemp("study")
    volumes = {}
    for row in range(12):
        path = place / f"{row}.nii.gz"
        write_volume(Volume(np.full(SHAPE, 10.0 * row), axial_affine(SHAPE, (80, 320, 320))), path, np.int16)
        volumes[row] = {"volume": str(path)}
    write_latents(place / "latents", volumes)
    write_radiographs(place / "radiographs")
    patterns = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    for number, pattern in ((0, 0), (1, 1), (4, 1), (5, 0)):
        np.save(place / "radiographs" / "cases" / f"s{number}" / "cxr.npy", patterns[pattern])
    torch.manual_seed(3)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    AutoencoderKL(
        16, 16, block_out_channels=(16,), latent_channels=4, norm_num_groups=4, **blocks
    ).save_pretrained(place / "autoencoder")
    return place


def test_baselines_are_the_mean_the_nearest_and_what_the_autoencoder_keeps(
    repository: Path, study: Path, tmp_path: Path
) -> None:
    place = [f"latents={study / 'latents'}", f"radiographs={study / 'radiographs'}"]
    sets = [*place, f"autoencoder={study / 'autoencoder'}", "dataset=d"]
    assert stage(repository, "baseline-arms", tmp_path / "arms", *sets) == 0

    def shown(arm: str) -> list[np.ndarray]:
        pairs = rows_of(tmp_path / "arms" / arm / "pairs.csv")
        assert [pair["patient"] for pair in pairs] == ["p4", "p5"]
        return [read_volume(tmp_path / "arms" / arm / pair["generated"]).array for pair in pairs]

    # Training: rows 0 to 3 of 0, 10, 20, 30 HU; the first volumes of p0 and p1 are rows 0 and 2.
    assert [float(array.mean()) for array in shown("mean-volume")] == [15.0, 15.0]
    assert [float(array.mean()) for array in shown("nearest")] == [20.0, 0.0]
    latents = torch.from_numpy(read_all(study / "latents")[8])
    autoencoder: Any = AutoencoderKL.from_pretrained(study / "autoencoder").eval()
    with torch.no_grad():
        folded = autoencoder.decode(latents.transpose(0, 1)).sample
    hu = (torch.pixel_shuffle(folded, 4)[:, 0].clamp(-1, 1) + 1) * 500 + PAPER_HU_WINDOW[0]
    assert np.abs(shown("reconstruction")[0] - hu.numpy()).max() <= 0.51

    other = ['only=["reconstruction"]', "reconstruction=other-codec"]
    assert stage(repository, "baseline-arms", tmp_path / "codec", *sets, *other) == 0
    assert [path.name for path in (tmp_path / "codec").glob("*/")] == ["other-codec"]
    assert stage(repository, "baseline-arms", tmp_path / "no", *sets, 'only=["median"]') == 2


def test_a_bundles_volume_takes_the_place_of_the_patients_ctpa(repository: Path, tmp_path: Path) -> None:
    """The real volume has the tiny bundle's voxels and the extent of the patient's CTPA: nothing is moved."""
    patients = [
        write_patient(tmp_path / "cohorts" / cohort, number, pe=number == 1, heart=8)
        for cohort in ("calibration", "test")
        for number in range(2)
    ]
    real = Volume(np.zeros((32, 64, 64)), axial_affine((32, 64, 64), (300.0, 240.0, 300.0)))
    write_volume(real, tmp_path / "real.nii.gz", np.int16)
    changes = {
        row: {
            "id": study_name(folder.parents[1].name, folder),
            "patient": study_name(folder.parents[1].name, folder),
            "split": "test" if folder.parents[1].name == "test" else "valid",
            "volume": str(tmp_path / "real.nii.gz"),
        }
        for number, folder in enumerate(patients)
        for row in (2 * number, 2 * number + 1)
    }
    latents = write_latents(tmp_path / "latents", changes, cases=4)
    bundle = write_tiny_pipeline(tmp_path / "tiny")
    sets = [f"bundle={bundle}", f"cohort={tmp_path / 'cohorts'}", f"latents={latents}", "dataset=d"]
    assert stage(repository, "bundle-arm", tmp_path / "arm", *sets) == 0
    pairs = rows_of(tmp_path / "arm" / "pairs.csv")
    assert [pair["patient"] for pair in pairs] == ["test-000000", "test-000001"]
    scores = rows_of(tmp_path / "arm" / "predictions.csv")
    assert [row["split"] for row in scores] == ["validation", "validation", "test", "test"]

    pipeline = XRay2CTPAPipeline.from_pretrained(bundle)
    patient = CohortPatient(patients[3])
    result = pipeline(patient.radiograph, frame=patient.frame, seed=seed_of(patient, 0))
    shown = read_volume(tmp_path / "arm" / pairs[1]["generated"])
    assert np.allclose(shown.affine, real.affine, atol=1e-3)
    assert np.abs(shown.array - result.ctpa.array.clip(*PAPER_HU_WINDOW)).max() <= 1.0
    assert float(scores[3]["score"]) == pytest.approx(result.pe_probability, abs=1e-6)


def test_the_virtual_recipe_computes_no_radiographs_and_ablations_start_where_the_denoiser_did(
    repository: Path, tmp_path: Path
) -> None:
    chain = read(repository, "virtual", tmp_path).steps
    assert "drr" not in {step.kind for step in chain}
    assert chain[-1].kind == "predict"
    steps = {step.name: step.settings for step in read(repository, "virtual-ablations", tmp_path).steps}
    trained = [s for name, s in steps.items() if name.endswith("-denoiser")]
    assert len(trained) == 4
    assert all(s.start == str(tmp_path / "drr-denoiser") for s in trained)
    terms = [(s.perceptual_weight, s.adversarial_weight, s.classifier_weight) for s in trained]
    assert terms == [(0, 0, 0), (0.01, 0, 0), (0.01, 0.001, 0), (0, 0, 0)]
    told = steps["guidance-label-denoiser"]
    assert told.labels
    assert told.steps == 400
    scales = [steps[name].label_scale for name in ("guidance-label", "label-given", "label-withheld")]
    assert scales == [2.0, 1, 0]
    assert {steps[f"{name}-pe"].name for name in ("label-given", "loss-l1")} == {"label-given", "loss-l1"}


def test_the_cases_of_a_generated_subset_keep_their_patients(repository: Path, study: Path) -> None:
    with_steps(repository)
    module = importlib.import_module("steps.generate")
    cases = module.chosen_cases(
        GenerateSettings(only=("test",), volumes=1), read_latent_cases(study / "latents")
    )
    assert [(c.patient, c.row) for c in cases] == [("p4", 8), ("p5", 10)]
