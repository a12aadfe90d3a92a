"""Samplers recover a known distribution, and a sample does not depend on how many others are drawn."""

from collections.abc import Callable

import pytest
import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.diffusion.sampling import clipped_epsilon, initial_noise, sample_latents, signal_and_noise
from xray2ctpa_core.diffusion.schedulers import FEW_STEP, SCHEDULERS, make_scheduler
from xray2ctpa_core.errors import InputError

MEAN, SD = 1.5, 0.5


def trained(prediction_type: str) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction_type)


def exact_model(scheduler: DDPMScheduler, scaled_by_sigma: bool = False):  # type: ignore[no-untyped-def]
    """The best possible prediction for data N(MEAN, SD^2): E[x0 | x_t] in closed form."""

    def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        position = timestep[0].float()
        low = position.floor().long().clamp(0, 999)
        alpha_bar = scheduler.alphas_cumprod[low]
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x0 = MEAN + a * SD**2 / (a**2 * SD**2 + s**2) * (sample - a * MEAN)
        noise = (sample - a * x0) / s
        return a * noise - s * x0 if scheduler.config["prediction_type"] == "v_prediction" else noise

    return model


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {FEW_STEP}))
@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_every_scheduler_recovers_a_gaussian(name: str, prediction_type: str) -> None:
    base = trained(prediction_type)
    noise, generator = initial_noise((1, 16, 16, 16), 3, 0, torch.device("cpu"))
    steps = 200 if name == "ddpm" else 40
    result = sample_latents(exact_model(base), make_scheduler(name, base), noise, steps, generator)
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.06)
    assert float(result.std()) == pytest.approx(SD, abs=0.06)


@pytest.mark.parametrize("steps", [1, 2, 4, 25])
def test_a_few_steps_of_a_consistency_model_recover_a_gaussian(steps: int) -> None:
    """The exact one says where the deterministic trajectory through a point ends."""
    base = trained("v_prediction")

    def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        alpha_bar = base.alphas_cumprod[timestep[0]]
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        end = MEAN + SD * (sample - a * MEAN) / (a**2 * SD**2 + s**2).sqrt()
        return (a * sample - end) / s

    noise, generator = initial_noise((1, 16, 16, 16), 3, 0, torch.device("cpu"))
    result = sample_latents(model, make_scheduler(FEW_STEP, base), noise, steps, generator)
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(result.std()) == pytest.approx(SD, abs=0.03)


def test_an_unknown_scheduler_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dpm\+\+"):
        make_scheduler("heun9000", trained("epsilon"))


def test_noise_depends_on_seed_and_sample_alone() -> None:
    device = torch.device("cpu")
    first, _ = initial_noise((2, 3), 5, 0, device)
    again, _ = initial_noise((2, 3), 5, 0, device)
    other_sample, _ = initial_noise((2, 3), 5, 1, device)
    third, _ = initial_noise((2, 3), 5, 2, device)
    other_seed, _ = initial_noise((2, 3), 6, 0, device)
    assert torch.equal(first, again)
    assert torch.equal(first, -other_sample)  # antithetic pairs
    assert not torch.equal(first.abs(), third.abs())
    assert not torch.equal(first.abs(), other_seed.abs())


def test_each_step_is_reported() -> None:
    base = trained("v_prediction")
    noise, generator = initial_noise((1, 4, 4, 4), 0, 0, torch.device("cpu"))
    seen: list[int] = []
    sample_latents(
        exact_model(base),
        make_scheduler("dpm++", base),
        noise,
        5,
        generator,
        lambda step, _timestep, latents, _estimate: seen.append(step) or latents,
    )
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_step_reads_what_lies_on_the_device(name: str) -> None:
    """Which on a GPU would wait for all that was asked of it. Tensors of the device meta cannot be read."""
    base = trained("epsilon")
    estimates: list[torch.Tensor] = []

    def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        assert (timestep.device.type, tuple(timestep.shape)) == ("meta", (2,))
        return clipped_epsilon(base, sample, 0.1 * sample, timestep, 1.0)

    def on_step_end(
        _step: int, _timestep: object, latents: torch.Tensor, estimate: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        estimates.append(estimate())
        return latents

    noise = torch.randn(2, 1, 2, 4, 4, device="meta")
    result = sample_latents(model, make_scheduler(name, base), noise, 4, torch.Generator(), on_step_end)
    assert (result.device.type, result.shape) == ("meta", noise.shape)
    assert [e.device.type for e in estimates] == ["meta"] * 4


def test_signal_and_noise_are_those_of_the_schedule_on_the_timesteps_device() -> None:
    scheduler = trained("epsilon")
    signal, noise = signal_and_noise(scheduler, torch.tensor([0, 500]))
    kept = scheduler.alphas_cumprod.double()
    assert torch.equal(signal.flatten(), torch.stack([kept[0], kept[500]]).sqrt())
    assert torch.allclose(signal**2 + noise**2, torch.ones(2, 1, 1, 1, 1).double(), atol=1e-15)
    assert signal_and_noise(scheduler, torch.tensor(3, device="meta"))[0].device.type == "meta"
