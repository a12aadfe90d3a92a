"""The denoiser of a bank of atlases: whose tissue a sample has, and how its map departs from the expected."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.encoders.bank_encoder import BASIS_NODES
from xray2ctpa_core.models.protocols import Conditioning, embedding_of


class _Residual(nn.Module):
    """Two layers, of which the second is modulated by the condition (FiLM)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.condition = nn.Linear(width, 2 * width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.condition(condition).chunk(2, 1)
        return x + self.outer(functional.silu(self.inner(self.norm(x) * (1 + scale) + shift)))


class BankDenoiser(ModelMixin, ConfigMixin):
    """Predicts noise, sample or velocity of a few numbers, from time and a radiograph.

    A sample is a person of the bank, as analog bits, and the numbers by which the map departs from the
    expected one along its open components: the principal components of what drawn patients' maps are about
    what the encoder expects of them, each scaled by its standard deviation. Diffused on a grid instead, a
    change of the whole body has almost no noise, and is hardly drawn at all.

    Args:
        latent_channels: people of the bank.
        components: open components of the map.
        embedding_dim: length of the radiograph encoder's embedding.
        width: of the layers.
        blocks: their number.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        components: int = 16,
        embedding_dim: int = 137,
        width: int = 128,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.map_parts: torch.Tensor
        self.embedding_mean: torch.Tensor
        self.embedding_std: torch.Tensor
        self.register_buffer("map_parts", torch.zeros(components, 3, *(BASIS_NODES,) * 3))
        self.register_buffer("embedding_mean", torch.zeros(embedding_dim))
        self.register_buffer("embedding_std", torch.ones(embedding_dim))
        self.time_proj = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(64, width)
        self.embedding = nn.Linear(embedding_dim, width)
        self.enter = nn.Linear(latent_channels + components, width)
        self.layers = nn.ModuleList(_Residual(width) for _ in range(blocks))
        self.leave = nn.Linear(width, latent_channels + components)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @property
    def diffused_shape(self) -> tuple[int, int, int, int]:
        """(C, 1, 1, 1): the people, then the components."""
        return self.config["latent_channels"] + self.config["components"], 1, 1, 1

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> torch.Tensor:
        """Args:
            sample: (B, *diffused_shape), noisy.
            timestep: (B,) in [0, num_train_timesteps).
            conditioning: its embedding (B, embedding_dim), or that alone.

        Returns:
            As ``sample``.
        """
        embedding = (embedding_of(conditioning) - self.embedding_mean) / self.embedding_std
        embedding = embedding.to(sample.dtype)
        time = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        condition = functional.silu(time + self.embedding(embedding))
        x = self.enter(sample.flatten(1))
        for block in self.layers:
            x = block(x, condition)
        return self.leave(functional.silu(x)).view_as(sample)
