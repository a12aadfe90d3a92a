"""What XctDiff's recipe trains becomes bundles that `generate` runs, each with small weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import numpy as np
import torch
from stage_scripts import step, with_steps

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.data.latent_cases import COLUMNS
from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, save_scaling
from xray2ctpa_core.diffusion.schedulers import xctdiff_schedule
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.models.encoders.progressive import ProgressiveEncoder
from xray2ctpa_core.models.encoders.radiograph_itself import RadiographItself
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.training.settings.reconstruction import ReconstructionSettings
from xray2ctpa_core.training.settings.xctdiff import PriorDenoiserConfig, RegressorConfig
from xray2ctpa_core.training.stages.prior_denoiser import build_prior_denoiser
from xray2ctpa_core.training.stages.regressor import build_regressor
from xray2ctpa_core.volume import Volume, axial_affine

P, CHANNELS, FACTOR = 32, 4, 4
EXTENT_MM = (310.0, 250.0, 330.0)


def write_run(out: Path) -> Path:
    """What the steps latents and drr-cxr leave of one study of 32 voxels a side."""
    grid = (P, P, P)
    volume = Volume(np.zeros(grid, np.float32), axial_affine(grid, EXTENT_MM))
    write_volume(volume, out / "v.nii.gz", np.int16)
    latents = out / "latents"
    latents.mkdir()
    np.save(latents / "0.npy", np.zeros((CHANNELS, *(P // FACTOR,) * 3), np.float16))
    cells = {"patient": "p", "study": "s", "split": "train", "volume": "../v.nii.gz", "latents": "0.npy"}
    (latents / "index.csv").write_text(csv_text(COLUMNS, [[cells.get(column, "") for column in COLUMNS]]))
    (out / "drr-cxr").mkdir()
    reading = {"input": "whole", "pixels": P, "mean": 0.0, "std": 1.0, "keep_aspect": False}
    (out / "drr-cxr" / "settings.json").write_text(json.dumps(reading))
    return out


def regressor(folder: Path, config: RegressorConfig) -> None:
    """As the step regressor leaves it."""
    with_steps(Path(__file__).resolve().parents[2])
    from steps.regressor import one_step_schedule

    torch.manual_seed(1)  # by 0 the last rectifier of ReconNet passes nothing
    build_regressor(config).save_pretrained(folder / "denoiser")
    RadiographItself().save_pretrained(folder / "encoder")
    one_step_schedule().save_pretrained(folder / "scheduler")


def x2ct(folder: Path) -> None:
    regressor(folder, RegressorConfig("x2ct", P, 8, (1, 1), (16, 8, 8)))


def recon_net(folder: Path) -> None:
    regressor(folder, RegressorConfig("recon-net", P, 8))


def prior_denoiser(folder: Path) -> None:
    """As the step prior-denoiser leaves it."""
    torch.manual_seed(0)
    encoder = ProgressiveEncoder(16, (1, 2, 4), 1, 8, 8, 8, CHANNELS, 64, 8)
    encoder.save_pretrained(folder / "encoder")
    denoiser = build_prior_denoiser(PriorDenoiserConfig(8, (1, 2), 2, 4), CHANNELS, CHANNELS)
    denoiser.save_pretrained(folder / "denoiser")
    save_scaling(LatentScaling((0.0,) * CHANNELS, (1 / 0.6,) * CHANNELS), folder / "denoiser")
    VQGAN((8, 8, 8), (2, 2), 1, CHANNELS, 64, 8).save_pretrained(folder / "codec")
    xctdiff_schedule().save_pretrained(folder / "scheduler")


SYSTEMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "bundle-x2ct-cnn": ("x2ct-cnn", x2ct),
    "bundle-x2ct-gan": ("x2ct-gan", x2ct),
    "bundle-recon-net": ("recon-net", recon_net),
    "bundle": ("prior-denoiser", prior_denoiser),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_trained_system_becomes_a_bundle_that_generates_what_table_1_measures(
    repository: Path, tmp_path: Path, name: str
) -> None:
    out = write_run(tmp_path)
    folder, write = SYSTEMS[name]
    write(out / folder)
    assert step(repository, "xctdiff", name, out) == 0
    pipeline: Any = XRay2CTPAPipeline.from_pretrained(out / name)
    bundle = pipeline.bundle
    assert bundle.geometry.grid == (P, P, P)
    assert bundle.geometry.extent_mm == EXTENT_MM
    assert bundle.hu_window == (-1000.0, 1500.0)
    assert bundle.sampling.steps == (50 if name == "bundle" else 1)
    image = torch.rand(1, 1, P, P, generator=torch.Generator().manual_seed(1))
    found = pipeline.decode(pipeline.sample_latents(image, num_inference_steps=2))
    from steps.reconstruction import generator

    settings = ReconstructionSettings(systems=("a=b",), sampling_steps=2)
    expected = generator(out / folder, settings)("s", torch.zeros(1, 1, P, P, P), image)
    assert expected.std() > 0
    normalised = normalise_hu(torch.from_numpy(found), bundle.hu_window)
    torch.testing.assert_close(normalised[None], expected.clamp(-1, 1), rtol=0, atol=1e-5)
    words = ["generate", str(SAMPLE_CXR), "--bundle", str(out / name), "--steps", "1"]
    assert main([*words, "--out", str(out / "result")]) == 0
    record = json.loads((out / "result" / "result.json").read_text())
    assert record["bundle"]["name"] == pipeline.bundle.name
    assert record["pe"]["probability"] is None
    assert np.multiply(record["geometry"]["spacing_mm"], P) == pytest.approx(EXTENT_MM[::-1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.real
def test_every_systems_bundle_runs_on_a_real_radiograph(
    repository: Path, tmp_path: Path, real_data: Path
) -> None:
    out = write_run(tmp_path)
    radiograph = str(next((real_data / "cxr" / "dicom").glob("*.dcm")))
    for name, (folder, write) in SYSTEMS.items():
        write(out / folder)
        assert step(repository, "xctdiff", name, out) == 0
        words = ["generate", radiograph, "--bundle", str(out / name), "--out", str(out / f"of-{name}")]
        assert main(words) == 0, name
        found = read_volume(out / f"of-{name}" / "ctpa.nii.gz").array
        assert found.shape == (P, P, P)
        record = json.loads((out / f"of-{name}" / "result.json").read_text())
        assert record["bundle"]["name"] == (name.removeprefix("bundle-") if "-" in name else "xctdiff")


def test_a_volume_takes_no_size_from_a_radiograph_that_is_not_framed_by_the_lungs(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_run(tmp_path)
    x2ct(out / "x2ct-cnn")
    assert step(repository, "xctdiff", "bundle-x2ct-cnn", out, "framed=true") == 2
    assert "framed by the lungs for framed=true" in capsys.readouterr().err
