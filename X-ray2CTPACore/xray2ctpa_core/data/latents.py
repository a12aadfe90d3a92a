"""Statistics of encoded latents: mean, deviation and weight of each channel."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.data.settings import ScalingConfig
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, min_max_scaling

STATISTICS_FILE = "statistics.json"


class RunningMoments:
    """Mean and standard deviation of each channel over any number of latents, added one at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: np.ndarray | None = None
        self._squares: np.ndarray | float = 0.0

    def add(self, latents: np.ndarray) -> None:
        """Adds latents (C, D, H, W); Chan, Golub and LeVeque (1983), eq. 2.1."""
        values = latents.reshape(len(latents), -1).astype(np.float64)
        count, mean = values.shape[1], values.mean(1)
        squares = ((values - mean[:, None]) ** 2).sum(1)
        if self._mean is None:
            self._mean = np.zeros_like(mean)
        change, total = mean - self._mean, self._count + count
        self._squares = self._squares + squares + change**2 * self._count * count / total
        self._mean = self._mean + change * count / total
        self._count = total

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel; raises ValueError where nothing was added."""
        if self._mean is None:
            raise ValueError("Expected latents, got none.")
        return self._mean.tolist(), np.sqrt(self._squares / self._count).tolist()


def moments_of(latents: Iterable[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of all ``latents``, each (C, D, H, W)."""
    moments = RunningMoments()
    for values in latents:
        moments.add(values)
    return moments.mean_and_std()


def read_statistics(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, each (1, C, 1, 1, 1)."""
    values = json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))
    mean, std = (torch.tensor(values[key]).reshape(1, -1, 1, 1, 1) for key in ("mean", "std"))
    return mean, std


def read_channel_weights(folder: Path) -> torch.Tensor:
    """Loss weight of each latent channel, (1, C, 1, 1, 1), mean 1: its effect on the decoded slice.

    All standardised channels have variance 1, but some encode anatomy and others only faint texture.
    """
    gains = torch.tensor(json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))["gain"])
    return (gains / gains.mean()).reshape(1, -1, 1, 1, 1)


def latent_scaling(config: ScalingConfig, folder: Path) -> LatentScaling:
    """The scaling of the latents in ``folder`` that ``config`` specifies."""
    mean, std = read_statistics(folder)
    if config.scaling == "standardised":
        return LatentScaling(tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))
    return min_max_scaling(config.latent_low, config.latent_high, config.latent_factor, mean.numel())


def standardised(folder: Path) -> LatentScaling:
    """Scaling by the statistics in ``folder``."""
    return latent_scaling(ScalingConfig(), folder)
