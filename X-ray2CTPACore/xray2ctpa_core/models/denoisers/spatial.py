"""The spatial denoiser: a 3D U-Net on latents, conditioned on an embedding and on lifted features."""

import itertools

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.convolution import Conv3d
from xray2ctpa_core.models.protocols import Conditioning, embedding_of

#: (D, H, W) cells of latents that are folded into one voxel of the U-Net, whose voxels are fewer and wider.
PATCH = (2, 2, 2)


class _Residual(nn.Module):
    """Residual block whose second normalisation is modulated by the condition (FiLM)."""

    def __init__(self, channels_in: int, channels_out: int, condition: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = Conv3d(channels_in, channels_out, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * channels_out)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = Conv3d(channels_out, channels_out, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = Conv3d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.condition(condition)[:, :, None, None, None].chunk(2, 1)
        h = functional.silu(self.norm2(h) * (1 + scale) + shift)
        return self.shortcut(x) + self.conv2(h)


class _Attention(nn.Module):
    """Self-attention over all voxels of the coarsest level."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(attended).transpose(1, 2).unflatten(2, x.shape[2:])


class SpatialDenoiser(ModelMixin, ConfigMixin):
    """Predicts noise, sample or velocity, as the scheduler's prediction_type says, from noisy latents, time
    and a radiograph.

    `global` conditioning is the papers' (one embedding; X-ray2CTPA, eq. 5); `spatial` adds features lifted
    along the rays, concatenated to the noisy latents.

    Args:
        latent_channels: C of the latents.
        spatial_channels: channels of the lifted features; 0 makes the `global` denoiser.
        embedding_dim: length of the radiograph embedding.
        channels: widths of the levels, multiples of 8; each level halves all axes.
        condition_dim: width of the time and embedding condition.
        residual_std: for each channel, standard deviation of the latents about the radiograph encoder's
            expectation; this residual, scaled to a deviation of 1, is diffused (diffusion.residual). None:
            the latents themselves are diffused.
        map_std: for each axis (x, y, z), standard deviation of the map into the encoder's atlas about its
            expectation; changes of the map are diffused as further channels. None: they are not.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        spatial_channels: int = 8,
        embedding_dim: int = 512,
        channels: tuple[int, ...] = (96, 128, 160),
        condition_dim: int = 256,
        residual_std: tuple[float, ...] | None = None,
        map_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if any(c % 8 for c in channels):
            raise ValueError(f"channels must be multiples of 8, got {channels}.")
        if map_std is not None and residual_std is None:
            raise ValueError("map_std needs residual_std beside it.")
        diffused = latent_channels + len(map_std or ())
        self.time_proj = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(64, condition_dim)
        self.embedding = nn.Linear(embedding_dim, condition_dim)
        self.enter = Conv3d(diffused + spatial_channels, channels[0], PATCH, PATCH)
        self.first = _Residual(channels[0], channels[0], condition_dim)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(Conv3d(a, b, 2, 2) for a, b in pairs)
        self.down_blocks = nn.ModuleList(_Residual(b, b, condition_dim) for _, b in pairs)
        self.attention = _Attention(channels[-1])
        self.middle = _Residual(channels[-1], channels[-1], condition_dim)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in reversed(pairs))
        self.up_blocks = nn.ModuleList(_Residual(2 * a, a, condition_dim) for a, _ in reversed(pairs))
        self.last = _Residual(channels[0], channels[0], condition_dim)
        self.leave_norm = nn.GroupNorm(8, channels[0])
        self.leave = nn.ConvTranspose3d(channels[0], diffused, PATCH, PATCH)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @property
    def diffused_channels(self) -> int:
        """Number of channels that are diffused."""
        return self.config["latent_channels"] + len(self.config["map_std"] or ())

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning | torch.Tensor,
    ) -> torch.Tensor:
        """Args:
            sample: (B, diffused_channels, D, H, W), noisy.
            timestep: (B,) in [0, num_train_timesteps).
            conditioning: its embedding (B, embedding_dim), or that alone; and its spatial features
                (B, spatial_channels, D, H, W), unless spatial_channels is 0.

        Returns:
            As ``sample``.
        """
        x, embedding = sample, embedding_of(conditioning)
        if self.config["spatial_channels"]:
            spatial = conditioning.spatial if isinstance(conditioning, Conditioning) else None
            if spatial is None:
                raise ValueError("A spatial denoiser needs a conditioning with spatial features, got none.")
            x = torch.cat([sample, spatial], 1)
        time = self.time_embedding(self.time_proj(timestep).to(embedding.dtype))
        condition = functional.silu(time + self.embedding(embedding))
        x = self.first(self.enter(x), condition)
        skips = [x]
        for down, block in zip(self.down, self.down_blocks, strict=True):
            x = block(down(x), condition)
            skips.append(x)
        x = self.middle(self.attention(skips.pop()), condition)
        for up, block in zip(self.up, self.up_blocks, strict=True):
            x = block(torch.cat([up(x), skips.pop()], 1), condition)
        x = self.last(x, condition)
        return self.leave(functional.silu(self.leave_norm(x)))
