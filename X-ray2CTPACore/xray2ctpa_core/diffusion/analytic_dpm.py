"""Analytic-DPM (Bao et al., ICLR 2022): the optimal variance of a reverse step.

For a step from noise level r to s < r let a = abar_r / abar_s, b = 1 - a and bbar = 1 - abar (eq. 8; eq. 13
for DDIM). The variance depends on the data only through m_r, the mean square of the predicted noise at each
level, which is measured once.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from xray2ctpa_core.errors import InputError


def base_variance(kept_from: float, kept_to: float, eta: float = 1.0) -> float:
    """lambda^2 of the step between abar ``kept_from`` = abar_r and ``kept_to`` = abar_s: eta^2 b bbar_s /
    bbar_r. eta is 1 for DDPM, 0 for DDIM."""
    return eta**2 * (1 - kept_from / kept_to) * (1 - kept_to) / (1 - kept_from)


def analytic_variance(
    kept_from: float,
    kept_to: float,
    mean_square: float,
    eta: float = 1.0,
    largest_data_variance: float = np.inf,
) -> float:
    """The optimal variance sigma^2 of a step.

    Args:
        kept_from, kept_to: abar_r and abar_s, 0 < abar_r < abar_s <= 1.
        mean_square: m_r = E ||eps||^2 / d of the predicted noise at r.
        eta: of `base_variance`.
        largest_data_variance: largest variance of a dimension of the clean data, which bounds the variance of
            x0 given x_r (their code clips it to 1, for data in [-1, 1]).

    Returns:
        lambda^2 + (sqrt(abar_s) - sqrt((bbar_s - lambda^2) abar_r / bbar_r))^2 cov, where cov = bbar_r /
        abar_r (1 - m_r) is the mean variance of x0 given x_r. Equal to their equation 8.
    """
    base = base_variance(kept_from, kept_to, eta)
    noise_from, noise_to = 1 - kept_from, 1 - kept_to
    covariance = float(np.clip(noise_from / kept_from * (1 - mean_square), 0, largest_data_variance))
    slope = np.sqrt(kept_to) - np.sqrt(max(noise_to - base, 0.0) * kept_from / noise_from)
    return float(base + slope**2 * covariance)


@torch.no_grad()
def mean_square_of_noise(
    predict: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    clean: torch.Tensor,
    conditioning: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    generator: torch.Generator,
    draws: int = 1,
    batch_size: int = 256,
) -> tuple[float, ...]:
    """m_r of every noise level, by Monte Carlo over the training pairs (eq. 10).

    Args:
        predict: (noisy (B, E), timestep (B,), conditioning (B, F)) -> clean (B, E), scaled as ``clean``.
        clean: (N, E) of the training set, scaled as for the network.
        conditioning: (N, F) of the same pairs.
        alphas_cumprod: (T,).
        generator: of the noise, on the device of ``clean``.
        draws: draws of noise for each pair.
        batch_size: pairs in a batch.
    """
    found = []
    for timestep, kept in enumerate(alphas_cumprod.double().tolist()):
        total = 0.0
        for start in range(0, len(clean) * draws, batch_size):
            rows = torch.arange(start, min(start + batch_size, len(clean) * draws)) % len(clean)
            x0 = clean[rows]
            noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
            noisy = kept**0.5 * x0 + (1 - kept) ** 0.5 * noise
            times = torch.full((len(rows),), timestep, device=x0.device)
            guess = predict(noisy, times, conditioning[rows])
            total += float(((noisy - kept**0.5 * guess) / (1 - kept) ** 0.5).double().square().mean(1).sum())
        found.append(total / (len(clean) * draws))
    return tuple(found)


class AnalyticDPMScheduler(DDPMScheduler):
    """Ancestral sampling with the optimal variance, at evenly spaced noise levels.

    Args:
        num_train_timesteps, beta_schedule, beta_start, beta_end, trained_betas, prediction_type: as in
            DDPMScheduler; prediction_type is "sample" or "epsilon".
        mean_square: m_r of every timestep, from `mean_square_of_noise`.
        eta: 1 for DDPM's means and variances, 0 for DDIM's.
        largest_data_variance: of `analytic_variance`; None for no bound.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "squaredcos_cap_v2",
        trained_betas: Sequence[float] | None = None,
        prediction_type: str = "sample",
        mean_square: Sequence[float] = (),
        eta: float = 1.0,  # noqa: ARG002 - read from the configuration
        largest_data_variance: float | None = None,  # noqa: ARG002
        clip_sample: bool = False,
    ) -> None:
        super().__init__(
            num_train_timesteps=num_train_timesteps, beta_start=beta_start, beta_end=beta_end,
            beta_schedule=beta_schedule, trained_betas=trained_betas, clip_sample=False,
            prediction_type=prediction_type,
        )  # fmt: skip
        if len(mean_square) != num_train_timesteps or prediction_type not in ("sample", "epsilon"):
            raise InputError(
                f"Expected one mean square a timestep ({num_train_timesteps}) and prediction_type sample or "
                f"epsilon, got {len(mean_square)} and {prediction_type!r}.",
                "Measure them with mean_square_of_noise.",
            )
        if clip_sample:
            raise InputError("Analytic-DPM's variances hold for samples that are not clipped.")

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """K evenly spaced steps from the first noise level to the last: round(k (N - 1) / (K - 1))."""
        most = self.config["num_train_timesteps"]
        if not 1 <= num_inference_steps <= most:
            raise InputError(f"Expected 1 to {most} steps, got {num_inference_steps}.")
        chosen = (
            np.linspace(0, most - 1, num_inference_steps).round() if num_inference_steps > 1 else [most - 1]
        )
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(np.array(chosen, dtype=np.int64)[::-1].copy()).to(device)

    def step_variance(self, timestep: int) -> float:
        """sigma^2 of the step from ``timestep``, one of ``timesteps``, to the next; 0 for the last one."""
        kept_from, kept_to = self._levels(timestep)
        if kept_to == 1:
            return 0.0
        largest = self.config["largest_data_variance"]
        return analytic_variance(
            kept_from,
            kept_to,
            self.config["mean_square"][timestep],
            self.config["eta"],
            np.inf if largest is None else largest,
        )

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """x_r -> x_s: the mean of DDIM (Song et al., ICLR 2021, eq. 12, with lambda) and the analytic
        variance; no noise in the last step."""
        number = int(timestep)
        kept_from, kept_to = self._levels(number)
        signal, noise = kept_from**0.5, (1 - kept_from) ** 0.5
        if self.config["prediction_type"] == "sample":
            clean, epsilon = model_output, (sample - signal * model_output) / noise
        else:
            clean, epsilon = (sample - noise * model_output) / signal, model_output
        base = base_variance(kept_from, kept_to, self.config["eta"])
        previous = kept_to**0.5 * clean + max(1 - kept_to - base, 0.0) ** 0.5 * epsilon
        variance = self.step_variance(number)
        if variance > 0:
            drawn = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            previous = previous + variance**0.5 * drawn
        if not return_dict:
            return previous, clean
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=clean)

    def _levels(self, timestep: int) -> tuple[float, float]:
        """The abar of ``timestep`` and of the one that follows it; 1 after the last."""
        place = int((self.timesteps.cpu() == timestep).nonzero()[0, 0])
        # In double precision: where abar is nearly 1, 1 - abar of alphas_cumprod has lost digits.
        kept = (1 - self.betas.double()).cumprod(0)
        later = 1.0 if place + 1 == len(self.timesteps) else float(kept[int(self.timesteps[place + 1])])
        return float(kept[timestep]), later
