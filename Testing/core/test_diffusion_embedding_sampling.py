"""Sampling of embeddings: the released schedule and loop written out, guidance, draws, the best of them."""

import math

import pytest
import torch
from prior_weights import DIM, random_prior

from xray2ctpa_core.diffusion.embedding_sampling import (
    guided,
    most_similar,
    prior_scheduler,
    sample_embeddings,
)
from xray2ctpa_core.diffusion.schedulers import make_scheduler


def cosine_betas(steps: int) -> list[float]:
    """Nichol and Dhariwal, 2021, eq. 17, with s = 0.008 and betas of at most 0.999."""

    def kept(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - kept((i + 1) / steps) / kept(i / steps), 0.999) for i in range(steps)]


def test_the_released_schedule_is_the_cosine_one_of_64_levels() -> None:
    scheduler = prior_scheduler()
    betas = torch.tensor(cosine_betas(64), dtype=torch.float64)
    kept = torch.cumprod(1 - betas, 0)
    assert (scheduler.betas.double() - betas).abs().max() < 1e-6
    assert (scheduler.alphas_cumprod.double() - kept).abs().max() < 1e-6
    assert float(scheduler.alphas_cumprod[63]) == pytest.approx(5.9e-7, rel=0.02)


def test_ancestral_sampling_is_the_released_loop() -> None:
    prior = random_prior()
    conditioning = torch.randn(3, DIM)
    found = sample_embeddings(prior, prior_scheduler(8), conditioning, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    betas = torch.tensor(cosine_betas(8), dtype=torch.float64)
    kept = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    x = torch.randn(3, DIM, generator=generator)
    for t in reversed(range(8)):
        with torch.no_grad():
            clean = prior(x, torch.full((3,), t), conditioning)
        mean = (
            betas[t] * before[t].sqrt() / (1 - kept[t]) * clean
            + (1 - before[t]) * (1 - betas[t]).sqrt() / (1 - kept[t]) * x
        ).float()
        variance = float(betas[t] * (1 - before[t]) / (1 - kept[t]))
        x = mean if t == 0 else mean + variance**0.5 * torch.randn(3, DIM, generator=generator)
    assert found.shape == (3, 1, DIM)
    torch.testing.assert_close(found[:, 0], x, rtol=1e-4, atol=1e-4)


def test_ddim_needs_no_noise_and_few_steps() -> None:
    prior, conditioning = random_prior(), torch.randn(2, DIM)
    scheduler = make_scheduler("ddim", prior_scheduler(16))
    once, again = (
        sample_embeddings(prior, scheduler, conditioning, torch.Generator().manual_seed(1), steps=4)
        for _ in range(2)
    )
    assert torch.equal(once, again)
    assert len(scheduler.timesteps) == 4


def test_guidance_leads_away_from_the_null_prediction() -> None:
    prior, conditioning = random_prior(), torch.randn(2, DIM)
    sample, timestep, dropped = torch.randn(2, DIM), torch.tensor([3, 3]), torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        conditioned = prior(sample, timestep, conditioning)
        null = prior(sample, timestep, conditioning, drop_conditioning=dropped, drop_sample=dropped)
        found = guided(prior, conditioning, 2.5)(sample, timestep)
    torch.testing.assert_close(found, null + 2.5 * (conditioned - null), rtol=1e-4, atol=1e-4)


def test_draws_of_a_radiograph_differ_and_lie_side_by_side() -> None:
    prior, conditioning = random_prior(), torch.randn(2, DIM)
    drawn = sample_embeddings(
        prior, prior_scheduler(4), conditioning, torch.Generator().manual_seed(2), draws=3
    )
    assert drawn.shape == (2, 3, DIM)
    assert (drawn[:, 0] - drawn[:, 1]).abs().min(1).values.max() > 0


def test_the_draw_with_the_largest_cosine_is_the_best() -> None:
    drawn = torch.tensor([[[1.0, 0.0], [5.0, 5.0]], [[0.0, 1.0], [0.0, -3.0]]])
    best = most_similar(drawn, torch.tensor([[1.0, 1.0], [0.0, -1.0]]))
    assert best.tolist() == [[5.0, 5.0], [0.0, -3.0]]
