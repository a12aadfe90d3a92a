"""The tiny decoder's stage: it learns what the autoencoder decodes, and goes on where it was stopped."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from diffusers import AutoencoderKL
from latent_data import read_all, write_latents
from stage_scripts import step, with_steps
from torch import nn

from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latent_slices import LatentSlices
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.codecs.slices import from_autoencoder
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.training.settings.codecs import TinyDecoderConfig
from xray2ctpa_core.training.settings.generation import GenerateSettings
from xray2ctpa_core.training.stages.tiny_decoder import TinyDecoderStage
from xray2ctpa_core.volume import Volume, axial_affine

WINDOW = (-100.0, 900.0)


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        in_channels=16, out_channels=16, block_out_channels=(16,), down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",), latent_channels=4, norm_num_groups=4,
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Latents (4, 8, 8, 8) of 12 volumes (8, 32, 32), whose slice k of volume n is 100 n + 10 k HU."""
    volumes = {}
    for row in range(12):
        path = tmp_path / "volumes" / f"{row}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        array = np.broadcast_to(100.0 * row + 10 * np.arange(8)[:, None, None], (8, 32, 32))
        write_volume(
            Volume(array.astype(np.float32), axial_affine((8, 32, 32), (80, 320, 320))), path, np.int16
        )
        volumes[row] = {"volume": str(path)}
    write_latents(tmp_path / "latents", volumes)
    autoencoder().save_pretrained(tmp_path / "autoencoder")
    return tmp_path


def test_an_item_is_slices_of_one_volume_with_their_own_latents(study: Path) -> None:
    cases = read_latent_cases(study / "latents")
    data = LatentSlices(cases, WINDOW, 3)
    item = data[(5, 1)]
    hu = (item["slice"][:, 0, 0, 0] + 1) * 500 - 100
    drawn = ((hu - 500) / 10).round().int().tolist()
    assert len(set(drawn)) == 3
    stored = read_all(study / "latents")[5]
    assert torch.equal(item["latents"], torch.from_numpy(stored[:, drawn]).transpose(0, 1))
    assert torch.equal(data[(5, 1)]["slice"], item["slice"])
    assert len(LatentSlices(cases, WINDOW, 99)[(0, 0)]["slice"]) == 8


def test_what_no_item_can_be_made_of_is_said_with_its_place(study: Path) -> None:
    latents = study / "latents"
    cases = read_latent_cases(latents)
    with pytest.raises(ConfigError, match="at least 1 slice"):
        LatentSlices(cases, WINDOW, 0)
    with pytest.raises(InputError, match="at least one case"):
        LatentSlices([], WINDOW, 1)
    volume = read_volume(cases[1].volume)
    write_volume(Volume(volume.array[:5], volume.affine), cases[1].volume, np.int16)
    data = LatentSlices(cases, WINDOW, 1)
    with pytest.raises(InputError, match=r"Expected 8 slices .* row 3.* got 5"):
        data[(1, 0)]
    cases[0].volume.unlink()
    with pytest.raises(InputError, match="row 2, got no such file"):
        LatentSlices(cases, WINDOW, 1)


def test_a_fixed_set_is_learned_and_the_autoencoder_stays_as_it_is() -> None:
    """Slices that the autoencoder itself decodes: what there is to learn is the autoencoder."""
    teacher = autoencoder()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    torch.manual_seed(0)
    latents = torch.randn(1, 2, 4, 8, 8)
    with torch.no_grad():
        slices = from_autoencoder(teacher.decode(latents[0]).sample).clamp(-1, 1)[None]
    decoder = TinyDecoder(4, 4, 16, (1,))
    made = TinyDecoderStage(decoder, teacher, TinyDecoderConfig())
    data, losses = {"latents": latents, "slice": slices}, []
    optimiser = torch.optim.Adam(decoder.parameters(), 3e-3)
    for _ in range(60):
        loss, terms = made.loss(made.module, data, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert terms["l1"] == pytest.approx(float(terms["teacher"]), abs=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_loss_is_its_weighted_terms() -> None:
    class Half(nn.Module):
        def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            return torch.full((len(image),), 0.5)

    config = TinyDecoderConfig(teacher_weight=3.0, perceptual_weight=2.0)
    made = TinyDecoderStage(TinyDecoder(4, 4, 8, (1,)), autoencoder(), config, Half())
    data = {"latents": torch.randn(1, 1, 4, 8, 8), "slice": torch.zeros(1, 1, 1, 32, 32)}
    loss, terms = made.loss(made.module, data, torch.Generator())
    assert float(loss.detach()) == pytest.approx(float(terms["l1"] + 3 * terms["teacher"] + 2 * 0.5))


@pytest.mark.slow
def test_the_script_goes_on_where_it_was_stopped_and_its_decoder_decodes(
    repository: Path, study: Path, tmp_path: Path
) -> None:
    sets = [f"latents={study / 'latents'}", f"autoencoder={study / 'autoencoder'}"]
    sets += ["tensorboard=false", "perceptual_weight=0"]
    for run in ("whole", "parts"):
        assert step(repository, "smoke", "tiny-decoder", tmp_path / run, *sets) == 0
    place = tmp_path / "parts" / "tiny-decoder"
    newest = sorted((place / "checkpoint").iterdir())[-1]
    assert newest.name == "6"
    shutil.rmtree(place / "decoder")
    assert step(repository, "smoke", "tiny-decoder", tmp_path / "parts", *sets) == 0
    logs = [
        (tmp_path / run / "tiny-decoder" / "log.jsonl").read_text().splitlines() for run in ("whole", "parts")
    ]
    last = [json.loads(lines[-1]) for lines in logs]
    assert [entry["step"] for entry in last] == [8, 8]
    assert last[0]["l1"] == pytest.approx(last[1]["l1"], rel=1e-4)
    decoder = TinyDecoder.from_pretrained(place / "decoder")
    assert decoder.std.flatten().tolist() == [2.0] * 4

    with_steps(repository)
    generate = importlib.import_module("steps.generate")
    parts = tmp_path / "made"
    parts.mkdir()
    cases = read_latent_cases(study / "latents")[:2]
    for case in cases:
        np.save(generate.part_file(parts, case.row), np.load(case.latents))
    config = GenerateSettings(decoder=str(place / "decoder"), hu_window=WINDOW)
    files = generate.decoded(config, cases, parts, tmp_path / "volumes", torch.device("cpu"))
    latents = torch.from_numpy(np.load(generate.part_file(parts, 1)).astype("f4")).transpose(0, 1)
    with torch.no_grad():
        expected = (decoder.eval()(latents)[:, 0].clamp(-1, 1) + 1) * 500 - 100
    assert np.abs(read_volume(files[1]).array - expected.numpy()).max() <= 0.51
    assert np.allclose(read_volume(files[1]).affine, read_volume(cases[1].volume).affine)
