"""Scaling of latents before noise is added, and its inverse: one affine map for each channel. The dimensions
of an embedding count as channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from xray2ctpa_core import config
from xray2ctpa_core.errors import ConfigError

#: File beside the weights of a network that reads scaled latents.
SCALING_FILE = "latent_scaling.json"


@dataclass(frozen=True)
class LatentScaling:
    """Scaled = (latents - shift) / scale, channel by channel.

    Attributes:
        shift, scale: (C,), in units of the autoencoder's latents.
        clip: whether scaled latents are clipped to [-1, 1], as in the released code.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    clip: bool = False

    def __post_init__(self) -> None:
        if len(self.shift) != len(self.scale) or not self.scale or min(self.scale) <= 0:
            raise ConfigError(f"Expected a shift and a positive scale for each channel, got {self}.")

    def apply(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, D, H, W) of the autoencoder, or embeddings (B, C), -> scaled ones."""
        scaled = (latents - _channels(self.shift, latents)) / _channels(self.scale, latents)
        return scaled.clamp(-1, 1) if self.clip else scaled

    def invert(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, C, D, H, W) or embeddings (B, C) -> original ones."""
        return scaled * _channels(self.scale, scaled) + _channels(self.shift, scaled)


def min_max_scaling(low: float, high: float, factor: float, channels: int) -> LatentScaling:
    """The papers' scaling: ``low`` becomes -1 and ``high`` 1 in all channels; values beyond are clipped.

    Args:
        low, high: of the latents times ``factor``; the release has (-12.911299, 9.596558) for CTPA and
            (-8.749182, 8.710065) for RSPECT.
        factor: the autoencoder's scaling factor, by which the release multiplies first (0.18215).
        channels: C.

    Raises:
        ConfigError: high is not above low, or factor not positive.
    """
    if high <= low or factor <= 0:
        raise ConfigError(f"Expected low < high and factor > 0, got {low}, {high}, {factor}.")
    middle, half = (high + low) / 2 / factor, (high - low) / 2 / factor
    return LatentScaling((middle,) * channels, (half,) * channels, clip=True)


def standardised(embeddings: torch.Tensor) -> LatentScaling:
    """Scaling to mean 0 and deviation 1 in each dimension of embeddings (N, E); constant dimensions are only
    shifted."""
    deviation = embeddings.double().std(0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    return LatentScaling(tuple(embeddings.double().mean(0).tolist()), tuple(scale.tolist()))


def _channels(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values).to(like).reshape(1, -1, *(1,) * (like.ndim - 2))


def save_scaling(scaling: LatentScaling, folder: Path) -> None:
    """Writes the scaling beside the network in ``folder`` that was trained with it."""
    config.save(scaling, Path(folder) / SCALING_FILE)


def load_scaling(folder: Path) -> LatentScaling:
    """The scaling that the network in ``folder`` was trained with; raises ConfigError where it has none."""
    return config.load(LatentScaling, Path(folder) / SCALING_FILE)
