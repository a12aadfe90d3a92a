"""Analytic-DPM on Gaussians, where the optimal variance is known: that of x_s given x_r."""

import itertools

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.diffusion.analytic_dpm import (
    AnalyticDPMScheduler,
    analytic_variance,
    base_variance,
    mean_square_of_noise,
)
from xray2ctpa_core.diffusion.embedding_sampling import prior_scheduler
from xray2ctpa_core.errors import InputError

LEVELS = [(0.1, 0.5), (0.5, 0.9), (1e-4, 0.3), (0.98, 0.999)]


def gaussian_mean_square(kept: float, variance: float) -> float:
    """m of data N(0, variance I): the posterior mean of the noise has this mean square."""
    return (1 - kept) / (kept * variance + 1 - kept)


def gaussian_step_variance(kept_from: float, kept_to: float, variance: float) -> float:
    """Var(x_s | x_r): x_s and x_r are jointly Gaussian, x_r = sqrt(a) x_s + sqrt(1 - a) noise."""
    a = kept_from / kept_to
    marginal = kept_to * variance + 1 - kept_to
    return marginal - a * marginal**2 / (a * marginal + 1 - a)


@pytest.mark.parametrize("variance", [0.25, 1.0, 9.0])
@pytest.mark.parametrize(("kept_from", "kept_to"), LEVELS)
def test_the_variance_of_a_gaussian_is_exact(kept_from: float, kept_to: float, variance: float) -> None:
    found = analytic_variance(kept_from, kept_to, gaussian_mean_square(kept_from, variance))
    assert found == pytest.approx(gaussian_step_variance(kept_from, kept_to, variance), rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("kept_from", "kept_to"), LEVELS)
def test_both_forms_of_the_paper_agree(kept_from: float, kept_to: float, eta: float) -> None:
    m, base = 0.8, base_variance(kept_from, kept_to, eta)
    a, noise_from, noise_to = kept_from / kept_to, 1 - kept_from, 1 - kept_to
    expected = base + (np.sqrt(noise_from / a) - np.sqrt(noise_to - base)) ** 2 * (1 - m)
    assert analytic_variance(kept_from, kept_to, m, eta) == pytest.approx(expected, rel=1e-9)


def test_noise_that_is_found_whole_leaves_the_smallest_variance_and_data_bound_it() -> None:
    assert analytic_variance(0.1, 0.5, 1.0) == pytest.approx(base_variance(0.1, 0.5))
    assert analytic_variance(0.1, 0.5, 1.2) == pytest.approx(base_variance(0.1, 0.5))
    slope = np.sqrt(0.5) * (1 - 0.1 / 0.5) / (1 - 0.1)  # sqrt(abar_s) b / bbar_r
    bounded = analytic_variance(0.1, 0.5, 0.0, largest_data_variance=2.0)
    assert bounded == pytest.approx(base_variance(0.1, 0.5) + 2.0 * slope**2)


def exact_prior(schedule: DDPMScheduler, variance: float):
    """E(x0 | x_t) of data N(0, variance I)."""

    def predict(noisy: torch.Tensor, timestep: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        kept = schedule.alphas_cumprod.to(noisy)[timestep][:, None]
        return kept.sqrt() * variance * noisy / (kept * variance + 1 - kept)

    return predict


def test_the_mean_square_measured_on_a_gaussian_is_its_closed_form() -> None:
    schedule = prior_scheduler(8)
    generator = torch.Generator().manual_seed(1)
    clean = 2 * torch.randn(4000, 8, generator=generator, dtype=torch.float64)
    found = mean_square_of_noise(exact_prior(schedule, 4.0), clean, clean, schedule.alphas_cumprod, generator)
    expected = [gaussian_mean_square(kept, 4.0) for kept in schedule.alphas_cumprod.tolist()]
    assert np.allclose(found, expected, rtol=0.03)
    assert len(found) == 8


def cosine_levels(timesteps: int) -> list[float]:
    """abar of every timestep (Nichol and Dhariwal, 2021, eq. 17, with betas of at most 0.999)."""
    part = (np.arange(timesteps + 1) / timesteps + 0.008) / 1.008
    level = np.cos(part * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999)).tolist()


def analytic(timesteps: int, variance: float, **changes: object) -> AnalyticDPMScheduler:
    mean_square = [gaussian_mean_square(kept, variance) for kept in cosine_levels(timesteps)]
    return AnalyticDPMScheduler(timesteps, mean_square=mean_square, **changes)


def test_64_strided_steps_of_1000_go_from_the_last_level_to_the_first() -> None:
    scheduler = analytic(1000, 1.0)
    scheduler.set_timesteps(64)
    chosen = scheduler.timesteps.tolist()
    assert (len(chosen), chosen[0], chosen[-1]) == (64, 999, 0)
    assert chosen[1] == 999 - round(999 / 63)
    variances = [scheduler.step_variance(t) for t in chosen]
    kept = cosine_levels(1000)
    expected = [gaussian_step_variance(kept[r], kept[s], 1.0) for r, s in itertools.pairwise(chosen)]
    assert variances[:-1] == pytest.approx(expected, rel=1e-6)
    assert variances[-1] == 0


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_few_steps_keep_the_variance_of_the_data(eta: float) -> None:
    """Exact variances make every marginal exact for eta 1; ancestral sampling loses variance in 6 steps."""
    scheduler = analytic(1000, 4.0, eta=eta)
    predict = exact_prior(scheduler, 4.0)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20_000, 4, generator=generator)
    scheduler.set_timesteps(6)
    for timestep in scheduler.timesteps:
        guess = predict(x, timestep.expand(len(x)), x)
        x = scheduler.step(guess, timestep, x, generator=generator).prev_sample
    if eta:
        assert float(x.var()) == pytest.approx(4.0, rel=0.03)
    else:
        assert float(x.var()) == pytest.approx(4.0, rel=0.25)


def test_all_steps_with_the_smallest_variance_are_ddpms() -> None:
    ancestral = prior_scheduler(16)
    scheduler = AnalyticDPMScheduler(16, mean_square=[1.0] * 16)
    x, guess = torch.randn(3, 5), torch.randn(3, 5)
    for each in (ancestral, scheduler):
        each.set_timesteps(16)
    assert scheduler.timesteps.tolist() == ancestral.timesteps.tolist()
    for timestep in (15, 7, 1, 0):
        found, expected = (
            each.step(guess, timestep, x, generator=torch.Generator().manual_seed(4)).prev_sample
            for each in (scheduler, ancestral)
        )
        assert torch.allclose(found, expected, atol=1e-5)


def test_it_is_saved_and_read_with_what_was_measured(tmp_path) -> None:
    scheduler = analytic(8, 4.0, eta=0.5, largest_data_variance=5.0)
    scheduler.save_pretrained(tmp_path)
    again = AnalyticDPMScheduler.from_pretrained(tmp_path)
    for each in (scheduler, again):
        each.set_timesteps(4)
    timesteps = scheduler.timesteps.tolist()
    assert [again.step_variance(t) for t in timesteps] == [scheduler.step_variance(t) for t in timesteps]


def test_a_wrong_number_of_mean_squares_is_refused() -> None:
    with pytest.raises(InputError, match="one mean square a timestep"):
        AnalyticDPMScheduler(8, mean_square=[1.0] * 7)
