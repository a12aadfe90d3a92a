"""Training the 3D VQGAN: it learns, says how much of its codebook is in use, and goes on exactly where it was
stopped; what it encodes, it decodes."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import torch
from latent_data import read_all
from stage_scripts import read, step, with_steps

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.data.index import read_index, write_index
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.volumes import CropDataset, training_volumes
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.training.loop import LOG_FILE, TwoPlayerStage, train
from xray2ctpa_core.training.losses.adversarial import Critics, adaptive_weight, hinge_loss
from xray2ctpa_core.training.losses.denoising import build_discriminator
from xray2ctpa_core.training.settings.codecs import VQGANConfig
from xray2ctpa_core.training.settings.loop import LoopConfig
from xray2ctpa_core.training.stages.vqgan import (
    AdversarialVQGANStage,
    VQGANStage,
    build_vqgan,
    measured_codebook,
)
from xray2ctpa_core.volume import Volume, axial_affine

WINDOW = (-100.0, 900.0)
CROP = (8, 32, 32)
SMALL = VQGANConfig(
    channels=(8, 8),
    depth_strides=(1,),
    blocks=1,
    latent_channels=4,
    codes=32,
    perceptual_slices=2,
    adversarial_start=0,
)


def spheres(number: int) -> np.ndarray:
    """(16, 32, 40) HU: a bright ball on dark ground, elsewhere for every number."""
    k, j, i = np.mgrid[:16, :32, :40]
    far = (k - 8) ** 2 + (j - 10 - number) ** 2 + (i - 15 - 2 * number) ** 2
    return np.where(far < 36, 700.0, 0.0).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("volumes")
    written = []
    for number in range(4):
        written.append(place / f"{number}.nii.gz")
        volume = Volume(spheres(number), axial_affine((16, 32, 40), (80, 320, 320)))
        write_volume(volume, written[-1], np.int16)
    return written


def made_stage(config: VQGANConfig = SMALL) -> AdversarialVQGANStage:
    torch.manual_seed(0)
    opponent = Critics(CROP, layers=2, width=8)
    return AdversarialVQGANStage(build_vqgan(config), config, perceptual_distance("efficientnet"), opponent)


def loop(**changes: Any) -> LoopConfig:
    values = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 1, "ema_decay": 0.5}
    every = {"checkpoint_every": 2, "log_every": 1, "tensorboard": False, "precision": "no"}
    return LoopConfig(**{**values, **every, **changes})


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]


def test_a_crop_is_a_part_of_its_volume_at_a_place_that_the_seed_says(files: list[Path]) -> None:
    data = CropDataset(files, WINDOW, CROP)
    crop = data[(1, 5)]["volume"]
    assert crop.shape == (1, *CROP)
    assert torch.equal(crop, data[(1, 5)]["volume"])
    assert any(not torch.equal(crop, data[(1, seed)]["volume"]) for seed in range(6, 9))
    whole = normalise_hu(torch.from_numpy(read_volume(files[1]).array.astype(np.float32)), WINDOW)
    parts = whole.unfold(0, 8, 1).unfold(1, 32, 1).unfold(2, 32, 1).flatten(0, 2)
    assert any(torch.equal(part, crop[0]) for part in parts)
    with pytest.raises(ConfigError, match=r"at least crop=\(32, 32, 32\) voxels, got \(16, 32, 40\)"):
        CropDataset(files, WINDOW, (32, 32, 32))[(0, 0)]


def test_each_term_reaches_the_vqgan_and_only_its_own_loss_the_opponent(files: list[Path]) -> None:
    data = CropDataset(files, WINDOW, CROP)
    batch = {"volume": torch.stack([data[(case, case)]["volume"] for case in range(2)])}
    gradients = {}
    for name in ("none", "perceptual_weight", "adversarial_weight", "codebook_weight", "commitment_weight"):
        weights = dict.fromkeys(
            ("perceptual_weight", "adversarial_weight", "codebook_weight", "commitment_weight"), 0.0
        )
        made = made_stage(
            VQGANConfig(**{**vars(SMALL), **weights, **({name: 10.0} if name != "none" else {})})
        )
        loss, terms = made.loss(made.module, batch, torch.Generator().manual_seed(0))
        loss.backward()
        gradients[name] = {n: p.grad for n, p in made.module.named_parameters() if p.grad is not None}
        assert all(p.grad is None for p in made.opponent.parameters()), name
        assert terms["mse"] > 0
        made.opponent_loss(made.opponent, batch).backward()
        assert all(p.grad is not None for p in made.opponent.parameters()), name
    alone = gradients.pop("none")
    for name, found in gradients.items():
        part = {
            "codebook_weight": "quantize.embedding.weight",
            "commitment_weight": "encoder.init_conv.weight",
        }.get(name, "decoder.conv_in.weight")
        before = alone[part]
        assert before is not None
        assert found[part] is not None
        assert float((found[part] - before).abs().sum()) > 1e-6, name


def test_a_term_with_a_weight_needs_its_network() -> None:
    with pytest.raises(ConfigError, match="needs a distance"):
        VQGANStage(build_vqgan(SMALL), SMALL)
    plain = VQGANConfig(**{**vars(SMALL), "perceptual_weight": 0.0, "adversarial_weight": 0.0})
    assert not isinstance(VQGANStage(build_vqgan(plain), plain), TwoPlayerStage)
    assert isinstance(made_stage(), TwoPlayerStage)
    with pytest.raises(ConfigError, match=r"codebook_weight: .*greater than or equal to 0"):
        from_mapping(VQGANConfig, {"codebook_weight": -1.0})


def test_the_vqgan_learns_balls_and_uses_several_codes(files: list[Path], tmp_path: Path) -> None:
    config = VQGANConfig(**{**vars(SMALL), "perceptual_weight": 0.0, "adversarial_weight": 0.0})
    torch.manual_seed(0)
    made = VQGANStage(build_vqgan(config), config)
    train(made, CropDataset(files, WINDOW, CROP), loop(steps=60, learning_rate=5e-3), tmp_path / "run")
    entries = log(tmp_path / "run")
    assert {"l1", "codebook", "commitment", "mse", "perplexity", "codes_used"} <= entries[0].keys()
    assert "perceptual" not in entries[0]
    assert entries[-1]["mse"] < 0.3 * entries[0]["mse"]
    assert 1.1 < entries[-1]["perplexity"] <= SMALL.codes
    assert 2 / SMALL.codes <= entries[-1]["codes_used"] <= 1


def test_the_adversarial_term_counts_from_its_start_on_and_its_weight_follows_the_gradients(
    files: list[Path],
) -> None:
    data = CropDataset(files, WINDOW, CROP)
    batch = {"volume": torch.stack([data[(case, case)]["volume"] for case in range(2)])}
    made = made_stage(VQGANConfig(**{**vars(SMALL), "adversarial_start": 2, "adversarial_weight": 3.0}))
    generator, scales = torch.Generator().manual_seed(0), []
    for _ in range(3):
        _, terms = made.loss(made.module, batch, generator)
        scales.append(float(terms["adversarial_scale"]))
        made.opponent_loss(made.opponent, batch).backward()
    assert scales[:2] == [0, 0]
    output, _ = made.module(batch["volume"])
    last = made.module.last_layer
    term = (output**2).mean()
    assert float(adaptive_weight(term, 2 * term, last)) == pytest.approx(0.5, rel=1e-2)
    assert scales[2] > 0
    assert scales[2] != 3.0


def test_the_hinge_is_half_for_a_score_of_one_half_and_nothing_beyond_one() -> None:
    class Scores(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return inputs

    def loss(real: float, generated: float) -> float:
        both = [(torch.full((1, 1), value),) * 2 for value in (real, generated)]
        return float(hinge_loss(Scores(), *both))

    assert loss(1.5, -2.0) == 0
    assert loss(0.5, -1.0) == pytest.approx(2 * 0.25)
    assert loss(0.0, 0.0) == pytest.approx(2.0)


def test_the_codebook_is_measured_over_all_volumes(files: list[Path]) -> None:
    torch.manual_seed(0)
    vqgan = build_vqgan(SMALL).eval()
    data = CropDataset(files, WINDOW, CROP)
    found = measured_codebook(vqgan, (data[(case, case)]["volume"] for case in range(3)))
    with torch.no_grad():
        codes = {int(c) for n in range(3) for c in vqgan(data[(n, n)]["volume"][None])[1].codes.unique()}
    assert found["vectors"] == 3 * 8 * 16 * 16
    assert found["codes_used"] == pytest.approx(len(codes) / SMALL.codes)
    assert 0 < found["psnr"] < 30


class Interrupted(Exception):
    """Stands for a kill between two steps."""


def test_a_resumed_run_ends_as_one_without_interruption(files: list[Path], tmp_path: Path) -> None:
    data = CropDataset(files, WINDOW, CROP)
    whole = made_stage()
    train(whole, data, loop(), tmp_path / "whole")

    def stop(step: int, of: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(made_stage(), data, loop(), tmp_path / "cut", progress=stop)
    resumed = made_stage()
    train(resumed, data, loop(), tmp_path / "cut")
    for players in ((whole.module, resumed.module), (whole.opponent, resumed.opponent)):
        for a, b in zip(*(player.state_dict().values() for player in players), strict=True):
            assert torch.equal(a, b)
    speeds = ("samples_per_s", "waiting_share", "network_share", "processor_s")
    ends = [
        {k: v for k, v in log(tmp_path / name)[-1].items() if k not in speeds} for name in ("whole", "cut")
    ]
    assert ends[0] == ends[1]
    assert {"adversarial", "opponent", "perceptual"} <= ends[0].keys()


def write_cases(folder: Path, files: list[Path]) -> Path:
    """The volumes as the step ctpa leaves them, one a case; the last one is of the test split."""
    rows = ["id,patient,label,split,folder"]
    for n, file in enumerate(files):
        case = folder / "cases" / f"s{n}"
        case.mkdir(parents=True)
        (case / "ctpa-0.nii.gz").write_bytes(file.read_bytes())
        record = {"settings": {"window": list(WINDOW)}, "volumes": {"ctpa-0.nii.gz": {}}}
        record["source"] = {"where": f"t.csv, row {n + 2}"}
        (case / "case.json").write_text(json.dumps(record))
        rows.append(f"s{n},p{n},{n % 2},{'test' if n == len(files) - 1 else 'train'},cases/s{n}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_codec_learns_from_training_cases_alone(files: list[Path], tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases", files)
    found = training_volumes(cases, 0)
    assert [path.parent.name for path in found] == ["s0", "s1", "s2"]
    assert training_volumes(cases, 1) == found[:1]
    index = tmp_path / "studies.csv"
    write_index(
        index, [Study(f"s{n}", f"p{n}", file, split="test" if n else "train") for n, file in enumerate(files)]
    )
    assert [path.resolve() for path in training_volumes(index, 0)] == files[:1]


def test_from_volumes_to_latents_to_generated_volumes_with_the_vqgan_as_codec(
    repository: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = write_cases(tmp_path / "cases", files)
    short = ["steps=2", "checkpoint_every=1", "tensorboard=false"]
    sets = [*short, f"studies={cases}"]
    assert step(repository, "smoke", "vqgan", tmp_path / "bad", *sets, "crop=[8,32,30]") == 2
    assert "multiples of (1, 4, 4)" in capsys.readouterr().err
    assert step(repository, "smoke", "vqgan", tmp_path, *sets) == 0
    codec = tmp_path / "vqgan" / "vqgan"
    vqgan = VQGAN.from_pretrained(codec, use_safetensors=True)

    sets = [f"studies={cases}", "radiographs=", f"autoencoder={codec}"]
    assert step(repository, "smoke", "latents", tmp_path, *sets) == 0
    latents = read_all(tmp_path / "latents")
    assert latents.shape == (4, 4, 16, 8, 10)
    volume = normalise_hu(torch.from_numpy(read_volume(files[2]).array.astype(np.float32)), WINDOW)
    with torch.no_grad():
        encoded = vqgan.encode(volume[None, None])[0].numpy()
    assert np.abs(latents[2] - encoded).mean() < 0.1 * np.abs(encoded).mean()  # encoded in bf16
    statistics = json.loads((tmp_path / "latents" / "statistics.json").read_text())
    assert len(statistics["mean"]) == len(statistics["gain"]) == 4
    assert all(gain > 0 for gain in statistics["gain"])

    sets = [*short, "perceptual_weight=0.5", "distance=efficientnet", f"autoencoder={codec}"]
    assert step(repository, "smoke", "unconditional", tmp_path, *sets) == 0
    assert log(tmp_path / "unconditional")[-1]["perceptual"] > 0
    sets = ["steps=2", "guidance_scale=1.0", f"denoiser={tmp_path / 'unconditional'}"]
    sets += [f"autoencoder={codec}", "name=codec-vqgan"]
    assert step(repository, "smoke", "generated", tmp_path, *sets) == 0
    made = tmp_path / "generated"
    assert json.loads((made / "arm.json").read_text())["name"] == "codec-vqgan"
    generated = read_all(made)
    with torch.no_grad():
        decoded = vqgan.decode(torch.from_numpy(generated[:1])).clamp(-1, 1)[0, 0].numpy()
    written = read_volume(made / "volumes" / "00000.nii.gz").array
    assert written.shape == (16, 32, 40)
    assert np.corrcoef(written.ravel(), decoded.ravel())[0, 1] > 0.9
    assert np.ptp(written) > 1


def test_a_table_of_codecs_shows_the_used_codes_and_keeps_the_volumes_with_an_index(
    repository: Path, files: list[Path], tmp_path: Path
) -> None:
    cases = write_cases(tmp_path / "cases", files)
    torch.manual_seed(0)
    for name in ("plain", "homogeneous"):
        build_vqgan(SMALL).save_pretrained(tmp_path / name / "vqgan")
    (tmp_path / "homogeneous" / "codebook.json").write_text(json.dumps({"codes_used": 0.75}))
    codec = tmp_path / "homogeneous" / "vqgan"
    sets = [f"studies={cases}", "radiographs=", f"autoencoder={codec}"]
    assert step(repository, "smoke", "latents", tmp_path, *sets) == 0
    for n in range(4):
        shown = tmp_path / "cxr" / "cases" / f"s{n}"
        shown.mkdir(parents=True)
        np.save(shown / "cxr.npy", np.full((32, 32), n / 4, np.float32))
        (shown / "case.json").write_text("{}")
    shutil.copy(cases / "cases.csv", tmp_path / "cxr" / "cases.csv")
    systems = [f"codec:{name}={tmp_path / name / 'vqgan'}" for name in ("plain", "homogeneous")]
    sets = [f"latents={tmp_path / 'latents'}", f"radiographs={tmp_path / 'cxr'}", "hu_window=[-100,900]"]
    sets += ["keep_volumes=true", f"systems={json.dumps(systems)}", "split=train"]
    assert step(repository, "xctdiff", "table-1", tmp_path, *sets) == 0
    plain, homogeneous = (tmp_path / "table-1" / "table.md").read_text().splitlines()[2:]
    assert plain.startswith("| codec:plain | 3 | ")
    assert plain.endswith(" | - |")
    assert homogeneous.endswith(" | 75.0 % |")
    kept = read_index(tmp_path / "table-1" / "volumes" / "codec:homogeneous" / "studies.csv")
    assert [(study.id, study.patient) for study in kept] == [("s0", "p0"), ("s1", "p1"), ("s2", "p2")]
    volume = read_volume(kept[1].volume or Path())
    own = normalise_hu(torch.from_numpy(read_volume(files[1]).array.astype(np.float32)), WINDOW)[None, None]
    with torch.no_grad():
        decoded = load_codec(codec).decode(load_codec(codec).encode(own)).clamp(-1, 1)[0, 0].numpy()
    np.testing.assert_allclose(volume.array, 500 * decoded + 400, atol=1)
    np.testing.assert_allclose(volume.affine, read_volume(files[1]).affine, atol=1e-3)


def test_the_papers_preset_gives_as_many_latent_values_as_the_2d_autoencoder(repository: Path) -> None:
    with_steps(repository)
    check_crop = importlib.import_module("steps.vqgan").check_crop
    config = next(s.settings for s in read(repository, "paper", Path("run")).others if s.name == "vqgan")
    with torch.device("meta"):
        vqgan = build_vqgan(config)
        latents = vqgan.encode(torch.zeros(1, 1, 64, 256, 256))
        build_discriminator(config.latent_channels, latents.shape[2:])
    assert latents.shape == (1, 8, 32, 32, 32)
    assert latents.numel() == 4 * 64 * 32 * 32
    check_crop(config, vqgan)
