"""XctDiff's stages and the regressors': what each term reaches, that they learn, that they resume."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import torch
from torch.utils.data import Dataset

from xray2ctpa_core.diffusion.schedulers import xctdiff_schedule
from xray2ctpa_core.models.encoders.progressive import ProgressiveEncoder
from xray2ctpa_core.models.encoders.radiograph_itself import RadiographItself
from xray2ctpa_core.training.loop import TwoPlayerStage, train
from xray2ctpa_core.training.settings.loop import LoopConfig
from xray2ctpa_core.training.settings.xctdiff import (
    PriorDenoiserConfig,
    ProgressiveEncoderConfig,
    RegressorConfig,
)
from xray2ctpa_core.training.stages.prior_denoiser import PriorDenoiserStage, build_prior_denoiser
from xray2ctpa_core.training.stages.progressive_encoder import (
    ProgressiveEncoderStage,
    build_progressive_encoder,
)
from xray2ctpa_core.training.stages.regressor import (
    AdversarialRegressorStage,
    RegressorStage,
    build_judge,
    build_regressor,
)

P = 16
SMALL_REGRESSOR: dict[str, Any] = {"pixels": P, "width": 8, "blocks": (1, 1), "decoder": (16, 8, 8)}


class Balls(Dataset[dict[str, torch.Tensor]]):
    """A dark ball in a bright cube, elsewhere for every case, and its projection."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        axis = torch.arange(P).float()
        d, h, w = torch.meshgrid(axis, axis, axis, indexing="ij")
        where = 4 + 2 * item[0]
        volume = 1 - 2 * (((d - where) ** 2 + (h - 8) ** 2 + (w - 8) ** 2) < 25).float()
        image = (volume.mean(1).flip(0) + 1) / 2
        return {"volume": volume[None], "image": image[None], "latents": volume[None]}


def batch() -> dict[str, torch.Tensor]:
    items = [Balls()[(case, 0)] for case in range(4)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def loop(**changes: Any) -> LoopConfig:
    values = {"steps": 40, "batch_size": 4, "learning_rate": 3e-3, "warmup": 1, "ema_decay": 0.0}
    every = {"checkpoint_every": 100, "log_every": 10, "tensorboard": False, "precision": "no"}
    return LoopConfig(**{**values, **every, **changes})


def total(stage: Any) -> float:
    stage.module.eval()
    with torch.no_grad():
        return float(stage.loss(stage.module, batch(), torch.Generator().manual_seed(0))[0])


def test_x2ct_cnn_learns_where_the_ball_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RegressorConfig(**SMALL_REGRESSOR, projection_weight=0.0, adversarial_weight=0.0)
    stage = RegressorStage(build_regressor(config), config)
    before = total(stage)
    train(stage, Balls(), loop(), tmp_path / "run")
    assert total(stage) < 0.5 * before
    with torch.no_grad():
        volumes = stage.module(None, None, RadiographItself().condition(batch()["image"]))
    places = volumes[:, 0].mean((2, 3)).argmin(1).tolist()
    assert places == sorted(places)
    assert len(set(places)) > 1


def test_x2ct_gans_terms_are_those_of_its_paper_and_only_its_own_loss_reaches_the_judge() -> None:
    torch.manual_seed(0)
    config = RegressorConfig(**SMALL_REGRESSOR)
    stage = AdversarialRegressorStage(build_regressor(config), config, build_judge(2, 8))
    assert isinstance(stage, TwoPlayerStage)
    stage.module.eval()
    given = batch()
    loss, terms = stage.loss(stage.module, given, torch.Generator())
    weighed = 10 * terms["voxel"] + 10 * terms["projection"] + 0.1 * terms["adversarial"]
    assert float(loss.detach()) == pytest.approx(float(weighed), rel=1e-5)
    with torch.no_grad():
        output = stage.module(None, None, RadiographItself().condition(given["image"]))
        error = ((output - given["volume"]) / 2).square().mean()
    assert float(terms["voxel"]) == pytest.approx(float(error), rel=1e-4)
    loss.backward()
    assert all(p.grad is None for p in stage.opponent.parameters())
    assert all(p.grad is not None for p in stage.module.parameters())
    stage.opponent_loss(stage.opponent, given).backward()
    assert all(p.grad is not None for p in stage.opponent.parameters())


def test_the_published_judge_has_eleven_million_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in build_judge().parameters())
    assert count / 1e6 == pytest.approx(11.05, abs=0.01)


def small_encoder() -> tuple[ProgressiveEncoder, ProgressiveEncoderConfig]:
    torch.manual_seed(0)
    config = ProgressiveEncoderConfig(
        width=16,
        multipliers=(1, 2, 2),
        blocks=1,
        depth=4,
        lifted_channels=8,
        inner_channels=8,
        latent_channels=4,
        codes=32,
        groups=8,
    )
    return build_progressive_encoder(config), config


def test_the_progressive_encoder_learns_the_volume_from_its_projection(tmp_path: Path) -> None:
    encoder, config = small_encoder()
    stage = ProgressiveEncoderStage(encoder, config)
    loss, terms = stage.loss(encoder, batch(), torch.Generator())
    loss.backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert {"mse", "codebook", "commitment", "codes_used", "perplexity"} == terms.keys()
    encoder.zero_grad()
    train(stage, Balls(), loop(steps=30), tmp_path / "run")
    assert total(stage) < 0.5 * float(loss.detach())


@pytest.mark.parametrize("cross_attention", [True, False])
def test_the_prior_denoiser_learns_the_noise_and_leaves_the_encoder_alone(
    tmp_path: Path, cross_attention: bool
) -> None:
    encoder, _ = small_encoder()
    config = PriorDenoiserConfig(8, (1, 2), 2, 4, cross_attention=cross_attention, error="l1")
    torch.manual_seed(0)
    denoiser = build_prior_denoiser(config, 1, 4)
    stage = PriorDenoiserStage(denoiser, encoder, xctdiff_schedule(), config)
    given = batch() | {"latents": torch.nn.functional.avg_pool3d(batch()["latents"], 4)}
    before = [p.clone() for p in encoder.parameters()]
    optimizer = torch.optim.AdamW(denoiser.parameters(), 3e-3)
    losses = []
    for step in range(20):
        loss, terms = stage.loss(denoiser, given, torch.Generator().manual_seed(step % 2))
        losses.append(float(terms["l1"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[1]
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))


def test_the_schedule_is_that_of_the_paper_and_samples_at_the_releases_steps() -> None:
    schedule = xctdiff_schedule()
    betas = torch.linspace(0.0015**0.5, 0.0125**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(schedule.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4)
    assert float(schedule.alphas_cumprod[-1]) == pytest.approx(0.0022, abs=1e-4)
    schedule.set_timesteps(50)
    assert schedule.timesteps[:2].tolist() == [981, 961]
    assert int(schedule.timesteps[-1]) == 1


def test_training_ends_after_the_processor_time_that_it_is_given(tmp_path: Path) -> None:
    config = RegressorConfig(**SMALL_REGRESSOR, projection_weight=0.0, adversarial_weight=0.0)
    settings = loop(steps=1_000_000, processor_seconds=0.3, log_every=1, checkpoint_every=1_000_000)
    train(RegressorStage(build_regressor(config), config), Balls(), settings, tmp_path / "run")
    assert 1 <= len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) < 1000
